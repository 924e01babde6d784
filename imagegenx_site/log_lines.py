"""The one form of log lines, for every process: Django's, Celery's, uvicorn's and the watchdog's.

A line is a JSON object with `event`, `level`, `logger`, `timestamp`, the fields that the caller gave as `extra`, and
those bound to the request (request_id, user_id, api_key) or to the message of a worker (task_id, stage). Without
Django, so that the watchdog may use it.
"""

import contextlib
import json
import logging
import logging.config
import os
import re
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_CLOCK_JOBS: Final = "maintenance."


class ClockJobsAtDebug(logging.Filter):
    """What Celery says about jobs of the clock, two lines each two seconds, is of the level DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        data = getattr(record, "data", None)
        name = str(data.get("name", "")) if isinstance(data, dict) else ""
        if record.levelno != logging.INFO or not name.startswith(_CLOCK_JOBS):
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger().isEnabledFor(logging.DEBUG)


class RefusalsWithoutTraceback(logging.Filter):
    """A request that Django refuses is a line in the log, not a traceback that strangers could fill it with."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("django.security"):
            record.exc_info = None
        return True


def _fields_of_libraries(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Celery's `data` becomes fields, with the task that the message is about; uvicorn's coloured text goes."""
    event.pop("color_message", None)
    data = event.pop("data", None)
    if isinstance(data, dict) and "name" in data:
        event.update({"message_name": data["name"], "message_id": data.get("id")})
        if found := _UUID.search(str(data.get("args", ""))):
            event.setdefault("task_id", found.group())
        if isinstance(data.get("runtime"), float):
            event["duration_s"] = round(data["runtime"], 3)
    elif data is not None:
        event["data"] = data
    return event


def _task_in_the_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A line whose sentence names one task has its id as a field too: one search finds all lines of a task."""
    if "task_id" not in event:
        found = set(_UUID.findall(str(event.get("event", ""))))
        if len(found) == 1:
            event["task_id"] = found.pop()
    return event


SHARED: Final[list[Any]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.ExtraAdder(),
    _fields_of_libraries,
    _task_in_the_text,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]


def configuration(level: str, form: str) -> dict[str, Any]:
    """For logging.config.dictConfig. `form`: json, or console for people."""
    renderer: Any = structlog.dev.ConsoleRenderer()
    if form == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    lines = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": SHARED,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    }
    clock = "DEBUG" if level == "DEBUG" else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": lines},
        "filters": {"clock": {"()": ClockJobsAtDebug}, "refusals": {"()": RefusalsWithoutTraceback}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "lines", "filters": ["clock", "refusals"]}
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "httpx": {"level": "WARNING"},
            "django.request": {"level": "ERROR"},
            "celery.beat": {"level": clock},
        },
    }


def say(text: str, *_: Any) -> None:
    """A line from a signal handler, which must not go through `logging`: its locks and buffers may be held."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {"event": text.strip(), "logger": "celery.worker", "level": "info", "timestamp": now}
    with contextlib.suppress(OSError):
        os.write(2, json.dumps(line).encode() + b"\n")


def configure(level: str | None = None, form: str | None = None) -> None:
    """Let this process write such lines; without arguments as LOG_LEVEL and LOG_FORMAT of the environment say."""
    level, form = level or os.environ.get("LOG_LEVEL") or "INFO", form or os.environ.get("LOG_FORMAT") or "json"
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(True)
    logging.config.dictConfig(configuration(level, form))
