"""The processes that the manifests and the compose file make, started with exactly their command lines and environment
against real Postgres and Redis: what they are called, what they share, how a hung one is found.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from django.conf import settings
from django.db import connection

from deploy import commands, manifests
from deploy.commands import PROCESSES
from deploy.product import ROOT, answers
from deploy.services import free_port
from deploy.tests.container_env import Container, documents, image_env, pod, service
from fixtures.fleet import wait_until
from generation.accounts.models import ApiKey, Plan, Team, User
from generation.catalogue.models import Lora
from generation.catalogue.tests.test_loras import lora_bytes
from generation.queue import client as queue_client
from generation.tasks.models import Task
from generation.telemetry import alerts
from generation.telemetry.models import Alert
from imagegenx_site import redis_clients
from workers.recovery import lost_workers
from workers.recovery.processes import Processes

IN_A_CLUSTER = set(PROCESSES) - {"flower", "backup"}
SHARED = ("MEDIA_ROOT", "RAW_ROOT", "SPOOL_ROOT", "LORA_ROOT", "CALIBRATION_FILE")


def secret() -> dict[str, str]:
    parts = connection.settings_dict
    account = f"{quote(parts['USER'])}:{quote(parts['PASSWORD'] or '')}"
    return {
        "SECRET_KEY": settings.SECRET_KEY,
        "DATABASE_URL": f"postgres://{account}@{parts['HOST']}:{parts['PORT']}/{parts['NAME']}",
        "REDIS_URL": settings.REDIS_URL,
        "METRICS_TOKEN": "a token",
    }


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a container, with free ports for the two that containers may share."""
    running: list[subprocess.Popen[bytes]] = []

    def run(container: Container, **given: str) -> subprocess.Popen[bytes]:
        ports = {"HOST": "127.0.0.1", "PORT": str(free_port()), "METRICS_PORT": str(free_port())}
        process = container.start(tmp_path, **(ports | given))
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ready(folder: Path, container: Container) -> bool:
    return (folder / container.name / "run-imagegenx" / "run" / f"{container.process}.ready").exists()


def log(folder: Path, container: Container) -> str:
    return (folder / f"{container.name}.log").read_text()[-3000:]


def living() -> list[str]:
    return sorted(alerts.name_of(name) for name in queue_client.living_workers())


def members() -> list[tuple[str, int, int]]:
    return [(pool.name, pool.live, pool.wanted) for pool in alerts.pools().state()]


def loops_of(folder: Path, container: Container) -> Path:
    return folder / container.name / "run-imagegenx" / "run" / f"{container.process}.alive"


def body_of(request: urllib.request.Request) -> bytes:
    with urllib.request.urlopen(request) as answer:
        return bytes(answer.read())


def is_whole() -> bool:
    alerts.clear_whole()  # as the reconciler does each second
    return alerts.health()[0]


# ---- what is written ------------------------------------------------------------------------------------------------


def test_the_manifests_are_those_of_the_table() -> None:
    for name, text in manifests.rendered().items():
        assert (manifests.BASE / name).read_text() == text, f"run python -m deploy.manifests: {name}"


def test_no_variable_of_a_manifest_is_unknown() -> None:
    read = "\n".join(
        Path(path).read_text() for path in ("imagegenx_site/settings.py", "deploy/commands.py", "deploy/health.py")
    )
    known = {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "HF_HUB_OFFLINE"}
    for container in [pod(name, "abcde", {}) for name in IN_A_CLUSTER] + [
        service(name, "0a1b2c3d4e5f", {}) for name in PROCESSES
    ]:
        foreign = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_BASIC_AUTH", "BACKUP_DIR", "GRAFANA_PASSWORD"}
        for name in container.env.keys() - known - foreign:
            assert f'"{name}"' in read, f"{container.name} sets {name}, which nobody reads"


@pytest.mark.parametrize("name", sorted(IN_A_CLUSTER))
def test_what_must_be_shared_lies_on_the_shared_volume(name: str) -> None:
    for container in (pod(name, "abcde", {}), service(name, "0a1b2c3d4e5f", {})):
        assert "/data" in container.mounts
        for setting in SHARED:
            assert container.env[setting].startswith("/data/"), (container.name, setting)
        assert container.env["VAR_DIR"] == "/run/imagegenx"


def test_every_process_in_a_cluster_has_probes_that_see_a_hung_loop() -> None:
    for name in IN_A_CLUSTER - {"web"}:
        assert pod(name, "abcde", {}).probes["livenessProbe"] == ["python", "-m", "deploy.health", name]


