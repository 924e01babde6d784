"""The page of queues and workers: the backlog of each class, the workers with their tasks, the stages after the GPU.

The backlog is read from the buffer in Redis, so that the page costs the same with ten or a million waiting tasks; only
the rows of running tasks are read.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.db.models import Count
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.generic import TemplateView
from redis.exceptions import RedisError
from unfold.views import UnfoldModelAdminViewMixin

from generation.queue import client as queue_client
from generation.queue.classes import CLASSES
from generation.tasks import estimates, open_tasks
from generation.tasks.models import Status, Task
from generation.tasks.stages import STAGES
from generation.telemetry import alerts
from imagegenx_site import redis_clients

_NAMES: Final = ("P0 urgent", "P1 paid", "P2 normal", "P3 test")
_STATES: Final = {Status.RUNNING: "running on a GPU worker"} | {
    stage.source: f"waiting for {stage.label}" for stage in STAGES if not stage.after_delivery
}
_MOST_LISTED: Final = 200  # tasks of one worker


class QueuesView(UnfoldModelAdminViewMixin, TemplateView):
    title = "Queues and workers"
    permission_required = ("generation.view_task",)
    template_name = "admin/generation/queues.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """While Redis is unreachable the page says so, and shows what comes from Postgres."""
        try:
            live = {"queues": queues(), "workers": workers(), "speeds": speeds(), "redis_away": False}
            live["pools"] = alerts.pools().state()
        except RedisError:
            live = {"redis_away": True}
        return {**super().get_context_data(**kwargs), **live, "stages": stages(), "now": timezone.now()}


def queues_page(model_admin: Any) -> Callable[[HttpRequest], HttpResponseBase]:
    view: Callable[[HttpRequest], HttpResponseBase] = QueuesView.as_view(model_admin=model_admin)
    return view


def queues() -> list[dict[str, Any]]:
    """Per class: waiting tasks, their work in megapixel-steps, the age of the oldest in s. Raises RedisError."""
    backlog, oldest = queue_client.backlog(), open_tasks.oldest_waiting()
    return [
        {
            "name": name,
            "tasks": backlog.tasks[number],
            "work": round(backlog.work[number] / 1e6, 1),
            "oldest_s": round(oldest[number]) if backlog.tasks[number] and number in oldest else None,
        }
        for number, name in enumerate(_NAMES)
    ]


def workers() -> list[dict[str, Any]]:
    """The GPU workers with a lease, and their tasks. Raises RedisError."""
    redis = redis_clients.text_client()
    found = []
    for raw, until_ms in redis.zrange("gq:lease", 0, -1, withscores=True):
        name = _text(raw)
        held = [UUID(_text(entry)) for entry in list(redis.smembers(f"gq:run:{name}"))[:_MOST_LISTED]]
        tasks = Task.objects.filter(pk__in=held).select_related("user").order_by("id")
        left = until_ms / 1000 - datetime.now(UTC).timestamp()
        found.append({"name": name, "alive": left > 0, "tasks": list(tasks)})
    return found


def speeds() -> list[dict[str, Any]]:
    """The measured speeds (generation/tasks/estimates.py), in ms. Raises RedisError."""
    known = {
        _text(name): float(seconds)
        for name, seconds in redis_clients.text_client().hgetall(estimates.SPEED_KEY).items()
    }
    labels = {"full": "per megapixel-step in full batches", "after": "from the GPU to completion"}
    labels |= {f"after:{number}": f"from the GPU to completion, P{number}" for number in CLASSES}
    return [
        {"what": labels.get(name, f"per step, {name}"), "ms": round(seconds * 1000, 1)}
        for name, seconds in sorted(known.items(), key=lambda item: (item[0] not in labels, item[0]))
    ]


def stages() -> list[dict[str, Any]]:
    """Tasks between claim and end, by what they wait for. Uses the partial index of open rows."""
    rows = Task.objects.filter(status__in=list(_STATES)).order_by().values_list("status").annotate(n=Count("pk"))
    counts = dict(rows)
    return [{"name": name, "tasks": counts.get(status.value, 0)} for status, name in _STATES.items()]


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
