"""How long P0 takes beside a crowd: tasks of P0, one after the other, alone and while P2 tasks wait."""

import statistics
import threading
import time
from typing import Any, Final

import httpx

from deploy.bench.cost import bare

COUNT: Final = 20
CROWD: Final = 40  # waiting P2 tasks, refilled as they end
CASE: Final = ("mini", 20, 256)
GENERATE: Final = "/api/v1/image/generate"


def measure(http: httpx.Client) -> dict[str, Any]:
    """Seconds of each P0 task alone and beside the crowd; medians, and the ratio of both and of the worst."""
    _one(http, -1)
    alone = [_one(http, number) for number in range(COUNT)]
    stopping = threading.Event()
    crowd = threading.Thread(target=_keep_crowd, args=(http, stopping))
    crowd.start()
    time.sleep(5)
    beside = [_one(http, COUNT + number) for number in range(COUNT)]
    stopping.set()
    crowd.join()
    calm, busy = statistics.median(alone), statistics.median(beside)
    return {
        "alone_s": round(calm, 3),
        "beside_s": round(busy, 3),
        "ratio": round(busy / calm, 2),
        "worst": round(max(beside) / calm, 2),
    }


def _one(http: httpx.Client, seed: int) -> float:
    begun = time.monotonic()
    answer = http.post(GENERATE, json=_body(seed, 0), headers={"prefer": "wait=60"}).raise_for_status().json()
    if answer["data"]["status"] != "succeeded":
        raise SystemExit(f"a P0 task did not succeed: {answer}")
    return time.monotonic() - begun


def _keep_crowd(http: httpx.Client, stopping: threading.Event) -> None:
    """CROWD tasks wait until the end; what is left then is cancelled."""
    opened: list[str] = []
    while not stopping.is_set():
        opened = [one for one in opened if _open(http, one)]
        for _ in range(CROWD - len(opened)):
            answer = http.post(GENERATE, json=_body(1000 + len(opened), 2))
            if answer.status_code == 202:
                opened.append(answer.json()["data"]["task_id"])
        stopping.wait(0.5)
    for one in opened:
        http.post(f"/api/v1/image/task/{one}/cancel")


def _open(http: httpx.Client, task_id: str) -> bool:
    return http.get(f"/api/v1/image/task/{task_id}").json()["data"]["status"] in ("queued", "running")


def _body(seed: int, priority: int) -> dict[str, Any]:
    model, steps, side = CASE
    params = {"model": model, "steps": steps, "resolution": f"{side}x{side}", "seed": abs(seed), "cache": False}
    return {"text": bare.TEXT, "params": params, "priority": priority}
