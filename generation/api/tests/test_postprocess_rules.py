"""What plan and operator decide about post-processing, whatever a request says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from fixtures.rows import finish
from generation.accounts.models import Plan, User
from generation.api.tests.test_api import client, faults, post  # noqa: F401  # a fixture
from generation.catalogue.parameters import Parameters
from generation.tasks.models import Task
from postprocessing.recipe import Recipe
from postprocessing.watermark_form import TextMark

MARK = {"kind": "text", "text": "preview", "tile": True}


def recipe(task: Task) -> Recipe:
    parameters = Parameters.from_json(task.params)
    return Recipe.from_json(dict(parameters.postprocess)).marked(parameters.plan_watermark)


@pytest.fixture
def marking(seeded: None) -> Plan:
    plan = Plan.objects.get(name="paid")
    plan.watermark = MARK
    plan.save()
    return plan


def test_a_plan_puts_its_mark_over_the_marks_of_the_request(client: Client, marking: Plan) -> None:  # noqa: F811
    own = [{"kind": "qr", "text": "shop"}] * 4
    assert post(client, {"text": "x", "params": {"postprocess": {"watermark": own}}}).status_code == 202
    assert post(client, {"text": "x"}).status_code == 202
    crowded, plain = Task.objects.order_by("id")
    assert len(recipe(crowded).watermarks) == 5
    for task in (crowded, plain):
        last = recipe(task).watermarks[-1]
        assert isinstance(last, TextMark)
        assert (last.text, last.place.tile) == ("preview", True)


def test_a_repeat_of_an_older_task_gets_the_mark_too(client: Client, marking: Plan) -> None:  # noqa: F811
    marking.watermark = None
    marking.save()
    assert post(client, {"text": "x"}).status_code == 202
    first = finish(Task.objects.get())
    assert recipe(first).watermarks == ()
    marking.watermark = MARK
    marking.save()
    again = client.post(f"/api/v1/image/task/{first.public_id}/retry")
    assert again.status_code == 202, again.content
    assert len(recipe(Task.objects.latest("id")).watermarks) == 1


def test_a_plan_cannot_be_saved_with_a_mark_that_could_not_be_drawn(marking: Plan) -> None:
    marking.watermark = {"kind": "text", "text": "", "size": 7}
    with pytest.raises(ValidationError) as caught:
        marking.full_clean()
    assert "size" in str(caught.value.message_dict["watermark"])


def test_super_resolution_needs_a_plan_that_has_it_also_late(client: Client, marking: Plan) -> None:  # noqa: F811
    marking.super_resolution = False
    marking.save()
    block = {"upscale": {"scale": 4, "late": True}}
    response = post(client, {"text": "x", "params": {"postprocess": block}})
    assert (response.status_code, faults(response)) == (400, {"params.postprocess": "above_plan"})


def test_what_stands_beside_the_block_may_not_contradict_it(client: Client) -> None:  # noqa: F811
    response = post(client, {"text": "x", "params": {"format": "jpeg", "postprocess": {"lossless": True}}})
    assert (response.status_code, faults(response)) == (400, {"params.postprocess.lossless": "conflict"})


def test_provenance_without_a_certificate_is_refused_at_the_door(client: Client) -> None:  # noqa: F811
    response = post(client, {"text": "x", "params": {"postprocess": {"provenance": True}}})
    assert (response.status_code, faults(response)) == (400, {"params.postprocess": "not_available"})


def test_an_operator_may_sign_everything_but_what_is_to_be_stripped(
    client: Client,  # noqa: F811
    settings: Any,
    tmp_path: Path,
    make_user: Callable[..., User],
) -> None:
    settings.C2PA_CERTIFICATE, settings.C2PA_KEY, settings.C2PA_ALWAYS = "chain.pem", "key.pem", True
    for block in ({}, {"metadata": "none"}, {"provenance": False}):
        assert post(client, {"text": "x", "params": {"postprocess": block}}).status_code == 202
    assert [recipe(task).output.provenance for task in Task.objects.order_by("id")] == [True, False, False]


def test_a_text_that_could_not_be_read_is_refused_while_it_can_be_changed(client: Client, marking: Plan) -> None:  # noqa: F811
    long = {"kind": "text", "text": "图" * 150 + "\n" * 40 + "图", "rotation": 45}
    small = {"resolution": "256x256", "postprocess": {"watermark": long}}
    assert faults(post(client, {"text": "x", "params": small})) == {"params.postprocess.watermark[0].text": "too_long"}
    blank = {"postprocess": {"watermark": {"kind": "text", "text": " "}}}
    assert faults(post(client, {"text": "x", "params": blank})) == {"params.postprocess.watermark.text": "blank"}
    assert not Task.objects.exists()
    roomy = {"resolution": "1024x1024", "postprocess": {"watermark": long}}
    assert post(client, {"text": "x", "params": roomy}).status_code == 202
