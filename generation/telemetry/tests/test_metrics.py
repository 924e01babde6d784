"""GET /metrics: counters of every process, gauges read at the scrape, who may read them."""

import re
from typing import Any

import pytest
from django.test import Client

from fixtures.rows import finish
from generation.telemetry import prometheus, system_gauges
from imagegenx_site import caches, metrics
from storage.errors import StoreUnavailable
from storage.store import images
from workers.stages import notify

pytestmark = pytest.mark.django_db(transaction=True)


def figures(client: Client | None = None) -> dict[str, float]:
    """Every sample of GET /metrics by its name with labels."""
    answer = (client or Client()).get("/metrics")
    assert answer.status_code == 200
    lines = [line for line in answer.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_requests_moves_and_caches_are_counted(make_task: Any, client_of: Any, owner: Any) -> None:
    client, task = client_of(owner), make_task()
    before = figures()
    finish(task)
    for _ in range(3):
        client.get(f"/api/v1/image/task/{task.public_id}")
    after = figures()

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    route = 'method="GET",route="api/v1/image/task/<str:public_id>",status="200"'
    assert grown(f"imagegenx_http_seconds_count{{{route}}}") == 3
    assert grown('imagegenx_task_moves_total{to="succeeded"}') == 1
    assert grown('imagegenx_cache_calls_total{cache="task",result="hits"}') == 2
    assert grown('imagegenx_cache_calls_total{cache="task",result="misses"}') == 1
    assert grown('imagegenx_store_seconds_count{operation="put",outcome="stored"}') == 2


def test_gauges_are_read_at_the_scrape(make_task: Any, monkeypatch: Any) -> None:
    before = figures()["imagegenx_spool_files"]
    make_task()
    images().spool.add("images/2026/11/25/019aa2b3-c4d5-7e8f-9a0b-1c2d3e4f5061/0-0123456789abcdef.webp", b"12345")
    images().spool.note_failure()
    now = figures()
    assert now['imagegenx_tasks_open{status="queued"}'] == 1
    assert now["imagegenx_spool_files"] - before == 1
    assert now["imagegenx_spool_bytes"] == 5
    assert now["imagegenx_store_down"] == 1
    assert {f'imagegenx_queue_messages{{queue="{queue}"}}' for queue in system_gauges.QUEUES} <= now.keys()
    ready = Client().get("/readyz").json()
    assert (ready["status"], ready["spool"]["files"], ready["spool"]["store_down"]) == ("ok", 1, True)


def test_a_source_that_fails_is_counted_and_the_others_are_exported(monkeypatch: Any) -> None:
    def away() -> Any:
        raise ConnectionError("redis")

    monkeypatch.setattr(system_gauges.queue_client, "backlog", away)
    now = figures()
    assert now['imagegenx_scrape_failures{source="redis"}'] == 1
    assert now['imagegenx_scrape_failures{source="rows"}'] == 0
    assert "imagegenx_spool_files" in now


def test_a_stage_that_fails_counts_as_failed() -> None:
    name = 'imagegenx_stage_seconds_count{outcome="failed",stage="upload"}'
    before = figures().get(name, 0)
    with pytest.raises(StoreUnavailable), metrics.timed_stage("upload"):
        raise StoreUnavailable("away")
    assert figures()[name] == before + 1


def test_metrics_need_the_token(settings: Any) -> None:
    assert Client().get("/metrics", REMOTE_ADDR="203.0.113.7").status_code == 403
    assert Client().get("/metrics", headers={"x-forwarded-for": "127.0.0.1"}).status_code == 403
    settings.METRICS_TOKEN = "secret"
    assert Client().get("/metrics").status_code == 403
    assert figures(Client(headers={"authorization": "Bearer secret"}))


def test_every_metric_is_listed_in_the_docstring(make_task: Any) -> None:
    notify.observe_success(finish(make_task()))
    caches.tasks().get("x", lambda: b"1")
    exposed = {re.sub(r"(_bucket|_count|_sum|_created)?(\{.*)?$", "", name) for name in figures()}
    exposed = {name for name in exposed if name.startswith("imagegenx_")}
    named = set(re.findall(r"imagegenx_\w+", prometheus.__doc__ or ""))
    named |= {f"imagegenx_spool_{rest}" for rest in ("bytes", "oldest_seconds", "full")}
    assert {"imagegenx_task_seconds", "imagegenx_spool_full", "imagegenx_tasks_open"} <= exposed
    assert [name for name in exposed if not {name, f"{name}_total"} & named] == []
