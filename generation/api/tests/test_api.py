"""What a client meets at the first two endpoints: the envelope, every fault at once, and nobody else's tasks."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from generation.accounts.models import ApiKey, User
from generation.queue import client as queue_client
from generation.tasks.models import IdempotencyKey, Status, Task

ClientOf = Callable[..., Client]
MakeTask = Callable[..., Task]
GENERATE = "/api/v1/image/generate"


def post(client: Client, body: Any, **headers: str) -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return client.post(GENERATE, text, content_type="application/json", headers=headers)


def faults(response: Any) -> dict[str, str]:
    return {fault["field"]: fault["code"] for fault in response.json()["data"]["errors"]}


@pytest.fixture
def client(client_of: ClientOf, owner: User) -> Client:
    return client_of(owner)


def test_a_request_becomes_a_queued_row_with_everything_decided(client: Client, owner: User) -> None:
    params = {"resolution": "256×256", "style": "cartoon", "steps": 20, "cfg_scale": 7.5, "sampler": "dpm++", "seed": 7}
    response = post(client, {"text": "a red circle", "params": params, "callback_url": None, "priority": 2})
    assert response.status_code == 202
    body = response.json()
    assert (body["code"], body["message"]) == (200, "success")
    data = body["data"]
    assert (data["status"], data["progress"], data["temp_url"]) == ("queued", 0, None)
    assert data["estimated_time"] > 0
    assert response["Location"] == data["query_url"] == f"http://testserver/api/v1/image/task/{data['task_id']}"
    task = Task.objects.get()
    assert task.public_id == data["task_id"]
    assert (task.user, task.status, task.priority, task.width, task.height) == (owner, "queued", 2, 256, 256)
    assert task.params["steps"] == 20
    assert task.params["seed"] == 7
    assert task.batch_key == f"{task.drawing_model.key}:256x256"


def test_what_a_request_leaves_out_is_decided_once(client: Client) -> None:
    assert post(client, {"text": "红色圆形，白色背景"}).status_code == 202
    task = Task.objects.get()
    assert task.text == "红色圆形，白色背景"
    assert (task.width, task.height, task.priority) == (256, 256, 1)
    assert (task.params["steps"], task.params["cfg_scale"], task.params["sampler"]) == (20, 4.0, "dpm++")
    assert task.params["seed"] >= 0


def test_every_fault_is_named_at_once_and_nothing_is_made(client: Client) -> None:
    params = {
        "resolution": "255x256",
        "style": "cartoonn",
        "steps": 0,
        "cfg_scale": 99,
        "sampler": "best",
        "seed": "x",
        "step": 3,
        "postprocess": {"brightness": 9, "quality": "high"},
    }
    before = queue_client.backlog()
    response = post(client, {"params": params, "callback_url": "ftp://x", "priority": 7, "txet": "?"})
    assert response.status_code == 400
    assert faults(response) == {
        "text": "required",
        "txet": "unknown_field",
        "callback_url": "malformed",
        "priority": "out_of_range",
        "params.resolution": "not_a_multiple",
        "params.style": "unknown_style",
        "params.steps": "out_of_range",
        "params.cfg_scale": "out_of_range",
        "params.sampler": "not_allowed",
        "params.seed": "wrong_type",
        "params.step": "unknown_field",
        "params.postprocess.brightness": "out_of_range",
        "params.postprocess.quality": "wrong_type",
    }
    assert "Did you mean `steps`?" in response.content.decode()
    assert Task.objects.count() == 0
    assert queue_client.backlog() == before


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"text": "x",}', ("line 1, column 1", 'near `{"text": "x",}`')),
        ('{\n  "text": x}', ("Expecting value at line 2, column 11",)),
        (" ", ("The body is empty.",)),
        ('{"text": NaN}', ("NaN is no JSON.",)),
        ("a=b", ("line 1, column 1",)),
    ],
)
def test_a_body_that_is_no_json_is_answered_with_the_place_and_the_way(
    client: Client, body: str, says: tuple[str, ...]
) -> None:
    [fault] = post(client, body).json()["data"]["errors"]
    assert fault["code"] == "not_json"
    for part in (*says, "Content-Type: application/json"):
        assert part in fault["message"]
    latin = client.post("/api/v1/image/generate", b'{"text": "\xe9"}', content_type="application/json")
    assert "byte 11" in latin.json()["data"]["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ("not json", "", "not_json"),
        ("[]", "", "wrong_type"),
        ('{"text": ""}', "text", "blank"),
        ('{"text": null}', "text", "null"),
        ('{"text": "a\\u0000b"}', "text", "malformed"),
        ('{"text": "x", "params": []}', "params", "wrong_type"),
        ('{"text": "x", "params": {"seed": NaN}}', "", "not_json"),
        ('{"text": "x", "params": {"resolution": "100000x8"}}', "params.resolution", "malformed"),
        ('{"text": "x", "params": {"resolution": "2056x256"}}', "params.resolution", "out_of_range"),
        ('{"text": "x", "params": {"model": "none"}}', "params.model", "unknown_model"),
        ('{"text": "x", "params": {"postprocess": []}}', "params.postprocess", "wrong_type"),
        ('{"text": "x", "callback_url": "http://user:pw@host/"}', "callback_url", "malformed"),
        ('{"text": "x", "callback_url": "http://192.168.1.2/hook"}', "callback_url", "malformed"),
    ],
)
def test_a_wrong_body_is_told_where_and_why(client: Client, body: str, field: str, code: str) -> None:
    response = post(client, body)
    assert response.status_code == 400, response.content
    assert faults(response) == {field: code}
    assert Task.objects.count() == 0


def test_the_plan_bounds_size_count_priority_and_super_resolution(client_of: ClientOf, make_user: Any) -> None:
    client = client_of(make_user("guest", plan="free"))
    params = {"resolution": "1032x256", "num_images": 5, "postprocess": {"upscale": {"scale": 2}}}
    response = post(client, {"text": "x", "priority": 1, "params": params})
    assert response.status_code == 400
    assert faults(response) == {
        "priority": "above_plan",
        "params.resolution": "out_of_range",
        "params.num_images": "above_plan",
        "params.postprocess": "above_plan",
    }


@pytest.mark.parametrize("text", ["", "Bearer x", "Bearer igx_0000000000_wrong", "Basic eDp5", "igx_a_b"])
def test_an_unknown_key_is_401_and_says_how(seeded: None, text: str) -> None:
    response = post(Client(headers={"authorization": text} if text else {}), {"text": "x"})
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response.json()["code"] == 401
    assert Task.objects.count() == 0


@pytest.mark.parametrize("change", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now() - timedelta(days=1)}])
def test_a_revoked_or_expired_key_is_401(client_of: ClientOf, owner: User, change: dict) -> None:
    assert post(client_of(owner, **change), {"text": "x"}).status_code == 401


def test_the_secret_of_a_key_is_stored_nowhere(owner: User) -> None:
    row, text = ApiKey.make(owner)
    assert text.startswith(f"igx_{row.prefix}_")
    stored = json.dumps(list(ApiKey.objects.filter(pk=row.pk).values()), default=str)
    assert text.split("_", 2)[2] not in stored


def test_owner_and_team_mate_see_a_task_and_a_stranger_does_not(
    client: Client, client_of: ClientOf, make_user: Any, make_task: MakeTask
) -> None:
    address = f"/api/v1/image/task/{make_task().public_id}"
    assert client.get(address).json()["data"]["status"] == "queued"
    assert client_of(make_user("mate", team="shop")).get(address).status_code == 200
    stranger = client_of(make_user("stranger"))
    assert stranger.get(address).status_code == 404
    assert stranger.post(f"{address}/cancel").status_code == 404
    assert stranger.get(f"{address}/image").status_code == 404
    assert Client().get(address).status_code == 401


@pytest.mark.parametrize("public_id", ["img0", "x" * 5000, "img" + "0" * 32, "..%2f..%2fetc%2fpasswd"])
def test_an_id_that_is_none_of_ours_is_404(client: Client, public_id: str) -> None:
    assert client.get(f"/api/v1/image/task/{public_id}").status_code == 404


def test_cancelling_a_waiting_task_ends_it_and_twice_is_once(client: Client, make_task: MakeTask) -> None:
    address = f"/api/v1/image/task/{make_task().public_id}/cancel"
    assert client.post(address).json()["data"]["status"] == "canceled"
    assert client.post(address).json()["data"]["status"] == "canceled"
    assert len(Task.objects.get().history) == 1


def test_a_picture_before_the_end_is_409_and_of_a_failed_task_404(client: Client, make_task: MakeTask) -> None:
    assert client.get(f"/api/v1/image/task/{make_task().public_id}/image").status_code == 409
    failed = make_task(Status.FAILED, error_code="out_of_memory", error_message="Too large.")
    assert client.get(f"/api/v1/image/task/{failed.public_id}/image").status_code == 404
    body = client.get(f"/api/v1/image/task/{failed.public_id}").json()["data"]
    assert body["error"] == {"code": "out_of_memory", "message": "Too large."}


def test_the_same_idempotency_key_is_one_task_and_another_body_422(client: Client) -> None:
    first = post(client, {"text": "x"}, idempotency_key='"abc"')
    again = post(client, {"text": "x"}, idempotency_key="abc")
    assert first.json()["data"]["task_id"] == again.json()["data"]["task_id"]
    assert again["Idempotency-Replayed"] == "true"
    assert post(client, {"text": "y"}, idempotency_key="abc").status_code == 422
    assert (Task.objects.count(), IdempotencyKey.objects.count()) == (1, 1)


def test_a_client_without_content_type_is_read_as_json(client: Client) -> None:
    response = client.generic("POST", GENERATE, b'{"text": "x"}', content_type="")
    assert response.status_code == 202


def test_health_says_what_answers(db: None) -> None:
    assert Client().get("/healthz").json() == {"status": "ok"}
    empty = {"files": 0, "bytes": 0, "oldest_seconds": 0.0, "full": 0.0, "store_down": False}
    assert Client().get("/readyz").json() == {
        "status": "ok",
        "postgres": True,
        "schema": True,
        "redis": True,
        "spool": empty,
    }


def test_the_web_process_does_not_load_the_gpu_stack() -> None:
    import subprocess
    import sys

    heavy = "('torch', 'diffusers', 'cv2', 'onnxruntime')"
    code = f"import imagegenx_site.asgi, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
