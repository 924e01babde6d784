"""After the GPU: every stage moves the task one state on, once, and a fault costs a try, not the task."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import c2pa
import cv2
import numpy as np
import pytest
from django.utils import timezone

from fixtures.hostile import HostileServer
from fixtures.otlp_collector import Collector
from generation.catalogue.models import Lora
from generation.tasks import enlargement, outbox, stages, states
from generation.tasks.models import OWNER_GIVEN_UP, Image, Status, Task
from generation.tasks.view import view_for
from generation.webhooks.models import Delivery, WebhookEndpoint
from imagegenx_site import redis_clients
from imagegenx_site.tracing import spans
from imagegenx_site.tracing.values import root_of
from postprocessing.tests.certificates import make_chain
from postprocessing.tests.networks import save_blur_network
from storage import keys, raw
from storage.store import get_store
from workers.housekeeping import raw_store
from workers.stages import encode, enlarge, images, lease, notify, postprocess, upload
from workers.webhooks import send_webhook

MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings) -> Path:
    """Stores of the test's own."""
    stores = {name: dict(value) for name, value in settings.STORAGES.items()}
    for name in ("images", "raw"):
        location = {"location": str(tmp_path / name), "base_url": None}
        stores[name] = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": location}
    settings.STORAGES = stores
    settings.SPOOL_ROOT = str(tmp_path / "spool")
    return tmp_path


@pytest.fixture
def generated(make_task: MakeTask) -> Task:
    """A task that the GPU is done with: a red disc on white."""
    return with_raw(make_task(Status.GENERATED, attempt=1, callback_url="https://shop.example/hook"))


def with_raw(task: Task, index: int = 0) -> Task:
    picture = np.full((256, 256, 3), 255, np.uint8)
    cv2.circle(picture, (128, 128), 60, (0, 0, 255), -1)
    raw.write_raw(task.id, index, task.attempt, cv2.imencode(".png", picture)[1].tobytes())
    return task


def files(store: str) -> list[str]:
    return [found.key for found in get_store(store).list("")]


def run_all(task: Task) -> None:
    for stage in (postprocess.postprocess, upload.upload, notify.notify):
        stage(str(task.id))
    task.refresh_from_db()


def test_the_stages_take_a_raw_picture_to_the_store(generated: Task) -> None:
    run_all(generated)
    assert [entry["to"] for entry in generated.history] == ["processed", "stored", "succeeded"]
    (image,) = Image.objects.filter(task=generated)
    assert (image.width, image.height, image.format, image.seed) == (256, 256, "webp", 7)
    data = get_store("images").read(image.key)
    assert len(data) == image.bytes
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded[128, 128, 2] > 230, "red in the middle"
    assert sorted(files("images")) == sorted([image.key, image.thumbnail_key])
    assert files("raw") == []
    assert Delivery.objects.filter(task=generated, event_type="task.succeeded").count() == 1


def test_each_lora_of_a_task_is_counted_once_when_it_succeeds(generated: Task) -> None:
    used, other = (Lora.objects.create(name=name, sha256=name * 64, source="x") for name in "ab")
    generated.params["loras"] = [{"name": "a@1", "sha256": "a" * 64, "source": "x", "weight": 1.0, "row": used.pk}]
    generated.save(update_fields=["params"])
    run_all(generated)
    run_all(generated)
    assert dict(Lora.objects.values_list("pk", "uses")) == {used.pk: 1, other.pk: 0}


def test_a_stage_that_comes_twice_does_nothing_the_second_time(generated: Task) -> None:
    run_all(generated)
    before = (generated.history, files("images"), Delivery.objects.count())
    run_all(generated)
    assert (generated.history, files("images"), Delivery.objects.count()) == before


@pytest.mark.parametrize("stage", [upload.upload, notify.notify])
def test_a_stage_that_comes_too_early_does_nothing(generated: Task, stage: Callable) -> None:
    stage(str(generated.id))
    generated.refresh_from_db()
    assert (generated.status, generated.history) == ("generated", [])


