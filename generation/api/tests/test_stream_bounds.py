"""A user has so many event streams and ZIP files open at once; closed ones count no more."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from fixtures.rows import finish
from generation.accounts.models import User
from generation.api import downloads, event_stream
from generation.tasks.models import Task
from imagegenx_site.slots import Slots

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def http(live: str, owner: User, key_of: Callable[..., str]) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {key_of(owner)}"}
    with httpx.Client(base_url=live, headers=headers, timeout=30, trust_env=False) as client:
        yield client


def until_closed(slots: Slots) -> None:
    deadline = time.monotonic() + 5
    while slots._held:
        assert time.monotonic() < deadline, slots._held
        time.sleep(0.01)


def test_event_streams_are_counted_for_the_tasks_owner(http: httpx.Client, make_task: Any, settings: Any) -> None:
    settings.STREAMS_PER_USER = 3
    task: Task = make_task()
    path = f"/api/v1/image/task/{task.public_id}/events"
    token = http.post(f"{path}/token").json()["data"]["token"]
    with ExitStack() as open_streams:
        for _ in range(2):
            assert open_streams.enter_context(http.stream("GET", path)).status_code == 200
        stranger = httpx.Client(base_url=str(http.base_url), timeout=30, trust_env=False)
        with stranger.stream("GET", path, params={"token": token}) as third:
            assert third.status_code == 200
            fourth = stranger.get(path, params={"token": token})
            assert (fourth.status_code, fourth.json()["data"]["errors"][0]["code"]) == (429, "rate_limited")
            assert fourth.headers["retry-after"] == "5"
    until_closed(event_stream._open)


def test_zip_files_are_bounded_too(http: httpx.Client, make_task: Any, settings: Any) -> None:
    settings.DOWNLOADS_PER_USER = 1
    task = finish(make_task())
    body = {"task_ids": [task.public_id]}
    with http.stream("POST", "/api/v1/image/download", json=body) as first:
        assert first.status_code == 200
        list(first.iter_bytes())
    until_closed(downloads._open)
    assert http.post("/api/v1/image/download", json=body).status_code == 200, "the first one is over"
    settings.DOWNLOADS_PER_USER = 0
    assert http.post("/api/v1/image/download", json=body).status_code == 429
