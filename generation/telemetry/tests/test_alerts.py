"""Alerts of lost workers and devices."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from generation.accounts.models import User
from generation.telemetry import alerts
from generation.telemetry.models import Alert
from imagegenx_site import redis_clients


@pytest.fixture
def lease(db: None) -> Iterator[Callable[[str], None]]:
    """Writes the lease of a worker into Redis."""
    redis_clients.bytes_client().delete("gq:lease")

    def live(worker: str) -> None:
        redis_clients.bytes_client().zadd("gq:lease", {worker: int(time.time() * 1000) + 60_000})

    yield live
    redis_clients.bytes_client().delete("gq:lease")


def health() -> tuple[int, Any]:
    response = Client().get("/healthz/workers")
    return response.status_code, response.json()


def test_health_is_red_without_a_worker_and_green_with_one(lease: Callable[[str], None]) -> None:
    assert health()[0] == 503
    lease("gpu1-17-ab12")
    assert health() == (200, {"status": "ok", "workers": ["gpu1-17-ab12"], "alerts": []})


def test_a_lost_device_turns_health_red_until_its_worker_is_back(lease: Callable[[str], None]) -> None:
    lease("gpu2-18-cd34")
    alerts.raise_alert(Alert.Kind.DEVICE_LOST, "gpu1-17-ab12", "the device or the engine failed: gone")
    alerts.raise_alert(Alert.Kind.WORKER_LOST, "gpu1-17-ab12", "its lease ran out")
    code, facts = health()
    assert (code, facts["status"]) == (503, "degraded")
    assert [(alert["worker"], alert["kind"]) for alert in facts["alerts"]] == [("gpu1", "device_lost")]
    alerts.clear("gpu2-18-cd34")
    assert health()[0] == 503
    alerts.clear("gpu1-99-ef56")
    assert health()[0] == 200


def test_an_alert_raised_after_the_replacement_started_is_cleared(lease: Callable[[str], None]) -> None:
    lease("gpu1-99-ef56")
    alerts.raise_alert(Alert.Kind.WORKER_LOST, "gpu1-17-ab12", "the worker process died")
    assert Alert.objects.get().cleared_at is not None
    assert health()[0] == 200


def test_an_operator_clears_the_alert_of_a_removed_worker(lease: Callable[[str], None]) -> None:
    lease("gpu2-18-cd34")
    alerts.raise_alert(Alert.Kind.WORKER_LOST, "gpu1-17-ab12", "the worker process died")
    client = Client()
    client.force_login(User.objects.create_superuser("admin", password="a long password"))
    form = {"action": "clear", "_selected_action": [str(Alert.objects.get().pk)]}
    assert client.post("/admin/generation/alert/", form).status_code == 302
    assert health()[0] == 200
