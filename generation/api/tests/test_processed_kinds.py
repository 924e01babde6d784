"""Pictures that are only enlarged or cleaned: tasks without a model, which no GPU sees, and which are in all else tasks
like any other.
"""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from redis import Redis

from fixtures.rows import Receiver, picture_bytes
from generation.accounts.models import Plan, User
from generation.policy import rules
from generation.policy.models import BlockedTerm, PolicyProfile
from generation.tasks import stages, states
from generation.tasks.models import Batch, Status, Task
from generation.tasks.usage import report
from imagegenx_site import redis_clients
from imagegenx_site.ids import from_public
from storage.store import get_store
from workers.recovery.stages import StageMessages, StageMessagesConfig
from workers.stages import lease

UPSCALE, BACKGROUND = "/api/v1/image/upscale", "/api/v1/image/background"


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    return client_of(owner)


def post(client: Client, body: Any, path: str = UPSCALE, **headers: str) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json", headers=headers)


def picture(size: tuple[int, int] = (64, 48), colour: str = "red") -> str:
    return base64.b64encode(picture_bytes(size, colour=colour)).decode()


def faults(answer: Any) -> dict[str, str]:
    assert answer.status_code == 400, answer.content
    return {one["field"]: one["code"] for one in answer.json()["data"]["errors"]}


@pytest.mark.django_db(transaction=True)
def test_the_task_goes_to_the_stages_and_never_to_the_gpu(client: Client, redis: Redis) -> None:
    redis_clients.bytes_client().flushdb()
    data = post(client, {"image": picture(), "params": {"scale": 4}}).json()["data"]
    assert (data["kind"], data["status"], data["progress"]) == ("upscale", "queued", 0)
    assert data["position"] == 1
    assert data["input"] == {
        "text": "",
        "resolution": "64x48",
        "loras": [],
        "postprocess": {"upscale": {"scale": 4, "late": False}},
    }
    task = Task.objects.get()
    assert (task.status, task.model, task.model_key, task.history[0]["to"]) == (
        Status.GENERATED, None, "", Status.GENERATED,
    )  # fmt: skip
    assert get_store("images").read(task.parameters.image_key)[1:4] == b"PNG"
    found = {key.decode() for key in redis_clients.bytes_client().keys("*")}
    assert not [key for key in found if key.startswith(("gq:t:", "p0", "p1", "p2", "p3"))]
    (queue,) = [key for key in found if key.startswith("cpu")]
    (message,) = redis_clients.bytes_client().lrange(queue, 0, -1)
    assert str(task.id).encode() in base64.b64decode(json.loads(message)["body"])


@pytest.mark.django_db(transaction=True)
def test_a_lost_message_is_sent_again(client: Client, redis: Redis) -> None:
    post(client, {"image": picture()})
    redis_clients.bytes_client().flushdb()
    Task.objects.update(updated_at=timezone.now() - timedelta(seconds=6))
    StageMessages(StageMessagesConfig()).run()
    assert redis_clients.bytes_client().keys("cpu*") != []


@pytest.mark.parametrize(
    ("body", "scale"),
    [
        ({}, 2),
        ({"params": {"scale": "4x"}}, 4),
        ({"scale": "x2"}, 2),
        ({"super_resolution": "4x"}, 4),
        ({"params": {"postprocess": {"upscale": {"scale": 4, "late": True}}}}, 4),
        ({"params": {"scale": 4, "postprocess": {"upscale": {"scale": 4}}}}, 4),
    ],
)
def test_the_scale_is_read_in_every_spelling(client: Client, body: Any, scale: int) -> None:
    assert post(client, {"image_url": picture(), **body}).status_code == 202
    assert Task.objects.get().params["postprocess"]["upscale"] == {"scale": scale, "late": False}


def test_every_fault_is_named(client: Client) -> None:
    found = faults(post(client, {"text": "a cat", "params": {"scale": 3, "steps": 4}, "callback_url": "x"}))
    assert found == {
        "image": "required",
        "text": "unknown_field",
        "params.scale": "not_allowed",
        "params.steps": "unknown_field",
        "callback_url": "malformed",
    }
    both = {"scale": 2, "postprocess": {"upscale": {"scale": 4}}}
    assert faults(post(client, {"image": picture(), "params": both})) == {"params.scale": "conflict"}
    assert faults(post(client, {"image": "%%"})) == {"image": "malformed"}
    assert faults(post(client, {"image": picture(), "images": [picture()]})) == {"images": "conflict"}
    assert Task.objects.count() == 0


