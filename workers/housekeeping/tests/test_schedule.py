"""The schedule reaches beat, and every job is a file with a Celery function that the IO workers know."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from celery import current_app
from django.conf import settings

from deploy.commands import CommandConfig, command
from imagegenx_site import redis_clients
from workers import housekeeping
from workers.housekeeping.schedule import JOBS
from workers.stages import enlarge, postprocess


def test_every_file_has_its_jobs_in_the_table() -> None:
    files = {path.stem for path in Path(housekeeping.__path__[0]).glob("*.py")} - {"__init__", "schedule"}
    assert {job.function.__module__.rpartition(".")[2] for job in JOBS} == files
    registered = [name for name in current_app.tasks if name.startswith("maintenance.")]
    assert sorted(registered) == sorted(job.function.name for job in JOBS)


def test_the_io_worker_registers_the_jobs_and_reads_their_queue() -> None:
    line = command("io-worker", CommandConfig())
    assert "workers.housekeeping.schedule" in line[line.index("-I") + 1].split(",")
    assert {job.queue for job in JOBS} <= set(line[line.index("-Q") + 1].split(","))


@pytest.fixture
def empty_queue() -> None:
    redis_clients.text_client().delete("io")


@pytest.mark.usefixtures("empty_queue")
def test_beat_sends_the_jobs(tmp_path: Path) -> None:
    """The process itself, by its own command line: what is due first comes within seconds."""
    line = command("beat", CommandConfig(beat_schedule=tmp_path / "beat-schedule"))
    environment = os.environ | {"REDIS_URL": settings.REDIS_URL}
    beat = subprocess.Popen([sys.executable, "-m", *line], env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while "maintenance.spool" not in (sent := _sent()):
            assert beat.poll() is None, beat.stderr and beat.stderr.read().decode()
            assert time.monotonic() < deadline, sent
            time.sleep(0.2)
    finally:
        beat.terminate()
        beat.wait(20)
    assert {"maintenance.webhooks", "maintenance.spool"} <= set(sent)


def _sent() -> list[str]:
    return [json.loads(message)["headers"]["task"] for message in redis_clients.text_client().lrange("io", 0, -1)]


def test_the_table_is_what_beat_runs_from(tmp_path: Path) -> None:
    """In a process of its own: the app's settings as beat's scheduler leaves them."""
    script = (
        "import sys, json, imagegenx_site.celery as site; site.app.loader.import_default_modules();"
        "from celery.utils.imports import symbol_by_name;"
        "scheduler = symbol_by_name(sys.argv[1])(site.app, schedule_filename=sys.argv[2], lazy=False);"
        "print(json.dumps(site.app.conf.beat_schedule))"
    )
    line = command("beat", CommandConfig())
    arguments = [line[line.index("-S") + 1], str(tmp_path / "beat-schedule")]
    found = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    schedule = json.loads(found.stdout.splitlines()[-1])
    assert schedule["partitions"] == {
        "task": "maintenance.partitions",
        "schedule": 3600.0,
        "options": {"queue": "io", "expires": 3600.0},
    }
    assert {name: (entry["schedule"], entry["options"]["expires"]) for name, entry in schedule.items()} == {
        "partitions": (3600, 3600),
        "webhooks": (5, 10),
        "spool": (10, 20),
        "start_model_pulls": (30, 30),
        "retention": (3600, 3600),
        "archive": (3600, 3600),
        "returns": (30, 30),
        "leftovers": (600, 600),
        "results": (600, 600),
        "worker_queues": (3600, 3600),
        "usage": (3600, 3600),
        "tokens": (86400, 3600),
        "idempotency": (3600, 3600),
    }


def test_stages_in_processes_have_a_time_limit() -> None:
    """In threads Celery can end nothing: there calls have limits of their own."""
    for function in (postprocess.postprocess, enlarge.enlarge):
        assert (function.soft_time_limit, function.time_limit) == (600, 660)
