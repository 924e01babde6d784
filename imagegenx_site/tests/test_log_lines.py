"""What the lines of every process look like: real processes, their real output."""

import json
import logging
import os
import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest

TASK = str(uuid4())


def lines_of(script: str, **env: str) -> list[dict[str, Any]]:
    """What a process of ours writes that runs this script after the settings were read; every line must be JSON."""
    start = "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'imagegenx_site.settings'\n"
    start += "import django; django.setup()\nimport logging\nlog = logging.getLogger('a.module')\n"
    run = [sys.executable, "-c", start + script]
    done = subprocess.run(run, env=os.environ | env, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_fields_given_as_extra_are_in_the_line() -> None:
    (line,) = lines_of("log.error('gone', extra={'alert': 'worker_lost', 'worker': 'gpu1', 'task_id': 'x'})")
    assert {name: line[name] for name in ("event", "level", "logger", "alert", "worker", "task_id")} == {
        "event": "gone",
        "level": "error",
        "logger": "a.module",
        "alert": "worker_lost",
        "worker": "gpu1",
        "task_id": "x",
    }
    assert line["timestamp"].endswith("Z")


def test_a_sentence_that_names_one_task_has_its_id_as_a_field() -> None:
    one, two = lines_of(f"log.info('row of %s is left', '{TASK}'); log.info('%s and {uuid4()}', '{TASK}')")
    assert one["task_id"] == TASK
    assert "task_id" not in two


def test_a_value_that_json_does_not_know_costs_no_line() -> None:
    (line,) = lines_of("log.info('x', extra={'error': ValueError('why')})")
    assert line["error"] == "why"


def test_a_warning_of_python_is_a_line_too() -> None:
    (line,) = lines_of("import warnings; warnings.warn('old way')")
    assert line["level"] == "warning"
    assert "old way" in line["event"]


@pytest.mark.parametrize(
    ("level", "seen"), [("INFO", ["postprocess"]), ("DEBUG", ["maintenance.spool", "postprocess"])]
)
def test_jobs_of_the_clock_are_said_at_debug_only(level: str, seen: list[str]) -> None:
    script = """
for name in ('maintenance.spool', 'postprocess'):
    data = {'name': name, 'id': 'm', 'args': "('%s',)", 'runtime': 0.25}
    logging.getLogger('celery.app.trace').info('Task %%s', name, extra={'data': data})
"""
    found = lines_of(script % TASK, LOG_LEVEL=level)
    assert [line["message_name"] for line in found] == seen
    assert found[-1] | {"task_id": TASK, "message_id": "m", "duration_s": 0.25} == found[-1]


def test_the_lines_of_a_message_say_which_task_and_stage(caplog: pytest.LogCaptureFixture) -> None:
    script = f"""
from celery import shared_task
from imagegenx_site.celery import app
@shared_task(name='upload')
def upload(task_id): log.warning('inside')
upload.apply(('{TASK}',))
log.warning('outside')
"""
    inside, outside = (line for line in lines_of(script) if line["logger"] == "a.module")
    assert (inside["task_id"], inside["stage"]) == (TASK, "upload")
    assert "task_id" not in outside
    assert logging.getLogger().handlers  # pytest's own: nothing of this test was configured here


def test_the_watchdog_writes_such_lines(tmp_path: Any) -> None:
    config = {"redis_url": "redis://127.0.0.1:1/0", "worker": 'a"b', "pid": 0, "pool": "p", "hang": 0.2}
    script = [sys.executable, "-m", "workers.gpu.watchdog"]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(config).encode() + b"\n")
        process.stdin.flush()
        line = json.loads(process.stderr.readline())
        process.kill()
    assert (line["level"], line["logger"]) == ("warning", "workers.gpu.watchdog")
    assert 'lease of a"b not renewed' in line["event"]
    assert line["timestamp"]
