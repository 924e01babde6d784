"""What the containers' files make of a process: its command line and exactly its environment, with the folders and
ports of a test in place of those of a container.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deploy.product import ROOT

CONTAINERS = ROOT / "deploy" / "containers"
BASE = ROOT / "deploy" / "kubernetes" / "base"
# What the test machine needs of its own to start Python at all; nothing of the product.
_MACHINE = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONPATH")
_START = """
import sys
from deploy import commands
real = commands.command
commands.command = lambda name, config: [
    part.replace("workers.gpu.main", "fixtures.stand_in_engine") for part in real(name, config)
]
sys.argv = ["deploy.commands", sys.argv[1]]
commands.main()
"""


@dataclass
class Container:
    """`name`: of the pod or container; `process`: what it runs; `env`: as it will have it, of the product's only."""

    name: str
    process: str
    env: dict[str, str]
    mounts: tuple[str, ...] = ()
    probes: dict[str, list[str]] = field(default_factory=dict)

    def on_this_machine(self, folder: Path, **given: str) -> dict[str, str]:
        """The environment with /data shared, everything else the container's own, and the values that `given` names."""
        own = folder / self.name
        own.mkdir(exist_ok=True)
        places = {"/data": folder / "data", "/run/imagegenx": own / "run-imagegenx", "/tmp": own / "tmp"}
        for place in places.values():
            place.mkdir(exist_ok=True)
        moved = {key: _moved(value, places) for key, value in self.env.items()}
        machine = {key: os.environ[key] for key in _MACHINE if key in os.environ}
        return machine | moved | {"TMPDIR": str(places["/tmp"]), "PYTHONPATH": str(ROOT)} | given

    def start(self, folder: Path, **given: str) -> subprocess.Popen[bytes]:
        """The very command line; the GPU worker's engine is the stand-in."""
        env = self.on_this_machine(folder, **given)
        with (folder / f"{self.name}.log").open("ab") as log:
            run = [sys.executable, "-c", _START, self.process]
            return subprocess.Popen(run, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)


def _moved(value: str, places: dict[str, Path]) -> str:
    for place, folder in places.items():
        if value == place or value.startswith(f"{place}/"):
            return str(folder) + value.removeprefix(place)
    return value


def image_env() -> dict[str, str]:
    """ENV of the image's last stage."""
    text = (CONTAINERS / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, str] = {}
    for line in text.rsplit("FROM ", 1)[1].splitlines():
        if line.startswith("ENV "):
            found |= dict(pair.split("=", 1) for pair in line.removeprefix("ENV ").split())
    return {name: value for name, value in found.items() if name != "PATH"}


def documents() -> list[dict[str, Any]]:
    """Every object of the base manifests."""
    return [one for path in sorted(BASE.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text()) if one]


def pod(process: str, suffix: str, secret: dict[str, str]) -> Container:
    """A pod of the Deployment, as its controller names it; `secret`: what the reader puts into the Secret."""
    (deployment,) = (one for one in documents() if one["kind"] == "Deployment" and one["metadata"]["name"] == process)
    (config,) = (one["data"] for one in documents() if one["kind"] == "ConfigMap")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    name = f"{process}-7d9f8c6b5-{suffix}"
    sources = {"configMapRef": config, "secretRef": secret}
    env = image_env()
    for source in container.get("envFrom", []):
        ((kind, _),) = source.items()
        env |= sources[kind]
    for entry in container.get("env", []):
        path = entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        env[entry["name"]] = name if path == "metadata.name" else entry["value"]
    (argument,) = container["args"]
    mounts = tuple(mount["mountPath"] for mount in container["volumeMounts"])
    probes = {key: container[key]["exec"]["command"] for key in container if "exec" in (container[key] or {})}
    return Container(name, argument, env, mounts, probes)


def service(process: str, host: str, dotenv: dict[str, str]) -> Container:
    """A container of compose.yaml, whose host name is its id unless the file names one."""
    text = (CONTAINERS / "compose.yaml").read_text()
    found = yaml.safe_load(text)["services"][process]
    example = (CONTAINERS / "env.example").read_text()
    env_file = dict(line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#"))
    written = env_file | dotenv

    def filled(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(":")
        return written.get(name) or default.removeprefix("-").removeprefix("?")

    env = image_env() | written
    env |= {key: re.sub(r"\$\{([^}]*)\}", filled, value) for key, value in found["environment"].items()}
    (argument,) = found["command"]
    volumes = tuple(volume.split(":")[1] for volume in found["volumes"])
    return Container(found.get("hostname", host), argument, env, (*volumes, *_paths(found["tmpfs"])))


def _paths(tmpfs: list[str]) -> list[str]:
    return [entry.split(":")[0] for entry in tmpfs]
