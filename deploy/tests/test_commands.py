"""The command lines, and the containers that use them."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.commands import PROCESSES, CommandConfig, command, process_environment
from deploy.product import ROOT, STOP_ORDER

COMPOSE = ROOT / "deploy" / "containers" / "compose.yaml"


def test_every_process_has_a_command_and_a_place_in_the_stop_order() -> None:
    for name in PROCESSES:
        assert command(name, CommandConfig())
    assert {name for stage in STOP_ORDER for name in stage} == set(PROCESSES)


def test_two_gpu_workers_have_queues_of_their_own() -> None:
    line = command("gpu-worker", CommandConfig(worker="gpu7"))
    assert line[line.index("-Q") + 1] == "p0,p1,p2,p3,dq.gpu7"
    assert line[line.index("-n") + 1] == "gpu7@%h"


def test_enlargements_and_webhooks_have_queues_of_their_own() -> None:
    names = ("cpu-worker", "enlarge-worker", "io-worker", "webhook-worker")
    lines = [command(name, CommandConfig()) for name in names]
    assert [line[line.index("-Q") + 1] for line in lines] == ["cpu", "enlarge", "io", "webhooks"]


@pytest.mark.parametrize("arguments", [[], ["no-such-process"]])
def test_an_unknown_process_is_one_sentence(arguments: list[str]) -> None:
    run = [sys.executable, "-m", "deploy.commands", *arguments]
    result = subprocess.run(run, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: name one process: web, gpu-worker")


def test_compose_starts_every_process() -> None:
    text = COMPOSE.read_text()
    for name in PROCESSES:
        assert f"command: [{name}]" in text


def test_the_image_gets_every_package_of_ours() -> None:
    ignored = Path(ROOT / "deploy" / "containers" / "Dockerfile.dockerignore").read_text().splitlines()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= {line.removeprefix("!") for line in ignored if line.startswith("!")}


def test_kubernetes_starts_every_process_that_belongs_there() -> None:
    text = "".join(path.read_text() for path in (ROOT / "deploy" / "kubernetes" / "base").glob("*.yaml"))
    for name in set(PROCESSES) - {"flower", "backup"}:  # a cluster's Postgres has an operator that backs it up
        assert f"args: [{name}]" in text
        assert f"/run/imagegenx/run/{name}.ready" in text or name == "web"


def test_kustomize_names_every_file() -> None:
    base = ROOT / "deploy" / "kubernetes" / "base"
    listed = set((base / "kustomization.yaml").read_text().split("resources:")[1].replace("- ", "").split())
    assert listed == {path.name for path in base.glob("*.yaml")} - {"kustomization.yaml"}


def test_the_gpu_worker_starts_with_its_allocator_and_the_user_may_choose_another(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    own = process_environment("gpu-worker")
    assert own["MALLOC_MMAP_THRESHOLD_"] == str(4 << 30)
    assert "MALLOC_ARENA_MAX" not in own
    assert process_environment("web") == {"PROCESS_NAME": "web"}
