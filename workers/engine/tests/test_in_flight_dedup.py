"""Identical samples in flight run once; nobody's end, wish or urgency is lost by it."""

from dataclasses import fields, replace

import numpy as np
import pytest

from generation.catalogue.parameters import Parameters
from workers.engine import Cancelled, Engine, Failed, Finished, Progress
from workers.engine.batching.in_flight_dedup import InFlightDedup
from workers.engine.errors import InvalidSample, ModelUnavailable
from workers.engine.requests import LoraUse, SampleId
from workers.engine.tests.driving import Run, run_to_end, sample


def identical(count, **changes):
    return [sample(cache=True, **changes) for _ in range(count)]


def forward_passes(model, run):
    """Counts the rows of each forward pass while `run` is called."""
    heavy, rows = model.heavy["unet"], []
    real = heavy.run

    def counted(**arguments):
        rows.append(len(arguments["sample"]))
        return real(**arguments)

    heavy.run = counted
    try:
        return run(), rows
    finally:
        heavy.run = real


def test_identical_samples_in_flight_run_once_and_all_get_the_picture(mini_pool):
    requests = [*identical(3), sample(cache=True, seed=8)]
    run, rows = forward_passes(mini_pool.get("mini@1"), lambda: run_to_end(Engine(mini_pool), requests))
    assert rows == [4, 4, 4]  # two samples with guidance, for four requests
    assert all(np.array_equal(run.images[one.sample_id], run.images[requests[0].sample_id]) for one in requests[:3])
    assert not np.array_equal(run.images[requests[3].sample_id], run.images[requests[0].sample_id])
    assert all(run.progress(one.sample_id) == [(1, 3), (2, 3), (3, 3)] for one in requests)


def test_without_leave_every_sample_runs(mini_pool):
    requests = [sample(), sample(), sample(cache=True), sample(cache=True, alone=True)]
    run, rows = forward_passes(mini_pool.get("mini@1"), lambda: run_to_end(Engine(mini_pool), requests))
    assert sum(rows) == 2 * 3 * len(requests)
    assert run.images.keys() == {one.sample_id for one in requests}


def test_a_sample_that_waits_for_one_that_is_cancelled_runs_itself(mini_pool):
    first, second, third = identical(3)
    engine, run = Engine(mini_pool), Run()
    for request in (first, second, third):
        engine.admit(request)
    run.take(engine.step())
    engine.cancel(first.sample_id)
    engine.cancel(third.sample_id)
    run.take(engine.step())
    rest = run_to_end(engine)
    assert run.cancelled | rest.cancelled == {first.sample_id, third.sample_id}
    assert rest.images.keys() == {second.sample_id}
    assert engine.idle
    assert engine.running() == []


def test_those_that_wait_for_an_identical_one_take_no_room(mini_pool):
    engine = Engine(mini_pool)
    before = engine.room("mini@1", 64, 64, 2)
    for request in identical(5):
        engine.admit(request)
    assert engine.room("mini@1", 64, 64, 2) == before - 1
    assert len(engine.running()) == 5
    engine.discard_all()
    assert engine.running() == []


def test_a_more_urgent_sample_does_not_wait_for_a_less_urgent_one():
    dedup = InFlightDedup()
    normal, urgent, later = (sample(cache=True, priority=priority) for priority in (2, 0, 2))
    assert [dedup.join_or_lead(request) for request in (normal, urgent, later)] == [False, False, True]
    picture = np.zeros((2, 2, 3), np.float32)
    assert dedup.fan_out(Finished(normal.sample_id, picture))[0] == [Finished(normal.sample_id, picture)]
    assert [event.sample_id for event in dedup.fan_out(Finished(urgent.sample_id, picture))[0]] == [
        urgent.sample_id,
        later.sample_id,
    ]


