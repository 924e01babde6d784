"""Clients that submit over HTTP while the web process is killed: each repeats its request, under one idempotency key,
until it is accepted.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from uuid import UUID

import httpx

from imagegenx_site.ids import from_public, uuid7

PATIENCE_S = 120.0


class Clients:
    """Clients with one key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {key}"}
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="client")

    def submit(self, count: int, steps: int, accepted: int) -> Callable[[], list[UUID]]:
        """Starts `count` requests, returns once `accepted` of them are; the answer waits for the others."""
        asked = [self._threads.submit(self._until_accepted, steps, number) for number in range(count)]
        end = time.monotonic() + PATIENCE_S
        while sum(map(Future.done, asked)) < accepted and time.monotonic() < end:
            time.sleep(0.002)
        return lambda: [future.result() for future in asked if wait([future])]

    def _until_accepted(self, steps: int, number: int) -> UUID:
        params = {"resolution": "256x256", "steps": steps, "seed": number, "cache": False}
        body = {"text": "red circle", "params": params}
        headers = self.headers | {"Idempotency-Key": uuid7().hex}
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                with httpx.Client(base_url=self.url, headers=headers, timeout=10, trust_env=False) as client:
                    answer = client.post("/api/v1/image/generate", json=body)
                if answer.status_code == 202:
                    return _id(answer.json()["data"]["task_id"])
                if answer.status_code < 500 and answer.status_code not in (409, 429):
                    raise AssertionError(f"refused: {answer.text}")
            except httpx.TransportError as error:
                if time.monotonic() > end:
                    raise TimeoutError("the web process did not come back") from error
            if time.monotonic() > end:
                raise TimeoutError("the web process does not accept tasks")
            time.sleep(0.1)

    def close(self) -> None:
        self._threads.shutdown(wait=True)


def _id(public: str) -> UUID:
    found = from_public(public)
    assert found is not None
    return found