def test_a_fault_gives_the_stage_back_with_its_reason_and_the_last_one_fails_the_task(
    make_task: MakeTask,
    settings,
) -> None:
    task = make_task(Status.GENERATED, attempt=1)  # its raw picture is missing
    for tries in range(1, settings.STAGE_MAX_ATTEMPTS):
        postprocess.postprocess(str(task.id))
        task.refresh_from_db()
        assert (task.status, task.stage_attempts) == ("generated", tries)
        assert "postprocess" in task.history[-1]["stage_fault"]
        assert task.stage_until is not None
        assert task.stage_until > timezone.now()
        Task.objects.filter(pk=task.pk).update(stage_until=timezone.now() - timedelta(seconds=1))
    postprocess.postprocess(str(task.id))
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "postprocess_failed")


def test_a_cancelled_task_goes_no_further(generated: Task) -> None:
    Task.objects.filter(pk=generated.pk).update(cancel_requested=True)
    run_all(generated)
    assert generated.status == "cancelled"
    assert files("images") == []


def test_a_crash_between_upload_and_note_repeats_the_upload(generated: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    postprocess.postprocess(str(generated.id))
    with monkeypatch.context() as patch:
        patch.setattr(states, "mark_stored", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            upload.upload(str(generated.id))
    Task.objects.filter(pk=generated.pk).update(stage_until=timezone.now() - timedelta(seconds=1))
    upload.upload(str(generated.id))
    notify.notify(str(generated.id))
    generated.refresh_from_db()
    assert (generated.status, len(files("images"))) == ("succeeded", 2)


def test_a_recipe_that_can_never_work_fails_at_once_with_its_own_code(generated: Task) -> None:
    watermark = {"kind": "text", "text": "shop \U0010fffd"}
    Task.objects.filter(pk=generated.pk).update(params={**generated.params, "postprocess": {"watermark": watermark}})
    postprocess.postprocess(str(generated.id))
    generated.refresh_from_db()
    assert (generated.status, generated.error_code) == ("failed", "font_missing")


def test_a_late_enlargement_follows_the_first_version(
    make_task: MakeTask,
    settings,
    tmp_path: Path,
    sent: list,
) -> None:
    settings.SUPERRES_DIR = str(tmp_path)
    save_blur_network(tmp_path / "x4.onnx", 4)
    task = make_task(Status.GENERATED, attempt=1)
    Task.objects.filter(pk=task.pk).update(params={**task.params, "postprocess": {"upscale": {"scale": 4}}})
    run_all(with_raw(task))
    first = Image.objects.get(task=task)
    assert (task.status, first.width) == ("succeeded", 256)
    assert sent == [(str(task.id), ("enlarge",))]
    assert enlargement.is_due(task, [first])
    before = view_for(task.public_id, task.user, base_url="")
    assert (before.body["enlarging"], before.body["outputs"][0]["width"]) == (True, 256)
    enlarge.enlarge(str(task.id))
    second = Image.objects.get(task=task)
    assert (second.width, second.height) == (1024, 1024)
    later = view_for(task.public_id, task.user, base_url="")
    assert (later.body["enlarging"], later.body["outputs"][0]["width"]) == (False, 1024)
    assert later.body["temp_url"] != before.body["temp_url"]
    assert later.etag != before.etag
    assert get_store("images").exists(first.key), "addresses of the first version stay good"
    assert files("raw") == []
    enlarge.enlarge(str(task.id))
    assert Image.objects.get(task=task).sha256 == second.sha256


def late_task(make: MakeTask, settings: Any, folder: Path, count: int = 1, **fields: Any) -> Task:
    """A delivered task whose pictures are still to be enlarged."""
    settings.SUPERRES_DIR = str(folder)
    save_blur_network(folder / "x4.onnx", 4)
    task = make(Status.GENERATED, attempt=1, **fields)
    task.params = {**task.params, "num_images": count, "postprocess": {"upscale": {"scale": 4}}}
    task.save(update_fields=["params"])
    for index in range(count):
        with_raw(task, index)
    run_all(task)
    return task


def test_a_webhook_says_once_that_the_larger_version_is_there(make_task: MakeTask, settings, tmp_path) -> None:
    task = late_task(make_task, settings, tmp_path, callback_url="https://shop.example/hook")
    WebhookEndpoint.objects.create(user=task.user, url="https://shop.example/ends", events=["task.succeeded"])
    (end,) = Delivery.objects.filter(task=task)
    for _ in range(2):
        enlarge.enlarge(str(task.id))
    (delivery,) = Delivery.objects.filter(task=task).exclude(pk=end.pk)
    assert (delivery.event_type, delivery.url) == ("task.updated", end.url)
    assert (delivery.event_id == end.event_id, delivery.state) == (False, "pending")
    body = outbox.payload(delivery)
    assert (body["data"]["enlarging"], body["data"]["outputs"][0]["width"]) == (False, 1024)
    assert body["timestamp"] == delivery.created_at.isoformat()


def test_a_webhook_says_that_the_larger_version_will_not_come(make_task: MakeTask, settings, tmp_path) -> None:
    settings.STAGE_MAX_ATTEMPTS = 1
    task = late_task(make_task, settings, tmp_path, callback_url="https://shop.example/hook")
    (tmp_path / "x4.onnx").unlink()
    enlarge.enlarge(str(task.id))
    delivery = Delivery.objects.get(task=task, event_type="task.updated")
    assert "x4.onnx" in outbox.payload(delivery)["data"]["warnings"][-1]


def test_two_messages_for_one_enlargement_are_one(make_task: MakeTask, settings, tmp_path: Path) -> None:
    task = late_task(make_task, settings, tmp_path)
    states.take_stage(task.id, stages.named("enlarge"), "another worker", 60)
    enlarge.enlarge(str(task.id))
    assert Image.objects.get(task=task).width == 256, "another holds it"


def test_an_enlargement_that_was_cut_off_goes_on_where_it_was(make_task: MakeTask, settings, tmp_path, monkeypatch):
    task = late_task(make_task, settings, tmp_path, count=3)
    with monkeypatch.context() as patch:
        save = images.save_images
        patch.setattr(
            enlarge, "save_images", lambda store, task, files: (1 in files and 1 / 0) or save(store, task, files)
        )
        enlarge.enlarge(str(task.id))
    assert list(Image.objects.order_by("index").values_list("width", flat=True)) == [1024, 256, 256]
    Task.objects.filter(pk=task.pk).update(stage_until=timezone.now() - timedelta(seconds=1))
    done: list[int] = []
    with monkeypatch.context() as patch:
        decode = encode._decoded

        def noted(task: Task, number: int) -> np.ndarray:
            done.append(number)
            return decode(task, number)

        patch.setattr(encode, "_decoded", noted)
        enlarge.enlarge(str(task.id))
    assert done == [1, 2]
    assert set(Image.objects.values_list("width", flat=True)) == {1024}
    assert files("raw") == []


def test_an_enlargement_that_never_works_is_given_up_and_said(make_task: MakeTask, settings, tmp_path: Path) -> None:
    task = late_task(make_task, settings, tmp_path)
    (tmp_path / "x4.onnx").unlink()
    for _ in range(settings.STAGE_MAX_ATTEMPTS):
        assert enlargement.is_due(task, list(task.images.all()))
        enlarge.enlarge(str(task.id))
        Task.objects.filter(pk=task.pk).exclude(stage_owner=OWNER_GIVEN_UP).update(stage_until=timezone.now())
        task.refresh_from_db()
    assert (task.status, task.stage_owner) == ("succeeded", OWNER_GIVEN_UP)
    assert "x4.onnx" in task.warnings[-1]
    assert not enlargement.is_due(task, list(task.images.all()))
    assert files("raw") == []


def test_a_long_enlargement_keeps_its_lease_and_publishes_its_progress(
    make_task: MakeTask, monkeypatch, settings
) -> None:
    task = make_task(Status.GENERATED, attempt=1)
    leased = states.take_stage(task.id, stages.named("postprocess"), "me", 60)
    assert leased is not None
    published: list[tuple[str, Any]] = []
    monkeypatch.setattr(lease.events, "publish", lambda _, kind, data: published.append((kind, data["progress"])))
    monkeypatch.setattr(lease, "PUBLISH_EVERY_S", 0)
    Task.objects.filter(pk=task.pk).update(stage_until=timezone.now())
    renewer = lease.LeaseRenewer([leased])
    renewer._renewed -= settings.STAGE_SECONDS
    renewer(0.25)
    renewer(1.0)
    task.refresh_from_db()
    assert task.stage_until is not None
    assert task.stage_until > timezone.now() + timedelta(seconds=settings.STAGE_SECONDS / 2)
    assert published == [("enlarging", 25), ("enlarging", 100)]
    Task.objects.filter(pk=task.pk).update(stage_owner="another")
    renewer._renewed -= settings.STAGE_SECONDS
    with pytest.raises(TimeoutError):
        renewer(1.0)


def test_leftovers_of_ended_tasks_are_cleared_and_of_open_ones_stay(
    generated: Task,
    make_task: MakeTask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raw_store, "LEFT_AFTER", timedelta(0))
    failed = with_raw(make_task(Status.FAILED, attempt=1))
    get_store("raw").put(keys.image_key(failed.id, 0, "a" * 64, "image/webp"), b"an encoded file")
    raw_store.sweep_raw_store()
    assert [key.split("/")[1] for key in files("raw")] == [str(generated.id)]
    assert not any(str(failed.id) in key for key in files("raw"))


def with_same_work(make: MakeTask, count: int, **postprocess: object) -> list[Task]:
    """Tasks that the GPU is done with, of one size and recipe."""
    tasks = [make(Status.GENERATED, attempt=1) for _ in range(count)]
    for task in tasks:
        task.params = {**task.params, "postprocess": postprocess}
        task.save(update_fields=["params"])
    return tasks


def statuses(tasks: list[Task]) -> list[str]:
    found = dict(Task.objects.filter(pk__in=[task.pk for task in tasks]).values_list("id", "status"))
    return [found[task.pk] for task in tasks]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """Messages for later stages: the task and the stages they ask for."""
    messages: list[tuple[str, tuple[str, ...]]] = []
    send = stages.send_stages

    def noted(task_id: UUID, priority: int, state: str) -> None:
        messages.append((str(task_id), tuple(stage.name for stage in stages.stages_from(state))))
        send(task_id, priority, state)

    monkeypatch.setattr(stages, "send_stages", noted)
    return messages


def test_tasks_with_the_same_work_are_processed_together(
    make_task: MakeTask,
    settings,
    tmp_path: Path,
    sent: list,
) -> None:
    settings.SUPERRES_DIR = str(tmp_path)
    save_blur_network(tmp_path / "x2.onnx", 2)
    tasks = [with_raw(task) for task in with_same_work(make_task, 3, upscale={"scale": 2})]
    (other,) = [with_raw(task) for task in with_same_work(make_task, 1, format="png")]
    postprocess.postprocess(str(tasks[1].id))
    assert statuses(tasks) == ["processed"] * 3
    assert statuses([other]) == ["generated"], "another recipe is not taken"
    assert sorted(sent) == sorted((str(task.id), ("upload", "notify")) for task in (tasks[0], tasks[2]))
    assert {image.width for image in Image.objects.filter(task__in=tasks)} == {512}
    for task in tasks:
        run_all(task)
        assert [entry["to"] for entry in task.history] == ["processed", "stored", "succeeded"]


def test_a_picture_is_the_same_alone_and_in_a_group(make_task: MakeTask, settings) -> None:
    *grouped, alone = [with_raw(task) for task in with_same_work(make_task, 3, sharpen=0.5, metadata="none")]
    settings.POSTPROCESS_GROUP = 2
    postprocess.postprocess(str(grouped[0].id))
    assert statuses([*grouped, alone]) == ["processed", "processed", "generated"]
    settings.POSTPROCESS_GROUP = 1
    postprocess.postprocess(str(alone.id))
    assert len(set(Image.objects.values_list("sha256", flat=True))) == 1


def test_a_damaged_picture_in_a_group_costs_its_own_task_a_try_and_no_other(make_task: MakeTask) -> None:
    tasks = [with_raw(task) for task in with_same_work(make_task, 3)]
    raw.write_raw(tasks[1].id, 0, 1, b"not a picture")
    postprocess.postprocess(str(tasks[0].id))
    assert statuses(tasks) == ["processed", "generated", "processed"]
    tasks[1].refresh_from_db()
    assert tasks[1].stage_attempts == 1
    assert "damaged" in tasks[1].history[-1]["stage_fault"]
    Task.objects.filter(pk=tasks[1].pk).update(stage_until=timezone.now() - timedelta(seconds=1))
    (healthy,) = [with_raw(task) for task in with_same_work(make_task, 1)]
    postprocess.postprocess(str(healthy.id))
    assert statuses([healthy, tasks[1]]) == ["processed", "generated"], "what failed once joins no group again"


def test_nobody_takes_what_another_holds_or_what_was_cancelled(make_task: MakeTask) -> None:
    tasks = [with_raw(task) for task in with_same_work(make_task, 3)]
    states.take_stage(tasks[1].id, stages.named("postprocess"), "another worker", 60)
    Task.objects.filter(pk=tasks[2].pk).update(cancel_requested=True)
    postprocess.postprocess(str(tasks[0].id))
    assert statuses(tasks) == ["processed", "generated", "generated"]
    tasks[1].refresh_from_db()
    assert tasks[1].stage_owner == "another worker"


def test_large_pictures_are_not_kept_waiting_by_a_group(make_task: MakeTask, monkeypatch) -> None:
    monkeypatch.setattr(postprocess, "GROUP_PIXELS", 2 * 256 * 256)
    tasks = [with_raw(task) for task in with_same_work(make_task, 3)]
    postprocess.postprocess(str(tasks[0].id))
    assert statuses(tasks) == ["processed", "processed", "generated"]


def test_the_mark_of_the_plan_is_in_the_picture(make_task: MakeTask) -> None:
    plain, marked = [with_raw(task) for task in with_same_work(make_task, 2, metadata="none")]
    mark = {"kind": "text", "text": "XXXX", "size": 0.5, "opacity": 1.0, "color": "#00FF00", "position": "center"}
    Task.objects.filter(pk=marked.pk).update(params={**marked.params, "plan_watermark": mark})
    for task in (plain, marked):
        run_all(task)
    green = {
        image.task_id: int((_stored(image)[:, :, 1].astype(int) - _stored(image)[:, :, 2] > 128).sum())
        for image in Image.objects.all()
    }
    assert green[plain.id] == 0
    assert green[marked.id] > 500


def _stored(image: Image) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(get_store("images").read(image.key), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def test_a_signed_picture_is_what_the_store_gets(make_task: MakeTask, settings, tmp_path: Path) -> None:
    chain = make_chain(tmp_path)
    settings.C2PA_CERTIFICATE, settings.C2PA_KEY = str(chain.signer.certificates), str(chain.signer.key)
    (task,) = [with_raw(task) for task in with_same_work(make_task, 1, provenance=True)]
    run_all(task)
    image = Image.objects.get(task=task)
    read = c2pa.Reader(image.content_type, io.BytesIO(get_store("images").read(image.key)))
    assert read.get_validation_state() == "Valid"
    settings.C2PA_KEY = str(tmp_path / "gone.pem")
    (unsigned,) = [with_raw(task) for task in with_same_work(make_task, 1, provenance=True)]
    postprocess.postprocess(str(unsigned.id))
    unsigned.refresh_from_db()
    assert (unsigned.status, unsigned.stage_attempts) == ("generated", 1), "our fault: it is tried again"
    assert "gone.pem" in unsigned.history[-1]["stage_fault"]


def test_the_end_of_a_task_waits_for_no_receiver(make_task: MakeTask, hostile: HostileServer, settings) -> None:
    settings.PRIVATE_CALLBACKS, settings.WEBHOOK_TIMEOUT_S = ["127.0.0.1/32"], 1
    redis_clients.text_client().delete("webhooks.p1")
    task = make_task(Status.STORED, callback_url=f"{hostile.url}/silent", priority=1)
    notify.notify(str(task.id))
    task.refresh_from_db()
    assert (task.status, hostile.asked["/silent"]) == ("succeeded", 0)
    [message] = redis_clients.text_client().lrange("webhooks.p1", 0, -1)
    delivery = Delivery.objects.get()
    assert str(delivery.id) in json.loads(message)["headers"]["argsrepr"]
    send_webhook(str(delivery.id))
    delivery.refresh_from_db()
    assert (hostile.asked["/silent"], delivery.attempts, delivery.state) == (1, 1, "pending")


def test_a_trace_shows_each_stage_and_step(generated: Task, collector: Collector) -> None:
    run_all(generated)
    spans.flush()
    found = collector.of(generated.id)
    steps = {"read", "check", "basic", "tone", "watermark", "format", "save"}
    assert found.keys() == {"postprocess", "upload", "notify"} | steps  # the root follows the commit
    [stage] = found["postprocess"]
    assert {span.parent for name in steps for span in found[name]} == {stage.span_id}
    assert {found[name][0].parent for name in ("postprocess", "upload", "notify")} == {root_of(generated.id)}


def test_a_try_that_failed_is_in_the_trace(generated: Task, collector: Collector, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(postprocess, "save_images", full)
    postprocess.postprocess(str(generated.id))
    spans.flush()
    [stage] = collector.of(generated.id)["postprocess"]
    assert stage.error == "OSError: the disk is full"