def test_several_pictures_are_a_batch(client: Client) -> None:
    sent = {"images": [picture(), picture((80, 80), "blue")], "params": {"format": "png"}}
    data = post(client, sent, BACKGROUND).json()["data"]
    assert (data["size"], data["counts"], len(data["tasks"])) == (2, {"queued": 2}, 2)
    tasks = list(Batch.objects.get().tasks.order_by("id"))
    assert [(task.kind, task.width) for task in tasks] == [("background", 64), ("background", 80)]
    assert tasks[0].params["postprocess"] == {"format": "png", "white_background": True}


def test_a_background_may_be_enlarged_in_the_same_version(client: Client) -> None:
    assert post(client, {"image": picture(), "super_resolution": "4x"}, BACKGROUND).status_code == 202
    block = {"upscale": {"scale": 4, "late": False}, "white_background": True}
    assert Task.objects.get().params["postprocess"] == block


def test_several_files_are_a_batch_of_any_kind(client: Client) -> None:
    files = [SimpleUploadedFile(f"{side}.png", picture_bytes((side, side)), "image/png") for side in (256, 320)]
    sent = {"text": "x", "images": files, "params": json.dumps({"seed": 7, "num_images": 2})}
    assert client.post("/api/v1/image/img2img", sent).status_code == 202
    tasks = Batch.objects.get().tasks.order_by("id")
    assert [(task.width, task.params["seed"]) for task in tasks] == [(256, 7), (320, 9)]


def test_pictures_of_a_request_share_its_bounds(client: Client, settings: Any) -> None:
    settings.MAX_INPUT_PIXELS = 64 * 48 + 100
    assert faults(post(client, {"images": [picture(), picture((16, 16))]})) == {"images[1]": "too_many_pixels"}
    assert faults(post(client, {"images": [picture(), "%%"]})) == {"images[1]": "malformed"}
    assert faults(post(client, {"images": [picture()] * 17})) == {"images": "max_length"}


def test_plans_bound_kinds_super_resolution_and_the_finished_size(
    client_of: Callable[..., Client], owner: User
) -> None:
    plan = Plan.objects.create(name="small", title="Small", max_side=256, max_images=1, kinds=["background"])
    assert faults(post(client_of(owner, plan=plan), {"image": picture()})) == {
        "kind": "above_plan",
        "params.scale": "above_plan",
    }
    Plan.objects.filter(pk=plan.pk).update(kinds=["upscale"])
    plan.refresh_from_db()
    Plan.objects.filter(pk=plan.pk).update(super_resolution=True)
    plan.refresh_from_db()
    assert faults(post(client_of(owner, plan=plan), {"image": picture((300, 8)), "scale": 4})) == {
        "image": "above_plan"
    }
    assert post(client_of(owner, plan=plan), {"image": picture((256, 8)), "scale": 4}).status_code == 202


