"""Flower asks for a login everywhere but at its health check, and counts wrong ones."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
from django.conf import settings

from deploy.commands import CommandConfig, command
from deploy.product import ROOT, answers
from deploy.services import free_port
from generation.admission import failures
from imagegenx_site import redis_clients

LOGIN = ("admin", "a long password")


@pytest.fixture(scope="module")
def flower(django_db_setup: None) -> Iterator[str]:
    """Flower by its own command line: its address."""
    port = free_port()
    env = os.environ | {"FLOWER_BASIC_AUTH": ":".join(LOGIN), "REDIS_URL": settings.REDIS_URL, "LOG_LEVEL": "ERROR"}
    line = [sys.executable, "-m", *command("flower", CommandConfig(flower_port=port))]
    process = subprocess.Popen(line, env=env, cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{port}/healthcheck"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(autouse=True)
def fresh() -> None:
    client = redis_clients.text_client()
    for key in client.scan_iter("rl:*"):
        client.delete(key)


def get(address: str, password: str = "", **headers: str) -> httpx.Response:
    login = (LOGIN[0], password) if password else None
    return httpx.get(address, auth=login, headers=headers, trust_env=False, timeout=20)


@pytest.mark.parametrize("path", ["/", "/metrics", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks"])
def test_nothing_is_shown_without_the_login(flower: str, path: str) -> None:
    assert get(flower + path).status_code == 401
    assert get(flower + path, Authorization="Basic x").status_code == 401


def test_guesses_are_counted_together_with_those_at_the_admin(flower: str) -> None:
    assert get(f"{flower}/metrics", LOGIN[1]).status_code == 200
    failures.begin(failures.PASSWORD, LOGIN[0], "127.0.0.1")
    paths = ("/", "/metrics", "/api/workers", "/tasks", "/broker") * 5
    found = [get(flower + path, f"guess {number}") for number, path in enumerate(paths)]
    assert [answer.status_code for answer in found[:4]] == [401] * 4
    refused = [answer for answer in found if answer.status_code == 429]
    assert len(refused) >= 15, "a few come through, after pauses that double"
    assert int(refused[-1].headers["retry-after"]) >= 1
    assert get(f"{flower}/metrics", LOGIN[1]).status_code == 429
    failures.unlock(LOGIN[0])
    assert get(f"{flower}/metrics", LOGIN[1]).status_code == 200
    assert get(f"{flower}/metrics", LOGIN[1], **{"X-Forwarded-For": "203.0.113.9"}).status_code == 200


@pytest.mark.parametrize("said", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_another_site_stops_no_worker(flower: str, said: dict[str, str]) -> None:
    """A browser sends the login that it keeps whoever asks."""
    address = f"{flower}/api/worker/shutdown/gpu1@nowhere"
    assert httpx.post(address, auth=LOGIN, headers=said, trust_env=False, timeout=20).status_code == 403
    assert httpx.post(address, auth=LOGIN, trust_env=False, timeout=20).status_code == 404