@pytest.mark.parametrize("error", [InvalidSample("no"), ModelUnavailable("not now")])
def test_a_fault_of_the_request_is_the_fault_of_all_and_another_is_not(error):
    dedup, (first, second, third) = InFlightDedup(), identical(3)
    for request in (first, second, third):
        dedup.join_or_lead(request)
    events, again = dedup.fan_out(Failed(first.sample_id, error, error.retryable))
    if error.retryable:
        assert [event.sample_id for event in events] == [first.sample_id]
        assert again == [second, third]
        assert [dedup.join_or_lead(request) for request in again] == [False, True]
    else:
        assert [event.sample_id for event in events] == [first.sample_id, second.sample_id, third.sample_id]
        assert again == []


def test_previews_go_to_those_who_asked_for_them():
    dedup, first = InFlightDedup(), sample(cache=True, preview_every=1)
    second = replace(first, sample_id=SampleId("b", 0), preview_every=0)
    third = replace(first, sample_id=SampleId("c", 0))
    for request in (first, second, third):
        dedup.join_or_lead(request)
    picture = np.zeros((2, 2, 3), np.uint8)
    events, _ = dedup.fan_out(Progress(first.sample_id, 1, 3, picture))
    assert [event.preview is None for event in events] == [False, True, False]


def test_an_end_nobody_waits_for_is_passed_on():
    gone = Cancelled(SampleId("a", 0))
    assert InFlightDedup().fan_out(gone) == ([gone], [])


PICTURE = np.zeros((64, 64, 3), np.uint8)
DECISIVE = {
    "kind": "img2img", "text": "other", "negative_text": "other", "width": 72, "height": 72, "steps": 4,
    "cfg_scale": 4.5, "sampler": "ddim", "seed": 8, "strength": 0.5, "control_type": "depth", "control_scale": 0.5,
    "control_start": 0.1, "control_end": 0.9, "control_ready": True, "deterministic": True,
}  # fmt: skip
INDIFFERENT = {
    "num_images": 2, "style": "other", "image_key": "other", "mask_key": "other", "control_key": "other",
    "postprocess": {"format": "png"}, "style_tone": {"saturation": 2}, "plan_watermark": {"text": "x"},
    "preview": True, "cache": True, "check_images": True, "lowered_from": "2048x2048", "schema": 0,
    "translated_text": "a tree", "translated_negative_text": "fog",
}  # fmt: skip


def test_every_parameter_is_known_to_decide_the_pixels_or_not():
    assert {*DECISIVE, *INDIFFERENT, "loras"} == {field.name for field in fields(Parameters)}


@pytest.mark.parametrize(
    "change",
    [
        *({name: value} for name, value in DECISIVE.items()),
        {"kind": "controlnet_img2img"}, {"sample_id": SampleId("x", 1)}, {"model": "mini@2"},
        {"image": PICTURE}, {"image": PICTURE + 1}, {"mask": PICTURE[:, :, 0]}, {"control_image": PICTURE},
        {"loras": (LoraUse("a" * 64, "x", 1.0),)}, {"loras": (LoraUse("a" * 64, "x", 0.5),)},
    ],
)  # fmt: skip
def test_whatever_changes_the_pixels_changes_the_identity(change):
    assert sample(**change).identity != sample().identity


@pytest.mark.parametrize(
    "change",
    [
        *({name: value} for name, value in INDIFFERENT.items()),
        {"sample_id": SampleId("other", 0)}, {"priority": 0}, {"alone": True}, {"arrived": 9.0},
        {"preview_every": 5}, {"returned": 1},
    ],
)  # fmt: skip
def test_nothing_else_changes_it(change):
    assert sample(**change).identity == sample().identity


def test_a_tasks_second_picture_is_the_first_of_the_next_seed():
    assert sample(seed=7, sample_id=SampleId("x", 1)).identity == sample(seed=8).identity


def test_where_files_lie_does_not_change_the_identity():
    one, other = sample(loras=(LoraUse("a" * 64, "x", 1.0),)), sample(loras=(LoraUse("a" * 64, "y", 1.0),), priority=0)
    assert one.sample_id != other.sample_id
    assert one.identity == other.identity
    assert sample(image=PICTURE).identity == sample(image=PICTURE.copy()).identity != sample(image=PICTURE + 1).identity
