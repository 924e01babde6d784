"""A second real S3 server for the tests: Ceph's object gateway, with the lifecycle rules and storage classes
that Swift lacks. One monitor, one OSD that keeps its objects in memory, one gateway, all on loopback.

Its programs come from Debian's packages, unpacked below CEPH_HOME (default: ~/.cache/imagegenx-ceph) without being
installed; no root is needed. A "day" of a lifecycle rule lasts DAY_S seconds here.
"""

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.tests.s3.swift import Server, free_ports

ACCESS_KEY, SECRET_KEY, REGION = "access-of-tests", "secret-of-tests", "us-east-1"
COLD = "GLACIER_IR"  # a storage class beside STANDARD
DAY_S = 10
_HOME = Path(os.environ.get("CEPH_HOME", Path.home() / ".cache" / "imagegenx-ceph"))
_PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")
_PATIENCE = 120.0  # s until the cluster and the gateway must answer
_CLUSTER, _OSD = "6f3a1c52-0c1e-4f55-9f1b-2f6a3f0b7a01", "6f3a1c52-0c1e-4f55-9f1b-2f6a3f0b7a02"
_PLACE = ("--rgw-zonegroup", "default", "--placement-id", "default-placement", "--storage-class", COLD)

_CONF = """[global]
fsid = {cluster}
mon host = v1:127.0.0.1:{mon}
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
osd crush chooseleaf type = 0
osd class dir = {lib}/rados-classes
erasure code dir = {lib}/ceph/erasure-code
plugin dir = {lib}/ceph
compressor dir = {lib}/ceph/compressor
keyring = {root}/keyring
log file = {root}/$name.log
admin socket = {root}/$name.asok
run dir = {root}
pid file =
public addr = 127.0.0.1
cluster addr = 127.0.0.1
mon data = {root}/mon
osd data = {root}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw.a]
rgw data = {root}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw lc debug interval = {day}
rgw lc max worker = 1
"""


def available() -> bool:
    """Whether this machine can have it: Debian's package tools are here."""
    return (_HOME / "root" / ".complete").exists() or bool(shutil.which("apt-get") and shutil.which("dpkg"))


def install() -> Path:
    """The folder with the unpacked packages; fetches them when they are not there."""
    root = _HOME / "root"
    if not (root / ".complete").exists():
        packages = _HOME / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        plan = ["apt-get", "--simulate", "install", "--no-install-recommends", *_PACKAGES]
        told = subprocess.run(plan, check=True, capture_output=True, text=True).stdout
        names = [line.split()[1] for line in told.splitlines() if line.startswith("Inst ")]
        subprocess.run(["apt-get", "--quiet", "download", *names], cwd=packages, check=True, capture_output=True)
        for package in packages.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
        shutil.rmtree(packages)
        (root / ".complete").touch()
    return root


class _Cluster:
    """The programs with their environment, and what runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = install() / "usr"
        lib = self.files / "lib" / "x86_64-linux-gnu"
        self.mon, self.gateway = free_ports(2)
        for name in ("mon", "osd", "rgw"):
            (root / name).mkdir(parents=True)
        (root / "ceph.conf").write_text(
            _CONF.format(cluster=_CLUSTER, mon=self.mon, gateway=self.gateway, root=root, lib=lib, day=DAY_S)
        )
        libraries = f"{lib}:{lib}/ceph:{self.files.parent}/lib/x86_64-linux-gnu"
        self.env = {
            "PATH": os.defpath,
            "LD_LIBRARY_PATH": libraries,
            "PYTHONPATH": str(self.files / "lib" / "python3" / "dist-packages"),
            "CEPH_CONF": str(root / "ceph.conf"),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def do(self, program: str, *arguments: str) -> None:
        """Run one of the programs to its end."""
        argv = [str(self.files / "bin" / program), *arguments]
        argv = ["/usr/bin/python3", *argv] if program == "ceph" else argv
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False, timeout=_PATIENCE)
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr[-2000:]}")

    def start(self, program: str, *arguments: str) -> None:
        """Start one of the programs; it stays in the foreground of a session of its own."""
        with open(self.root / f"{program}.out", "wb") as log:
            argv = [str(self.files / "bin" / program), "-f", *arguments]
            started = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log, start_new_session=True)
        self.processes.append(started)

    def stop(self) -> None:
        """End everything, the gateway first."""
        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGKILL)  # nothing of it lasts
            process.wait()


@contextmanager
def running(root: Path) -> Iterator[Server]:
    """A running gateway with empty storage below `root`; stopped at the end."""
    cluster = _Cluster(root)
    keyring = str(root / "keyring")
    try:
        for name in ("mon.", "client.admin", "client.rgw.a", "osd.0"):
            make = ["--gen-key", "-n", name, "--cap", "mon", "allow *", "--cap", "osd", "allow *"]
            cluster.do("ceph-authtool", keyring, *make, *([] if (root / "keyring").exists() else ["--create-keyring"]))
        address = f"v1:127.0.0.1:{cluster.mon}"
        cluster.do("ceph-mon", "--mkfs", "-i", "a", "--fsid", _CLUSTER, "--keyring", keyring, "--public-addr", address)
        cluster.start("ceph-mon", "-i", "a", "--public-addr", address)
        cluster.do("ceph", "osd", "new", _OSD, "0", "--connect-timeout", "60")
        cluster.do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", _OSD)
        cluster.do("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=tests")
        cluster.start("ceph-osd", "-i", "0")
        user = ["--uid=tests", "--display-name=tests", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
        cluster.do("radosgw-admin", "user", "create", *user)
        cluster.do("radosgw-admin", "zonegroup", "placement", "add", *_PLACE)
        cluster.do(
            "radosgw-admin", "zone", "placement", "add", "--rgw-zone", "default", *_PLACE[2:], "--data-pool", "cold"
        )
        cluster.start("radosgw", "-n", "client.rgw.a")
        _wait_for(f"http://127.0.0.1:{cluster.gateway}/", root / "radosgw.out")
        yield Server("ceph", cluster.gateway, ACCESS_KEY, SECRET_KEY, REGION)
    finally:
        cluster.stop()


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"Ceph's gateway does not answer; its log ends: {log.read_text()[-2000:]}")