def test_prometheus_may_ask_every_pod() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in documents() if one["kind"] == "NetworkPolicy"}
    assert policies["metrics-in"]["podSelector"] == {"matchLabels": {"app": "imagegenx"}}
    ports = [port["port"] for rule in policies["metrics-in"]["ingress"] for port in rule["ports"]]
    assert ports == [manifests.METRICS_PORT] == [int(image_env()["METRICS_PORT"])]


# ---- what runs ------------------------------------------------------------------------------------------------------


def test_a_pod_takes_the_place_of_a_dead_one_whatever_it_is_called(start: Start, user: User, tmp_path: Path) -> None:
    first, second = pod("gpu-worker", "abcde", secret()), pod("gpu-worker", "fghij", secret())
    processes = {one.name: start(one) for one in (first, second)}
    wait_until(lambda: all(ready(tmp_path, one) for one in (first, second)), 60, lambda: log(tmp_path, first))
    wait_until(lambda: members() == [("gpu-worker", 2, 2)], 20)
    assert living() == [first.name, second.name]
    assert is_whole()
    processes[first.name].kill()
    wait_until(lambda: living() == [second.name], 10)
    lost_workers.run(redis_clients.text_client())  # as the reconciler does
    assert [alert.worker for alert in Alert.objects.filter(cleared_at=None)] == [first.name]
    assert members() == [("gpu-worker", 1, 2)]
    assert not is_whole()
    third = pod("gpu-worker", "klmno", secret())
    start(third)
    wait_until(is_whole, 60, lambda: log(tmp_path, third))
    assert living() == [second.name, third.name]


def test_scaled_containers_of_compose_are_two_workers(start: Start, user: User, tmp_path: Path) -> None:
    dotenv = {"POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r", "SECRET_KEY": settings.SECRET_KEY}
    names = []
    for host in ("0a1b2c3d4e5f", "5f4e3d2c1b0a"):
        one = service("gpu-worker", host, dotenv)
        assert "WORKER_NAME" not in one.env
        line = [sys.executable, "-c", f"import socket; socket.gethostname = lambda: {host!r}\n{_SHOW}"]
        shown = subprocess.run(line, env=one.on_this_machine(tmp_path), capture_output=True, text=True, check=True)
        names.append(shown.stdout.split())
    assert names == [[f"p0,p1,p2,p3,dq.{host}", f"{host}@%h"] for host in ("0a1b2c3d4e5f", "5f4e3d2c1b0a")]


_SHOW = """
from deploy.commands import CommandConfig, command
line = command("gpu-worker", CommandConfig.from_environment())
print(line[line.index("-Q") + 1], line[line.index("-n") + 1])
"""


def test_a_lora_uploaded_at_web_is_used_by_a_gpu_worker(start: Start, user: User, tmp_path: Path) -> None:
    user.team = Team.objects.create(name="shop", plan=Plan.objects.get(name="paid"))
    user.save()
    web, worker = pod("web", "abcde", secret()), pod("gpu-worker", "abcde", secret())
    port, metrics_port = free_port(), free_port()
    url, client = f"http://127.0.0.1:{port}", httpx.Client(headers={"Authorization": f"Bearer {ApiKey.make(user)[1]}"})
    start(web, PORT=str(port))
    start(worker, METRICS_PORT=str(metrics_port))
    wait_until(lambda: answers(f"{url}/readyz"), 60, lambda: log(tmp_path, web))
    data = lora_bytes()
    form = {"name": "ink", "base_family": "sd15"}
    sent = client.post(f"{url}/api/v1/lora/upload", data=form, files={"file": ("ink.safetensors", data)})
    assert sent.status_code == 201, sent.text
    assert Path(Lora.objects.get(name="ink").source).parent == tmp_path / "data" / "loras"
    params = {"loras": ["ink"], "resolution": "256x256", "steps": 2, "model": "mini"}
    body = {"text": "a red circle", "params": params}
    made = client.post(f"{url}/api/v1/image/generate", json=body)
    assert made.status_code == 202, made.text
    wait_until(lambda: Task.objects.get().status == "generated", 60, lambda: log(tmp_path, worker))
    assert Task.objects.get().parameters.loras[0].sha256 == hashlib.sha256(data).hexdigest()
    own = urllib.request.Request(f"http://127.0.0.1:{metrics_port}/metrics")
    wait_until(lambda: b'imagegenx_task_moves_total{to="generated"} 1.0' in body_of(own), 10)
    asked = urllib.request.Request(
        f"{url}/metrics", headers={"Authorization": "Bearer a token", "Host": "10.1.2.3:8000"}
    )
    wait_until(lambda: b'imagegenx_workers{pool="gpu-worker",state="live"} 1.0' in body_of(asked), 10)


