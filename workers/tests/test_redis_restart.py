"""Redis restarts during a task with late acknowledgement: the worker must finish it and process the next one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.embedded_redis import EmbeddedRedis, RedisConfig
from deploy.processes import stop
from deploy.services import free_port, wait_ready

SEND = """
import sys
from imagegenx_site.celery import app
app.send_task("nap", (sys.argv[1], float(sys.argv[2])), queue="p2")
"""
APP = """
import os, time
from imagegenx_site.celery import app

@app.task(name="nap")
def nap(path, seconds):
    open(path + ".begun", "a").write("x")
    time.sleep(seconds)
    open(path, "a").write("x")
"""


class Server:
    """A Redis server that restarts empty."""

    def __init__(self, folder: Path) -> None:
        self.redis = EmbeddedRedis(RedisConfig(folder / "data", free_port(), "secret", durable=False))
        self.redis.initialise()
        self.url = self.redis.url
        self.log = folder / "redis.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = self.redis.start(output)
        wait_ready(self.redis, self.process, self.log)

    def restart(self, away: float) -> None:
        self.process.kill()
        self.process.wait()
        time.sleep(away)
        self.start()


@pytest.fixture
def server(tmp_path):
    tmp_path.chmod(0o755)
    server = Server(tmp_path)
    yield server
    stop(server.process, server.redis.stop_signal)
    server.redis.close()


def wait_for(path, seconds=20):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_survives_the_restart_of_redis(server, tmp_path, pool):
    (tmp_path / "restart_probe.py").write_text(APP)
    env = os.environ | {"REDIS_URL": server.url, "PYTHONPATH": f"{tmp_path}{os.pathsep}."}
    command = [sys.executable, "-m", "celery", "-A", "imagegenx_site", "worker", "-I", "restart_probe", "-P", pool]
    command += ["-c", "2", "-Q", "p2", "--without-gossip", "--without-mingle", "-n", "probe@test"]
    log = (tmp_path / "worker.log").open("wb")
    worker = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        subprocess.run([sys.executable, "-c", SEND, str(tmp_path / "first"), "3"], env=env, check=True)
        wait_for(tmp_path / "first.begun")
        server.restart(away=0.5)
        wait_for(tmp_path / "first")
        subprocess.run([sys.executable, "-c", SEND, str(tmp_path / "second"), "0"], env=env, check=True)
        wait_for(tmp_path / "second")
        assert worker.poll() is None
        assert (tmp_path / "first").read_text() == "x"
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
        log.close()
    assert b"Unrecoverable" not in (tmp_path / "worker.log").read_bytes()
