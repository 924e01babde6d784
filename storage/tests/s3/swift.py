"""A real S3 server for the tests: OpenStack Swift with its s3api, on loopback, one copy of everything, in a folder
of its own.

Swift gets a virtual environment of its own (its pins do not fit ours), made once in SWIFT_HOME (default:
~/.cache/imagegenx-swift).
"""

import getpass
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REQUIREMENT = "swift==2.38.3"
ACCESS_KEY, SECRET_KEY, REGION = "test:tester", "testing", "us-east-1"
_HOME = Path(os.environ.get("SWIFT_HOME", Path.home() / ".cache" / "imagegenx-swift"))
_PATIENCE = 60.0  # s until every server must listen

_BACKEND = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {root}
devices = {root}/devices
mount_check = false
user = {user}
workers = 0
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {root}
user = {user}
workers = 0
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
"""
_FIRST = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk")
_LAST = ("copy", "slo", "dlo", "symlink")
_PIPELINE = (*_FIRST, "s3api", "tempauth", *_LAST[:3], "versioned_writes", _LAST[3], "proxy-server")


@dataclass(frozen=True)
class Server:
    """A running S3 server, and how to enter it."""

    name: str
    port: int
    access_key: str
    secret_key: str
    region: str

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def install() -> Path:
    """The folder of Swift's programs; makes the environment when it is not there."""
    programs = _HOME / "bin"
    if not (programs / "swift-proxy-server").exists():
        subprocess.run([sys.executable, "-m", "venv", str(_HOME)], check=True)
        subprocess.run([programs / "pip", "install", "--quiet", REQUIREMENT], check=True)
    return programs


@contextmanager
def running(root: Path) -> Iterator[Server]:
    """A running server with empty storage below `root`; stopped at the end."""
    programs = install()
    names = ("account", "container", "object", "proxy")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    _configure(root, programs, ports)
    processes = []
    try:
        for name in names:
            log = open(root / f"{name}.log", "wb")  # noqa: SIM115  # lives as long as the process
            command = [str(programs / f"swift-{name}-server"), str(root / f"{name}.conf"), "-v"]
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
            log.close()
        for name, process in zip(names, processes, strict=True):
            wait_for(ports[name], root / f"{name}.log", process)
        yield Server("swift", ports["proxy"], ACCESS_KEY, SECRET_KEY, REGION)
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            process.wait(10)


def _configure(root: Path, programs: Path, ports: dict[str, int]) -> None:
    (root / "devices" / "disk").mkdir(parents=True)
    (root / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n")
    values = {"root": root, "user": getpass.getuser()}
    for name in ("account", "container", "object"):
        (root / f"{name}.conf").write_text(_BACKEND.format(name=name, port=ports[name], **values))
        builder = str(programs / "swift-ring-builder")
        device = f"r1z1-127.0.0.1:{ports[name]}/disk"
        for step in (["create", "4", "1", "1"], ["add", device, "1"], ["rebalance"]):
            subprocess.run([builder, f"{name}.builder", *step], cwd=root, check=True, capture_output=True)
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in _FIRST + _LAST)
    (root / "proxy.conf").write_text(
        _PROXY.format(port=ports["proxy"], pipeline=" ".join(_PIPELINE), **values) + filters
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(port: int, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"Nothing listens on port {port}; its log ends: {log.read_text()[-2000:]}")
