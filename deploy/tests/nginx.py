"""A real nginx with the repository's rules, for tests: the machine's own, or Debian's package unpacked below NGINX_HOME
(default: ~/.cache/imagegenx-nginx) without being installed; no root is needed.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.processes import spawn
from deploy.services import free_port

RULES: Final = Path(__file__).resolve().parents[1] / "nginx" / "imagegenx.conf"
_HOME: Final = Path(os.environ.get("NGINX_HOME", Path.home() / ".cache" / "imagegenx-nginx"))
_PROGRAM: Final = Path("usr/sbin/nginx")
_QUICK: Final = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
_PATIENCE_S: Final = 60.0

# What the container image has round conf.d/default.conf, with every file below one folder.
_AROUND: Final = """{user}
daemon off;
pid {root}/nginx.pid;
error_log {root}/error.log info;
events {{}}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    include {root}/default.conf;
}}
"""


class NoNginx(Exception):
    """This machine can't have it; the text says why."""


def program() -> Path:
    """The nginx to run; fetches Debian's package when the machine has none. Raises NoNginx."""
    if found := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin"):
        return Path(found)
    if not (_HOME / _PROGRAM).exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise NoNginx("no nginx, and no apt-get and dpkg to fetch Debian's")
        _fetch()
    return _HOME / _PROGRAM


def _fetch() -> None:
    _HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_HOME) as folder:
        download = ["apt-get", "--quiet", *_QUICK, "download", "nginx"]
        done = _run(download, folder)
        if done.returncode and os.geteuid() == 0:  # the lists of packages may be missing
            _run(["apt-get", "--quiet", *_QUICK, "update"], folder)
            done = _run(download, folder)
        packages = list(Path(folder).glob("nginx_*.deb"))
        if done.returncode or not packages:
            raise NoNginx(f"no nginx, and apt-get can't fetch it: {done.stderr.strip()[-300:]}")
        unpacked = _run(["dpkg", "-x", packages[0].name, "root"], folder)
        if unpacked.returncode:
            raise NoNginx(f"Debian's nginx can't be unpacked: {unpacked.stderr.strip()[-300:]}")
        (_HOME / _PROGRAM).parent.mkdir(parents=True, exist_ok=True)
        (Path(folder) / "root" / _PROGRAM).replace(_HOME / _PROGRAM)


def _run(argv: list[str], folder: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)


def seconds_of(times: str) -> float:
    """A duration of nginx's (75s, 1h) in s."""
    return float(times[:-1]) * {"s": 1, "m": 60, "h": 3600}[times[-1]]


def read_timeouts(rules: str) -> list[str]:
    """How long nginx waits for a piece of an answer, in the order of the rules."""
    return re.findall(r"proxy_read_timeout (\w+);", rules)


@contextmanager
def running(folder: Path, web_port: int, faster: int) -> Iterator[str]:
    """The rules before the web process on `web_port`: the address. Waits for answers are `faster` times shorter."""
    port = free_port()
    rules = RULES.read_text().replace("server web:8000;", f"server 127.0.0.1:{web_port};")
    rules = rules.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    rules = re.sub(
        r"(?<=proxy_read_timeout )\w+", lambda found: f"{round(1000 * seconds_of(found[0]) / faster)}ms", rules
    )
    (folder / "default.conf").write_text(rules)
    user = "user root;" if os.geteuid() == 0 else ""  # or its workers could not read the test's folder
    (folder / "nginx.conf").write_text(_AROUND.format(root=folder, user=user))
    with (folder / "nginx.out").open("wb") as output:
        argv: list[str | Path] = [program(), "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"]
        process = spawn(argv, output=output)
    try:
        _wait(port, process, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def _wait(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError as error:
            output = (folder / "nginx.out").read_text()[-2000:]
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"nginx did not start: {output}") from error
            time.sleep(0.02)
