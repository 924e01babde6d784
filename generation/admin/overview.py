"""The page that an operator opens first: what waits, who works with which models, what is wrong, what came out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.generic import TemplateView
from redis.exceptions import RedisError
from unfold.views import UnfoldModelAdminViewMixin

from generation.admin import queues
from generation.telemetry import alerts, throughput
from generation.telemetry.models import Alert
from generation.telemetry.throughput import Bucket
from imagegenx_site import redis_clients

_WIDTH, _HEIGHT = 600, 120  # of a plot, in its own units
_MOST_ALERTS: Final = 20


@dataclass(frozen=True)
class Bar:
    """One bucket of a plot: two rectangles on one another, in the plot's units, and what a pointer on them reads."""

    x: float
    width: float
    done: float
    others: float
    title: str

    @property
    def done_y(self) -> float:
        return _HEIGHT - self.done

    @property
    def others_y(self) -> float:
        return _HEIGHT - self.done - self.others


@dataclass(frozen=True)
class Plot:
    """Bars of equal width; the highest fills the plot."""

    title: str
    bars: Sequence[Bar]
    total: int
    most: int
    first: str
    last: str


class OverviewView(UnfoldModelAdminViewMixin, TemplateView):
    title = "Overview"
    permission_required = ("generation.view_task",)
    template_name = "admin/generation/overview.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """While Redis is unreachable the page says so, and shows what comes from Postgres."""
        try:
            live = {"queues": queues.queues(), "workers": workers(), "pools": alerts.pools().state()}
        except RedisError:
            live = {"redis_away": True}
        found = throughput.recent()
        drawn = {
            "plots": [
                plot("Last hour, by minute", found.hour, "%H:%M"),
                plot("Last day, by hour", found.day, "%H:%M"),
                plot("Last week, by day", found.week, "%a %d"),
            ],
            "reasons": found.reasons,
            "complete": found.complete,
            "alerts": Alert.objects.filter(cleared_at=None).order_by("-id")[:_MOST_ALERTS],
        }
        return {**super().get_context_data(**kwargs), **live, **drawn, "now": timezone.now()}


def overview_page(model_admin: Any) -> Callable[[HttpRequest], HttpResponseBase]:
    view: Callable[[HttpRequest], HttpResponseBase] = OverviewView.as_view(model_admin=model_admin)
    return view


def workers() -> list[dict[str, Any]]:
    """The GPU workers, their tasks, and the models that they have in memory. Raises RedisError."""
    found = queues.workers()
    kept = redis_clients.text_client().mget([f"gq:models:{one['name']}" for one in found]) if found else []
    for one, models in zip(found, kept, strict=True):
        one["models"] = json.loads(models) if models else []
    return found


def plot(title: str, buckets: Sequence[Bucket], form: str) -> Plot:
    """The buckets as a plot, whose times are written in `form`."""
    most = max((one.succeeded + one.others for one in buckets), default=0)
    scale = _HEIGHT / max(1, most)
    step = _WIDTH / max(1, len(buckets))
    bars = [
        Bar(
            round(number * step + step * 0.1, 2),
            round(step * 0.8, 2),
            round(one.succeeded * scale, 2),
            round(one.others * scale, 2),
            f"{one.at.strftime(form)}: {one.succeeded} succeeded, {one.others} not",
        )
        for number, one in enumerate(buckets)
    ]
    ends = [buckets[0].at.strftime(form), buckets[-1].at.strftime(form)] if buckets else ["", ""]
    return Plot(title, bars, sum(one.succeeded for one in buckets), most, *ends)