@pytest.mark.parametrize("name", ["cpu-worker", "io-worker", "webhook-worker", "enlarge-worker", "beat", "reconciler"])
def test_a_hung_process_is_found_by_its_probe(start: Start, user: User, tmp_path: Path, name: str) -> None:
    one = pod(name, "abcde", secret())
    process = start(one)
    wait_until(lambda: ready(tmp_path, one), 60, lambda: log(tmp_path, one))
    env = one.on_this_machine(tmp_path)
    alive = Path(env["VAR_DIR"]) / "run" / f"{name}.alive"
    wait_until(alive.exists, 10, lambda: log(tmp_path, one))

    def probe() -> int:
        command = [sys.executable, *one.probes["livenessProbe"][1:]]
        return subprocess.run(command, env=env, check=False, capture_output=True).returncode

    touched = alive.stat().st_mtime
    wait_until(lambda: alive.stat().st_mtime > touched, 10)
    assert probe() == 0
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    minute_ago = time.time() - 61
    os.utime(alive, (minute_ago, minute_ago))  # a minute passes
    assert probe() == 1
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: probe() == 0, 10)
    assert members() == [(name, 1, 1)]
    process.terminate()
    process.wait(15)
    assert alerts.pools().state() == []


def test_a_silent_process_raises_an_alert_that_clears_with_its_successor(user: User) -> None:
    pools = alerts.pools()
    pools.renew("cpu-worker-old-1", 0.05)
    pools.arrive("cpu-worker-old-1", "cpu-worker")
    judge = Processes()
    judge.run()
    time.sleep(0.06)
    judge.run()
    assert not Alert.objects.exists()  # just started: nobody is judged before all had time to renew
    judge._judge_from = 0.0
    judge.run()
    assert [(row.worker, row.pool, row.kind) for row in Alert.objects.filter(cleared_at=None)] == [
        ("cpu-worker-old", "cpu-worker", "process_lost")
    ]
    assert members() == [("cpu-worker", 0, 1)]
    pools.renew("cpu-worker-new-2", 30)
    pools.arrive("cpu-worker-new-2", "cpu-worker")
    judge.run()
    assert not Alert.objects.filter(cleared_at=None).exists()
    assert members() == [("cpu-worker", 1, 1)]


def test_a_container_that_starts_again_is_not_ready_by_its_old_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    (tmp_path / "run").mkdir()
    for suffix in ("ready", "alive"):
        (tmp_path / "run" / f"io-worker.{suffix}").write_text("1")
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, argv: started.append(argv))
    monkeypatch.setattr(sys, "argv", ["deploy.commands", "io-worker"])
    for name in ("WORKER_NAME", "PROCESS_NAME", "PROMETHEUS_MULTIPROC_DIR"):
        monkeypatch.setenv(name, "")  # put back after the test
    commands.main()
    assert len(started) == 1
    assert [path.name for path in (tmp_path / "run").iterdir() if path.is_file()] == []


def test_every_line_of_a_process_is_json(start: Start, user: User, tmp_path: Path) -> None:
    """The banners too: what a collector of lines gets from a container that starts, works a moment and stops."""
    containers = [pod(name, "lines", secret()) for name in ("web", "io-worker", "beat")]
    ports = {one.name: free_port() for one in containers}
    processes = [start(one, PORT=str(ports[one.name])) for one in containers]
    web = containers[0]
    wait_until(lambda: answers(f"http://127.0.0.1:{ports[web.name]}/readyz"), 60, lambda: log(tmp_path, web))
    for one in containers[1:]:
        wait_until(loops_of(tmp_path, one).exists, 60, lambda one=one: log(tmp_path, one))  # type: ignore[misc]
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(30)
    for one in containers:
        lines = (tmp_path / f"{one.name}.log").read_text().splitlines()
        for line in lines:
            assert line.startswith("{"), (one.name, line)
            assert {"event", "level", "logger", "timestamp"} <= json.loads(line).keys()


def test_two_web_processes_tell_one_count(user: User, tmp_path: Path) -> None:
    """Started by hand with two processes and no folder for their counters."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    env |= secret() | {"VAR_DIR": str(tmp_path), "METRICS_TOKEN": ""}
    line = ["imagegenx_site.web_server", "imagegenx_site.asgi:application", "--port", str(port), "--workers", "2"]
    with (tmp_path / "web.log").open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", *line], cwd=ROOT, env=env, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/readyz"), 60, lambda: (tmp_path / "web.log").read_text()[-2000:])
        for _ in range(20):
            urllib.request.urlopen(f"{url}/healthz").close()
        name = 'imagegenx_http_seconds_count{method="GET",route="healthz",status="200"}'
        counts = [body_of(urllib.request.Request(f"{url}/metrics")).decode() for _ in range(8)]
        told = [line.rsplit(" ", 1)[1] for text in counts for line in text.splitlines() if line.startswith(name)]
        assert told == ["20.0"] * 8
    finally:
        process.terminate()
        process.wait(20)
