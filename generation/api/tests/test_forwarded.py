"""What a stranger writes into forwarded headers changes nothing, here and in the web process as it is started."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from deploy.commands import CommandConfig, command
from deploy.product import answers
from deploy.services import free_port
from generation.accounts.models import User
from imagegenx_site import environment
from imagegenx_site.http import forwarded

SPOOFS = {
    "x-forwarded-for": "203.0.113.9",
    "x-real-ip": "203.0.113.9",
    "forwarded": "for=203.0.113.9;proto=https;host=evil.example",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "evil.example",
    "x-forwarded-port": "9",
}
PROXY = (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("peer", "way", "named", "address"),
    [
        ("198.51.100.7", "203.0.113.9", PROXY, "198.51.100.7"),
        ("10.0.0.5", "203.0.113.9", PROXY, "203.0.113.9"),
        ("10.0.0.5", "203.0.113.9, 198.51.100.7, 10.0.0.6", PROXY, "198.51.100.7"),
        ("10.0.0.5", "10.0.0.9, 10.0.0.6", PROXY, "10.0.0.9"),
        ("::ffff:10.0.0.5", "203.0.113.9", PROXY, "203.0.113.9"),
        ("10.0.0.5", "", PROXY, "10.0.0.5"),
        ("127.0.0.1", "203.0.113.9", 0, "127.0.0.1"),
        ("127.0.0.1", "1.1.1.1, 203.0.113.9", 1, "203.0.113.9"),
        ("8.8.8.8", "203.0.113.9", 1, "8.8.8.8"),
    ],
)
def test_the_sender(rf: Any, settings: Any, peer: str, way: str, named: Any, address: str) -> None:
    """A number of proxies counts only for peers at private addresses: a stranger is none."""
    settings.TRUSTED_PROXIES = named
    assert forwarded.sender(rf.get("/", REMOTE_ADDR=peer, headers={"x-forwarded-for": way})) == address


@pytest.mark.parametrize("text", ["eleven", "11", "-1", "10.0.0.0/33", "nginx", "10.0.0.1,"])
def test_a_wrong_name_of_a_proxy_stops_the_process(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", text)
    with pytest.raises(ImproperlyConfigured, match="TRUSTED_PROXIES is"):
        environment.proxies("TRUSTED_PROXIES")


@pytest.mark.parametrize("named", [0, 1, PROXY])
def test_a_stranger_can_not_say_that_the_request_came_by_https(
    client_of: Callable[..., Client], owner: User, settings: Any, named: Any
) -> None:
    settings.TRUSTED_PROXIES = named
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    body, sent = {"text": "a star"}, {**SPOOFS, "host": "testserver"}
    for peer, scheme in (("8.8.8.8", "http"), ("10.0.0.5", "https" if named else "http")):
        client = client_of(owner)
        client.defaults["REMOTE_ADDR"] = peer
        made = client.post("/api/v1/image/generate", body, content_type="application/json", headers=sent).json()
        assert made["data"]["query_url"].startswith(f"{scheme}://testserver/api/v1/"), made


@pytest.mark.parametrize(
    ("host", "ports", "peer", "code"),
    [
        ("testserver", [], "8.8.8.8", 200),
        ("testserver:80", [], "8.8.8.8", 200),
        ("testserver:443", [], "8.8.8.8", 200),
        ("testserver:9", [], "8.8.8.8", 400),
        ("testserver:9", [], "10.0.0.5", 200),  # the proxy says so, and we can't know better
        ("testserver:9", [8000], "10.0.0.5", 400),
        ("testserver:8000", [8000], "10.0.0.5", 200),
        ("[::1]:9", [], "8.8.8.8", 400),
    ],
)
def test_the_port_of_links(
    client_of: Callable[..., Client], owner: User, settings: Any, host: str, ports: list[int], peer: str, code: int
) -> None:
    settings.ALLOWED_HOSTS, settings.TRUSTED_PROXIES, settings.HOST_PORTS = ["testserver", "[::1]"], PROXY, ports
    answer = client_of(owner).get("/api/v1/image/tasks", headers={"host": host}, REMOTE_ADDR=peer)
    assert answer.status_code == code, answer.content


def test_nothing_is_made_for_a_host_that_links_can_not_begin_with(
    client_of: Callable[..., Client], owner: User
) -> None:
    body = {"text": "a star"}
    client = client_of(owner)
    made = client.post(
        "/api/v1/image/generate", body, content_type="application/json", headers={"host": "testserver:9"}
    )
    assert made.status_code == 400
    assert client.get("/api/v1/image/tasks").json()["data"]["items"] == []


@pytest.fixture(scope="module")
def web(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The web process by its own command line, which believes no proxy: its address."""
    from django.db import connection

    port, database = free_port(), connection.settings_dict
    who = f"{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
    env = {"DATABASE_URL": f"postgres://{who}/{database['NAME']}", "REDIS_URL": django_settings.REDIS_URL}
    env |= {"PORT": str(port), "VAR_DIR": str(tmp_path_factory.mktemp("web")), "SECRET_KEY": "x" * 50}
    env |= {"ANONYMOUS_RPS": "100000", "LOG_LEVEL": "ERROR"}
    line = [sys.executable, "-m", *command("web", CommandConfig(port=port))]
    root = Path(django_settings.BASE_DIR)
    process = subprocess.Popen(line, env=os.environ | env, cwd=root)
    try:
        deadline = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{port}/healthz"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.django_db(transaction=True)
def test_another_address_each_time_is_no_way_round_the_limits(web: str) -> None:
    found: Counter[int] = Counter()
    with httpx.Client(trust_env=False) as client:
        for number in range(60):
            spoof = {name: value.replace("203.0.113.9", f"203.0.113.{number}") for name, value in SPOOFS.items()}
            key = {"authorization": "Bearer igx_0000000000_guess"}
            found[client.get(f"{web}/api/v1/models", headers=spoof | key).status_code] += 1
    assert 30 <= found[401] < 45, "30, and one after each pause of 1, 2, 4 ... s"
    assert found[429] > 15


@pytest.mark.django_db(transaction=True)
def test_metrics_and_names_of_workers_are_for_this_machine_without_a_proxy(web: str) -> None:
    plain = httpx.get(f"{web}/healthz/workers", trust_env=False).json()
    assert "workers" in plain
    for name, value in SPOOFS.items():
        assert httpx.get(f"{web}/metrics", headers={name: value}, trust_env=False).status_code == 403, name
        told = httpx.get(f"{web}/healthz/workers", headers={name: value}, trust_env=False).json()
        assert told.keys() == {"status"}, name