def test_quotas_dry_run_and_idempotency_hold(client_of: Callable[..., Client], owner: User) -> None:
    bounds: dict[str, Any] = {"max_side": 512, "max_images": 4, "daily_images": 1, "super_resolution": True}
    plan = Plan.objects.create(name="small", title="Small", **bounds)
    client = client_of(owner, plan=plan)
    price = post(client, {"image": picture(), "dry_run": True}).json()["data"]
    assert (price["valid"], price["tasks"], price["images"], Task.objects.count()) == (True, 1, 1, 0)
    first, again = (post(client, {"image": picture()}, **{"Idempotency-Key": '"a"'}) for _ in range(2))
    assert first.json()["data"]["task_id"] == again.json()["data"]["task_id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert post(client, {"image": picture()}).status_code == 429


def test_policy_looks_at_marks_and_at_profiles(client_of: Callable[..., Client], owner: User) -> None:
    BlockedTerm.objects.create(term="severed", reason="gore")
    rules.reload()
    mark = {"params": {"postprocess": {"watermark": {"text": "severed"}}}}
    assert faults(post(client_of(owner), {"image": picture((256, 256)), **mark})) == {
        "params.postprocess.watermark": "policy_gore"
    }
    profile = PolicyProfile.objects.create(name="checked", check_images=True)
    rules.reload()
    assert faults(post(client_of(owner, profile=profile), {"image": picture()})) == {"key": "policy_no_checker"}


def test_a_cancel_before_a_stage_begins_ends_it_at_once(client: Client) -> None:
    data = post(client, {"image": picture()}).json()["data"]
    answer = client.post(f"/api/v1/image/task/{data['task_id']}/cancel").json()["data"]
    assert answer["status"] == "canceled"


def test_what_nobody_begins_expires(client: Client) -> None:
    for late in (True, False):
        post(client, {"image": picture(), "deadline_seconds": 1 if late else 60})
    begun = Task.objects.get(pk=Task.objects.first().pk)  # type: ignore[union-attr]  # newest first
    due = Task.objects.exclude(pk=begun.pk).get()
    Task.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    Task.objects.filter(pk=begun.pk).update(started_at=timezone.now())
    assert states.expire_due() == [due.pk]
    due.refresh_from_db()
    assert (due.status, due.error_code) == (Status.EXPIRED, "expired")


def test_a_retry_history_usage_and_deletion_take_it_as_any_task(client: Client, owner: User) -> None:
    data = post(client, {"image": picture(), "params": {"scale": 4}}).json()["data"]
    client.post(f"/api/v1/image/task/{data['task_id']}/cancel")
    again = client.post(f"/api/v1/image/task/{data['task_id']}/retry").json()["data"]
    assert again["input"] == data["input"]
    keys = [task.parameters.image_key for task in Task.objects.order_by("id")]
    assert len(set(keys)) == 2
    listed = client.get("/api/v1/image/tasks", {"kind": "upscale", "status": "queued"}).json()["data"]["items"]
    assert [one["task_id"] for one in listed] == [again["task_id"]]
    today = timezone.now().date()
    assert [(line.group, line.tasks) for line in report(owner, today, today, "model")] == [("", 2)]
    assert client.delete(f"/api/v1/image/task/{data['task_id']}").status_code == 200
    assert not get_store("images").exists(keys[0])


def test_it_is_queued_at_its_place_until_a_worker_begins(client: Client) -> None:
    first, second = (post(client, {"image": picture()}).json()["data"]["task_id"] for _ in range(2))

    def shown(task_id: str) -> tuple[str, int | None]:
        data = client.get(f"/api/v1/image/task/{task_id}").json()["data"]
        return data["status"], data["position"]

    def listed(word: str) -> list[str]:
        answer = client.get("/api/v1/image/tasks", {"status": word}).json()["data"]["items"]
        return [one["task_id"] for one in answer]

    assert (shown(first), shown(second)) == (("queued", 1), ("queued", 2))
    assert (listed("queued"), listed("running"), listed("open")) == ([second, first], [], [second, first])

    begun = lease.take(stages.named("postprocess"), str(from_public(first)))
    assert begun is not None
    assert (shown(first), shown(second)[0]) == (("running", None), "queued")
    assert (listed("queued"), listed("running")) == ([second], [first])


def test_a_retry_needs_a_plan_that_allows_the_size(
    client: Client, client_of: Callable[..., Client], owner: User
) -> None:
    data = post(client, {"image": picture((300, 8)), "params": {"scale": 4}}).json()["data"]
    client.post(f"/api/v1/image/task/{data['task_id']}/cancel")
    plan = Plan.objects.create(name="small", title="Small", max_side=256, max_images=1, super_resolution=True)
    assert client_of(owner, plan=plan).post(f"/api/v1/image/task/{data['task_id']}/retry").status_code == 403


def test_pictures_from_addresses_are_together_no_longer_than_a_body(
    client: Client, receiver: Receiver, settings: Any
) -> None:
    settings.PRIVATE_CALLBACKS = ["127.0.0.1/32"]
    data = picture_bytes((64, 64))
    settings.MAX_BODY_BYTES = 2 * len(data)
    receiver.answers = [(200, {"content-type": "image/png"}, data)]
    assert post(client, {"image_urls": [f"{receiver.url}/{number}" for number in range(2)]}).status_code == 202
    answer = post(client, {"image_urls": [f"{receiver.url}/{number}" for number in range(3)]})
    assert faults(answer) == {f"image_urls[{number}]": "not_fetched" for number in range(3)}
