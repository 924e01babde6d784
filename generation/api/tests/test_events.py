"""Events over real sockets: snapshot, live progress, end, resume, tokens; and waiting for the end."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from fixtures.rows import finish
from generation.accounts.models import User
from generation.tasks import events, states
from generation.tasks.models import Task

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def http(live: str, owner: User, key_of: Callable[..., str]) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {key_of(owner)}"}
    with httpx.Client(base_url=live, headers=headers, timeout=30, trust_env=False) as client:
        yield client


def parse_events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The events of a stream as (kind, data, id)."""
    entry: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            entry[name] = value
        elif "event" in entry:
            yield entry["event"], json.loads(entry["data"]), entry.get("id", "")
            entry = {}
        else:
            entry = {}


def test_a_watcher_hears_everything_from_the_first_look_to_the_end(http: httpx.Client, make_task: Any) -> None:
    task: Task = make_task()
    with http.stream("GET", f"/api/v1/image/task/{task.public_id}/events") as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["x-request-id"]
        stream = parse_events(answer.iter_lines())
        kind, data, _ = next(stream)
        assert (kind, data["task_id"], data["status"]) == ("task", task.public_id, "queued")
        events.publish_progress(task.id, 50, 2, 4)
        kind, data, first_id = next(stream)
        assert (kind, data) == ("progress", {"progress": 50, "step": 2, "steps": 4})
        finish(task)
        rest = list(stream)
    kinds = [kind for kind, *_ in rest]
    assert kinds[-2:] == ["task", "end"]
    assert [data["status"] for kind, data, _ in rest if kind == "status"][-1] == "succeeded"
    assert (rest[-2][1]["status"], rest[-2][1]["progress"], rest[-1][1]) == ("succeeded", 100, {"status": "succeeded"})
    with http.stream(
        "GET", f"/api/v1/image/task/{task.public_id}/events", headers={"last-event-id": first_id}
    ) as answer:
        again = list(parse_events(answer.iter_lines()))
    assert [event for event in again if event[0] == "status"] == [event for event in rest if event[0] == "status"]
    assert again[-1][0] == "end"


def test_a_stream_of_an_ended_task_ends_at_once(http: httpx.Client, make_task: Any) -> None:
    task = finish(make_task())
    answer = http.get(f"/api/v1/image/task/{task.public_id}/events")
    assert [kind for kind, *_ in parse_events(iter(answer.text.splitlines()))] == ["task", "end"]


def test_a_browser_opens_the_stream_with_a_token_of_that_task(
    http: httpx.Client, live: str, make_task: Any, settings: Any
) -> None:
    task, other = finish(make_task()), finish(make_task())
    data = http.post(f"/api/v1/image/task/{task.public_id}/events/token").json()["data"]
    assert httpx.get(data["url"], trust_env=False, timeout=30).status_code == 200
    token = data["token"]
    bare = f"{live}/api/v1/image/task"
    assert httpx.get(f"{bare}/{other.public_id}/events?token={token}", trust_env=False).status_code == 401
    assert httpx.get(f"{bare}/{task.public_id}/events?token={token}x", trust_env=False).status_code == 401
    assert httpx.get(f"{bare}/{task.public_id}/events", trust_env=False).status_code == 401
    settings.EVENT_TOKEN_SECONDS = -1
    assert httpx.get(f"{bare}/{task.public_id}/events?token={token}", trust_env=False).status_code == 401


def test_strangers_and_other_methods(
    http: httpx.Client, live: str, make_task: Any, make_user: Any, key_of: Any
) -> None:
    address = f"{live}/api/v1/image/task/{make_task().public_id}/events"
    headers = {"authorization": f"Bearer {key_of(make_user('stranger'))}"}
    assert httpx.get(address, headers=headers, trust_env=False).status_code == 404
    assert http.put(address).status_code == 405


def test_waiting_answers_with_the_finished_task(http: httpx.Client) -> None:
    def work() -> None:
        deadline = time.monotonic() + 20
        while not Task.objects.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        finish(Task.objects.get())
        states.connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    answer = http.post("/api/v1/image/generate", json={"text": "x"}, headers={"prefer": "wait=20"})
    worker.join()
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=20")
    data = answer.json()["data"]
    assert (data["status"], data["progress"]) == ("succeeded", 100)
    assert http.get(data["temp_url"]).content[:4] == b"RIFF"
    short = http.post("/api/v1/image/generate", json={"text": "x"}, headers={"prefer": "wait=1"})
    assert (short.status_code, short.json()["data"]["status"]) == (202, "queued")


def test_a_wait_that_runs_out_answers_the_task_as_it_is_then(http: httpx.Client) -> None:
    def work() -> None:
        deadline = time.monotonic() + 20
        while not Task.objects.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        states.claim([Task.objects.get().id], "w1")
        states.connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    answer = http.post("/api/v1/image/generate", json={"text": "x"}, headers={"prefer": "wait=1"})
    worker.join()
    data = answer.json()["data"]
    assert (answer.status_code, data["status"], data["attempts"]) == (202, "running", 1)
    assert answer.headers["retry-after"] == "1"


def test_a_get_waits_for_the_end_of_the_task(http: httpx.Client, make_task: Callable[..., Task]) -> None:
    task = make_task()
    path = f"/api/v1/image/task/{task.public_id}"
    open_one = http.get(path, headers={"prefer": "wait=1"})
    assert (open_one.status_code, open_one.json()["data"]["status"]) == (200, "queued")
    assert open_one.headers["preference-applied"] == "wait=1"

    def work() -> None:
        time.sleep(0.3)
        finish(task)
        states.connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    known = {"if-none-match": open_one.headers["etag"]}
    ended = http.get(path, headers={"prefer": "wait=20", **known})
    worker.join()
    assert (ended.status_code, ended.json()["data"]["status"]) == (200, "succeeded")
    assert ended.headers["etag"] == http.get(path).headers["etag"] != open_one.headers["etag"]
