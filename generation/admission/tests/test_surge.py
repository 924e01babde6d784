"""The table of generation/admission/surge.py, cell by cell; then the answers that clients get."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from fixtures.rows import picture_bytes
from generation.accounts.models import User
from generation.admission.surge import SurgeConfig, SurgeDecision, decide
from generation.tasks import estimates, states
from generation.tasks.models import Task
from imagegenx_site import redis_clients
from storage.store import get_store

CONFIG = SurgeConfig(lower_s=60, refuse_s=240, lowered_side=512, longest_retry_s=600)


@pytest.mark.parametrize("waiting", [0, 59.9, 60, 239, 240, 10_000])
def test_paid_plans_are_never_lowered_or_refused(waiting):
    assert decide(waiting, paid=True, width=1024, height=1024, config=CONFIG) == SurgeDecision(1024, 1024)


def test_below_the_first_limit_nothing_is_lowered():
    assert decide(59.9, paid=False, width=1024, height=1024, config=CONFIG) == SurgeDecision(1024, 1024)


def test_from_the_first_limit_large_pictures_are_lowered_in_shape():
    assert decide(60, paid=False, width=1024, height=1024, config=CONFIG) == SurgeDecision(512, 512, lowered=True)
    assert decide(60, paid=False, width=1024, height=768, config=CONFIG) == SurgeDecision(512, 384, lowered=True)
    assert decide(60, paid=False, width=512, height=512, config=CONFIG) == SurgeDecision(512, 512)


def test_from_the_second_limit_other_plans_are_refused_with_a_retry_time():
    assert decide(240, paid=False, width=512, height=512, config=CONFIG) == SurgeDecision(512, 512, retry_after=180)
    assert decide(1e6, paid=False, width=512, height=512, config=CONFIG).retry_after == 600


@given(st.floats(60, 239), st.integers(32, 256), st.integers(32, 256))
def test_a_lowered_picture_can_be_made(waiting, across, down):
    decision = decide(waiting, paid=False, width=across * 8, height=down * 8, config=CONFIG)
    assert decision.width % 8 == decision.height % 8 == 0
    assert min(decision.width, decision.height) >= 256
    assert decision.lowered == (max(across, down) * 8 > 512)


# ---- over HTTP


GENERATE = "/api/v1/image/generate"
BODY = {"text": "a red circle", "params": {"resolution": "1024x768", "steps": 10}}


@pytest.fixture
def surge(seeded: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Writes a backlog of so many seconds into Redis: one worker, 1 s for a megapixel-step."""
    monkeypatch.setattr(estimates.backlog_seconds, "seconds", 0.0)
    redis = redis_clients.text_client()

    def wait(seconds: float) -> None:
        estimates.backlog_seconds.drop()
        redis.delete("gq:lease", "gq:work", "gq:n")
        redis.hset(estimates.SPEED_KEY, "full", "1.0")
        redis.hset("gq:work", mapping={"2": repr(seconds * 1e6)})
        redis.hset("gq:n", mapping={"2": "1"})

    yield wait
    redis.delete("gq:work", "gq:n", estimates.SPEED_KEY, *redis.keys("gq:w:*"), *redis.keys("gq:k:*"))
    estimates.backlog_seconds.drop()


@pytest.fixture
def people(make_user: Callable[..., User], client_of: Callable[..., Client]) -> dict[str, Client]:
    """A client of each plan."""
    return {plan: client_of(make_user(plan, plan=plan)) for plan in ("free", "paid")}


def post(client: Client, body: Any = None, **headers: str) -> Any:
    return client.post(GENERATE, json.dumps(body or BODY), content_type="application/json", headers=headers)


def test_without_a_backlog_free_requests_are_accepted_unchanged(surge: Any, people: Any) -> None:
    surge(59)
    data = post(people["free"]).json()["data"]
    assert (data["input"]["resolution"], data["warnings"]) == ("1024x768", [])
    assert "lowered_from" not in data["input"]


def test_in_a_surge_free_requests_are_lowered_and_say_so(surge: Any, people: Any) -> None:
    surge(100)
    data = post(people["free"]).json()["data"]
    assert (data["input"]["resolution"], data["input"]["lowered_from"]) == ("512x384", "1024x768")
    assert data["warnings"] == ["made at 512x384 instead of 1024x768, because more work waits than can be done soon"]
    task = Task.objects.get()
    assert (task.width, task.height, task.batch_key) == (512, 384, f"{task.model_key}:512x384")
    [claimed] = states.claim([task.id], "w1")
    states.mark_generated(task.id, worker="w1", attempt=1, warnings=claimed.warnings)
    seen = people["free"].get(f"/api/v1/image/task/{task.public_id}").json()["data"]
    assert seen["warnings"] == data["warnings"]


def test_a_request_with_a_picture_is_lowered_together_with_it(surge: Any, people: Any) -> None:
    surge(100)
    picture = base64.b64encode(picture_bytes((1024, 768))).decode()
    body = {"text": "a blue circle", "image": picture}
    response = people["free"].post("/api/v1/image/img2img", json.dumps(body), content_type="application/json")
    assert response.json()["data"]["input"]["resolution"] == "512x384", response.json()
    task = Task.objects.get()
    assert Pillow.open(io.BytesIO(get_store("images").read(task.params["image_key"]))).size == (512, 384)


def test_in_a_worse_surge_free_requests_get_503_with_retry_after(surge: Any, people: Any) -> None:
    surge(300)
    response = post(people["free"])
    assert (response.status_code, response["Retry-After"]) == (503, "240")
    assert response.json()["data"]["errors"][0]["code"] == "busy"
    assert not Task.objects.exists()


def test_a_repeated_request_gets_its_first_answer_also_in_a_surge(surge: Any, people: Any) -> None:
    surge(0)
    first = post(people["free"], **{"Idempotency-Key": "one"}).json()["data"]
    surge(300)
    again = post(people["free"], **{"Idempotency-Key": "one"})
    assert (again.status_code, again.json()["data"]["task_id"]) == (202, first["task_id"])


def test_paid_requests_are_accepted_unchanged_in_every_surge(surge: Any, people: Any) -> None:
    surge(100_000)
    data = post(people["paid"]).json()["data"]
    assert (data["input"]["resolution"], data["warnings"]) == ("1024x768", [])
