"""The way of a task through the running product: real HTTP, Postgres, Redis, Celery, the model that ships."""

import hashlib
import io
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from standardwebhooks import Webhook

from fixtures.pytest_plugin import Stack
from imagegenx_site.tests.conftest import Receiver, Rows

GENERATE = "/api/v1/image/generate"


def ask(text: str = "a red circle, white background", **params: Any) -> dict[str, Any]:
    return {"text": text, "params": {"resolution": "256×256", "steps": 6, "seed": 7, "cache": False, **params}}


def dashed(public_id: str) -> str:
    return str(uuid.UUID(hex=public_id.removeprefix("img")))


def until_ended(http: httpx.Client, task_id: str, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        task = http.get(f"/api/v1/image/task/{task_id}").json()["data"]
        if task["status"] not in ("queued", "running"):
            return task
        time.sleep(0.05)
    raise TimeoutError(f"{task_id} has not ended: {task}")


def test_a_request_becomes_a_picture_and_a_signed_webhook(http: httpx.Client, receiver: Receiver, rows: Rows) -> None:
    answer = http.post(GENERATE, json={**ask(steps=20), "callback_url": receiver.url, "priority": 2})
    assert answer.status_code == 202
    task = until_ended(http, answer.json()["data"]["task_id"])
    assert (task["status"], task["progress"], task["error"]) == ("succeeded", 100, None)

    picture = http.get(f"/api/v1/image/task/{task['task_id']}/image")
    assert picture.headers["content-type"] == "image/webp"
    opened = Image.open(io.BytesIO(picture.content)).convert("RGB")
    assert opened.size == (256, 256)
    red, green, _blue = _pixel(opened, 128, 128)
    assert red > 150, "the circle is red"
    assert green < 110, "the circle is red"
    assert min(_pixel(opened, 6, 6)) > 200, "the background is white"
    (output,) = task["outputs"]
    assert hashlib.sha256(picture.content).hexdigest() == output["sha256"]
    assert httpx.get(output["url"], trust_env=False).content == picture.content
    small = Image.open(io.BytesIO(httpx.get(output["thumbnail_url"], trust_env=False).content))
    assert max(small.size) <= 256

    assert receiver.arrived.wait(30)
    headers, body = receiver.got[0]
    (endpoint,) = rows("SELECT secret FROM generation_webhookendpoint WHERE url = ''")
    event = Webhook(endpoint["secret"]).verify(body, headers)
    assert (event["type"], event["data"]["task_id"]) == ("task.succeeded", task["task_id"])

    (row,) = rows("SELECT * FROM generation_task WHERE id = %s", dashed(task["task_id"]))
    states = [entry["to"] for entry in row["history"] if "to" in entry]
    assert states == ["queued", "running", "generated", "processed", "stored", "succeeded"]
    deadline = time.monotonic() + 10
    while not rows("SELECT 1 FROM generation_delivery WHERE attempts > 0 AND task_id = %s", dashed(task["task_id"])):
        assert time.monotonic() < deadline, "the attempt is noted after it was made"
        time.sleep(0.02)
    (delivery,) = rows("SELECT * FROM generation_delivery WHERE task_id = %s", dashed(task["task_id"]))
    assert (delivery["event_type"], delivery["attempts"], delivery["state"]) == ("task.succeeded", 1, "delivered")


def _pixel(picture: Image.Image, x: int, y: int) -> tuple[int, ...]:
    """The colour there, 0 to 255 a channel."""
    return tuple(picture.crop((x, y, x + 1, y + 1)).tobytes())


def test_prefer_wait_answers_with_the_finished_task(http: httpx.Client) -> None:
    answer = http.post(GENERATE, json=ask(), headers={"prefer": "wait=30"})
    assert answer.status_code == 200
    assert answer.json()["data"]["status"] == "succeeded"
    assert answer.headers["preference-applied"] == "wait=30"


def test_a_wait_that_is_too_short_answers_with_the_open_task(http: httpx.Client) -> None:
    answer = http.post(GENERATE, json=ask(steps=30), headers={"prefer": "wait=0"})
    assert answer.status_code == 202
    assert until_ended(http, answer.json()["data"]["task_id"])["status"] == "succeeded"


def test_the_same_seed_gives_the_same_picture_whatever_runs_beside_it(http: httpx.Client) -> None:
    alone = http.post(GENERATE, json=ask(format="png"), headers={"prefer": "wait=30"}).json()["data"]
    wanted = [
        ask(format="png"),
        ask("a blue star", steps=11, seed=3),
        ask("ein Haus", steps=3, cfg_scale=1, sampler="ddim", seed=5),
    ]
    ids = [http.post(GENERATE, json=body).json()["data"]["task_id"] for body in wanted]
    beside = next(until_ended(http, task_id) for task_id in ids)
    ours, theirs = (http.get(f"/api/v1/image/task/{task['task_id']}/image").content for task in (alone, beside))
    assert _largest_difference(ours, theirs) <= 1  # of 255: rounding


def _largest_difference(first: bytes, second: bytes) -> int:
    a, b = (Image.open(io.BytesIO(data)).convert("RGB") for data in (first, second))
    return max(abs(x - y) for x, y in zip(a.tobytes(), b.tobytes(), strict=True))


def test_several_pictures_of_one_task_have_seeds_in_a_row(http: httpx.Client) -> None:
    task = http.post(GENERATE, json=ask(num_images=3, steps=4, format="png"), headers={"prefer": "wait=60"}).json()[
        "data"
    ]
    assert [output["seed"] for output in task["outputs"]] == [7, 8, 9]
    assert len({output["sha256"] for output in task["outputs"]}) == 3
    single = http.post(GENERATE, json=ask(seed=8, steps=4, format="png"), headers={"prefer": "wait=60"}).json()["data"]
    second = http.get(f"/api/v1/image/task/{task['task_id']}/image", params={"index": 1}).content
    alone = http.get(f"/api/v1/image/task/{single['task_id']}/image").content
    assert _largest_difference(second, alone) <= 1


def test_a_running_task_is_cancelled_within_its_steps(http: httpx.Client) -> None:
    task_id = http.post(GENERATE, json=ask(steps=100)).json()["data"]["task_id"]
    deadline = time.monotonic() + 30
    while http.get(f"/api/v1/image/task/{task_id}").json()["data"]["status"] == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    http.post(f"/api/v1/image/task/{task_id}/cancel")
    assert until_ended(http, task_id, 10)["status"] == "canceled"


@pytest.mark.parametrize(
    "text", ["a" * 3000, "🐻 ﷽ \u202e end", " ", "red, " * 400], ids=["long", "unicode", "blank", "many words"]
)
def test_unusual_texts_end_in_a_picture_or_a_clear_refusal(http: httpx.Client, text: str) -> None:
    answer = http.post(GENERATE, json=ask(text, steps=2), headers={"prefer": "wait=60"})
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert answer.json()["data"]["status"] == "succeeded"


def test_flower_sees_the_queues_and_the_worker(stack: Stack, http: httpx.Client) -> None:
    admin = stack.ready["admin"]
    address, login = f"{stack.ready['flower_url']}/api/queues/length", (admin["user"], admin["password"])
    assert httpx.get(address, trust_env=False, timeout=20).status_code == 401
    after_the_gpu = {f"{work}.p{number}" for work in ("cpu", "enlarge", "io", "webhooks") for number in range(4)}
    names, deadline = set[str](), time.monotonic() + 20  # it asks the workers once more when all are there
    while not {"p0", "p1", "p2", "p3"} | after_the_gpu <= names:
        assert time.monotonic() < deadline, names
        lengths = httpx.get(address, auth=login, trust_env=False, timeout=20)
        names = {queue["name"] for queue in lengths.json()["active_queues"]}


def test_flower_shows_how_many_wait_in_each_class(stack: Stack, http: httpx.Client, rows: Rows) -> None:
    admin = stack.ready["admin"]
    flower = httpx.Client(auth=(admin["user"], admin["password"]), trust_env=False, timeout=20)
    wanted = [{**ask(steps=100, seed=number), "priority": 1 + number % 3} for number in range(24)]
    ids = [http.post(GENERATE, json=body).json()["data"]["task_id"] for body in wanted]
    try:
        deadline = time.monotonic() + 30
        while True:
            lengths = flower.get(f"{stack.ready['flower_url']}/api/queues/length").json()["active_queues"]
            shown = {queue["name"]: queue["messages"] for queue in lengths if queue["name"] in ("p0", "p1", "p2", "p3")}
            counted = rows("SELECT priority, count(*) AS n FROM generation_task WHERE status = 'queued' GROUP BY 1")
            waiting = {f"p{row['priority']}": row["n"] for row in counted}
            if sum(waiting.values()) >= 8 and shown == {name: waiting.get(name, 0) for name in shown}:
                break
            assert time.monotonic() < deadline, f"Flower shows {shown}, {waiting} wait"
    finally:
        for task_id in ids:
            http.post(f"/api/v1/image/task/{task_id}/cancel")
    assert [until_ended(http, task_id)["status"] for task_id in ids].count("canceled") >= 8


def test_a_ticket_revoked_in_flower_cancels_its_task(stack: Stack, http: httpx.Client) -> None:
    """One that runs and one that waits; Flower shows what they are, without a word of their prompts."""
    admin = stack.ready["admin"]
    flower = httpx.Client(
        base_url=stack.ready["flower_url"], auth=(admin["user"], admin["password"]), trust_env=False, timeout=20
    )
    bodies = [ask("a secret blue star", steps=100, seed=seed) for seed in range(40)]
    ids = [http.post(GENERATE, json=body).json()["data"]["task_id"] for body in bodies]
    try:
        deadline = time.monotonic() + 60
        while "'256x256', '1 picture'" not in (shown := flower.get(f"/api/task/info/{dashed(ids[0])}").text):
            assert time.monotonic() < deadline, shown
            time.sleep(0.1)
        assert "'text2img', 'mini@" in shown
        assert "secret" not in shown
        for task_id, how in ((ids[0], {"terminate": "true"}), (ids[-1], {})):
            assert flower.post(f"/api/task/revoke/{dashed(task_id)}", params=how).status_code == 200
        assert [until_ended(http, task_id, 60)["status"] for task_id in (ids[0], ids[-1])] == ["canceled"] * 2
        deadline = time.monotonic() + 15
        while '"state": "REVOKED"' not in (shown := flower.get(f"/api/task/info/{dashed(ids[0])}").text):
            assert time.monotonic() < deadline, shown
            time.sleep(0.1)
    finally:
        for task_id in ids:
            http.post(f"/api/v1/image/task/{task_id}/cancel")


def files_below(folder: Path) -> list[str]:
    """The files in it at this moment; folders may go while one looks."""
    return [name for _, _, names in os.walk(folder) for name in names]


def test_the_raw_store_is_empty_when_everything_has_ended(stack: Stack, http: httpx.Client) -> None:
    http.post(GENERATE, json=ask(), headers={"prefer": "wait=30"})
    deadline = time.monotonic() + 10
    while (left := files_below(stack.var_dir / "raw")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_a_killed_gpu_worker_loses_nothing_and_doubles_nothing(stack: Stack, http: httpx.Client, rows: Rows) -> None:
    ids = [http.post(GENERATE, json=ask(steps=40, seed=seed)).json()["data"]["task_id"] for seed in range(6)]
    deadline = time.monotonic() + 30
    while not rows(
        "SELECT 1 FROM generation_task WHERE id = ANY(%s::uuid[]) AND progress > 5", [dashed(i) for i in ids]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed = time.monotonic()
    old = stack.kill("gpu-worker")
    stack.wait_replaced("gpu-worker", old, 90)
    print(f"\nthe killed worker's successor was ready after {time.monotonic() - killed:.1f} s")
    tasks = [until_ended(http, task_id, 120) for task_id in ids]
    print(f"all {len(ids)} tasks had ended {time.monotonic() - killed:.1f} s after the kill")
    assert [task["status"] for task in tasks] == ["succeeded"] * len(ids)
    stored = rows(
        "SELECT task_id, count(*) AS n FROM generation_image WHERE task_id = ANY(%s::uuid[]) GROUP BY 1",
        [dashed(i) for i in ids],
    )
    assert [row["n"] for row in stored] == [1] * len(ids)
    ends = rows("SELECT history FROM generation_task WHERE id = ANY(%s::uuid[])", [dashed(i) for i in ids])
    assert all(sum(entry.get("to") == "succeeded" for entry in row["history"]) == 1 for row in ends)
    assert json.dumps(ends).count('"attempt": 2') >= 1


def test_a_large_version_follows_the_first_one(http: httpx.Client) -> None:
    """Delivered at once in its own size; then the address, the row and the watcher get the large one."""
    body = ask(postprocess={"upscale": {"scale": 4}})
    first = http.post(GENERATE, json=body, headers={"prefer": "wait=60"}).json()["data"]
    assert (first["status"], first["enlarging"], first["outputs"][0]["width"]) == ("succeeded", True, 256)
    events: list[tuple[str, dict[str, Any]]] = []
    with http.stream("GET", f"/api/v1/image/task/{first['task_id']}/events", timeout=120) as stream:
        name = ""
        deadline = time.monotonic() + 180
        for line in stream.iter_lines():
            assert time.monotonic() < deadline, f"no larger version; events: {events}"
            name = line.removeprefix("event: ") if line.startswith("event: ") else name
            if line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    kinds = [kind for kind, _ in events]
    assert kinds[-2:] == ["task", "end"]
    assert ("updated", {"width": 1024, "height": 1024}) in events
    last = events[-2][1]
    assert (last["enlarging"], last["outputs"][0]["width"]) == (False, 1024)
    assert last["temp_url"].partition("?")[0] != first["temp_url"].partition("?")[0]
    large, small = (httpx.get(task["temp_url"], trust_env=False).content for task in (last, first))
    assert Image.open(io.BytesIO(large)).size == (1024, 1024)
    assert Image.open(io.BytesIO(small)).size == (256, 256), "the first address stays good"
    shrunk = Image.open(io.BytesIO(large)).convert("RGB").resize((256, 256), Image.Resampling.BOX)
    pairs = zip(shrunk.tobytes(), Image.open(io.BytesIO(small)).convert("RGB").tobytes(), strict=True)
    assert sum(abs(a - b) for a, b in pairs) / (256 * 256 * 3) < 6, "the same picture"
