"""Counters of several processes: real processes that share a folder, one of which dies."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import prometheus_client as prometheus

from deploy.services import free_port
from imagegenx_site import metrics_files

PROCESS = """
import sys
from prometheus_client import Counter, Gauge
Gauge("bytes_held", "x", multiprocess_mode="livesum").set(100)
Counter("work", "x").inc(3)
print("ready", flush=True)
sys.stdin.read()
"""
SERVER = """
import os, sys, time
from imagegenx_site import metrics_files
from prometheus_client import Counter
Counter("work", "x").inc(4)
metrics_files.serve(int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def start(script: str, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    run = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_killed_process_leaves_its_counters_and_takes_its_gauges(tmp_path: Path) -> None:
    port = free_port()
    with (
        start(PROCESS, tmp_path) as lost,
        start(PROCESS, tmp_path) as living,
        start(SERVER, tmp_path, str(port)) as web,
    ):

        def figures() -> list[str]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                lines = answer.read().decode().splitlines()
            return sorted(line for line in lines if not line.startswith("#"))

        assert figures() == ["bytes_held 200.0", "work_total 10.0"]
        lost.send_signal(signal.SIGKILL)
        lost.wait()
        assert figures() == ["bytes_held 100.0", "work_total 10.0"]
        for process in (living, web):
            process.kill()


def test_a_taken_port_stops_no_process(monkeypatch: object) -> None:
    server, thread = prometheus.start_http_server(0, addr="127.0.0.1")
    metrics_files.serve(server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()
