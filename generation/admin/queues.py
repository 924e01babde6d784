"""The page of queues and workers: what waits and since when, who works on what, what waits after the GPU.

Waiting work comes from the buffer in Redis, so that the page costs the same with ten or a million waiting tasks; the
rows that it reads are those at work.
"""

from collections.abc import Callable, Sequence
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
from generation.tasks import estimates
from generation.tasks.models import Status, Task
from generation.tasks.stages import STAGES
from imagegenx_site import redis_clients

_NAMES: Final = ("P0 urgent", "P1 paid", "P2 normal", "P3 test")
_STATES: Final = {Status.RUNNING: "on a GPU worker"} | {
    stage.source: f"waits for {stage.label}" for stage in STAGES if not stage.after_delivery
}
_LISTED: Final = 200  # tasks of one worker that are shown
_LOOKED_AT: Final = 5000  # oldest waiting tasks among which the oldest of each class is looked for


class QueuesView(UnfoldModelAdminViewMixin, TemplateView):
    """See the module."""

    title = "Queues and workers"
    permission_required = ("generation.view_task",)
    template_name = "admin/generation/queues.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Redis out of reach is said on the page; what the rows tell is shown all the same."""
        try:
            live = {"queues": queues(), "workers": workers(), "speeds": speeds(), "redis_away": False}
        except RedisError:
            live = {"redis_away": True}
        return {**super().get_context_data(**kwargs), **live, "stages": stages(), "now": timezone.now()}


def queues_page(model_admin: Any) -> Callable[[HttpRequest], HttpResponseBase]:
    """The view for an admin's addresses."""
    view: Callable[[HttpRequest], HttpResponseBase] = QueuesView.as_view(model_admin=model_admin)
    return view


def queues() -> list[dict[str, Any]]:
    """One line a class: what waits, the work in it, and for how long its first has waited. Raises RedisError."""
    backlog, oldest = queue_client.backlog(), _oldest()
    return [
        {
            "name": name,
            "tasks": backlog.tasks[number],
            "work": round(backlog.work[number] / 1e6, 1),
            "oldest_s": oldest.get(number) if backlog.tasks[number] else None,
        }
        for number, name in enumerate(_NAMES)
    ]


def _oldest() -> dict[int, int]:
    """By class: seconds since its oldest waiting task came, as far as it is among the oldest of all."""
    waiting = Task.objects.filter(status=Status.QUEUED).order_by("id")
    found: dict[int, datetime] = {}
    for priority, created in waiting.values_list("priority", "created_at")[:_LOOKED_AT]:
        found.setdefault(priority, created)
    return {priority: max(0, round((timezone.now() - since).total_seconds())) for priority, since in found.items()}


def workers() -> list[dict[str, Any]]:
    """The GPU workers that have a lease, and the tasks that they hold. Raises RedisError."""
    redis = redis_clients.text_client()
    found = []
    for raw, until_ms in redis.zrange("gq:lease", 0, -1, withscores=True):
        name = _text(raw)
        held = [UUID(_text(entry)) for entry in list(redis.smembers(f"gq:run:{name}"))[:_LISTED]]
        left = until_ms / 1000 - datetime.now(UTC).timestamp()
        found.append({"name": name, "alive": left > 0, "tasks": _at_work(held)})
    return found


def _at_work(ids: Sequence[UUID]) -> list[Task]:
    return list(Task.objects.filter(pk__in=ids).select_related("user").order_by("id"))


def speeds() -> list[dict[str, Any]]:
    """What the workers measured (generation/tasks/estimates.py), in milliseconds. Raises RedisError."""
    known = {
        _text(name): float(seconds)
        for name, seconds in redis_clients.text_client().hgetall(estimates.SPEED_KEY).items()
    }
    told = {"full": "a megapixel-step in full batches", "after": "from the GPU to the end"}
    return [
        {"what": told.get(name, f"a step of {name}"), "ms": round(seconds * 1000, 1)}
        for name, seconds in sorted(known.items(), key=lambda item: (item[0] not in told, item[0]))
    ]


def stages() -> list[dict[str, Any]]:
    """Tasks between claim and end, by what they wait for. The partial index of open rows answers it."""
    rows = Task.objects.filter(status__in=list(_STATES)).order_by().values_list("status").annotate(n=Count("pk"))
    counts = dict(rows)
    return [{"name": name, "tasks": counts.get(status.value, 0)} for status, name in _STATES.items()]


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
