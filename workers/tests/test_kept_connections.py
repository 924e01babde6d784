"""A Celery worker keeps its connection to Postgres from message to message, and survives the loss of one."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from fixtures.fleet import wait_until

APP = """
import redis
from celery import shared_task
from django.conf import settings
from django.db import connection


@shared_task(name="probe")
def probe():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        redis.Redis.from_url(settings.REDIS_URL).rpush("probed", cursor.fetchone()[0])
"""
SEND = "from imagegenx_site.celery import app; app.send_task('probe', queue='p2')"


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_keeps_its_connection_and_replaces_a_lost_one(
    transactional_db: None, tmp_path: Path, pool: str
) -> None:
    (tmp_path / "connection_probe.py").write_text(APP)
    parts = connection.settings_dict
    name, password = quote(parts["USER"]), quote(parts["PASSWORD"] or "")
    address = f"postgres://{name}:{password}@{parts['HOST']}:{parts['PORT']}/{parts['NAME']}"
    env = os.environ | {"DATABASE_URL": address, "REDIS_URL": settings.REDIS_URL}
    env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}."
    redis = Redis.from_url(settings.REDIS_URL)
    redis.delete("probed", "p2")

    def probed(count: int) -> list[int]:
        for _ in range(count):
            subprocess.run([sys.executable, "-c", SEND], env=env, check=True)
        wait_until(lambda: redis.llen("probed") == count, 30)
        found = [int(pid) for pid in redis.lrange("probed", 0, -1)]
        redis.delete("probed")
        return found

    command = [sys.executable, "-m", "celery", "-A", "imagegenx_site", "worker", "-I", "connection_probe", "-P", pool]
    command += ["-c", "1", "-Q", "p2", "--without-gossip", "--without-mingle", "-n", "probe@test"]
    worker = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        (first,) = set(probed(3))
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
        (second,) = set(probed(2))
        assert second != first
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
