"""GET /metrics: counters of every process, gauges read at the scrape, who may read them."""

import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from fixtures.rows import finish
from generation.catalogue.models import Lora
from generation.tasks import states
from generation.tasks.reasons import Code, Reason
from generation.telemetry import alerts, prometheus, system_gauges
from imagegenx_site import caches, metrics
from imagegenx_site.pools import PoolState
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


# ---- what becomes of tasks ------------------------------------------------------------------------------------------


def grown_since(before: dict[str, float]) -> dict[str, float]:
    """The counters that changed, and by how much."""
    return {name: value - before.get(name, 0) for name, value in figures().items() if value != before.get(name, 0)}


def test_ends_are_counted_by_model_kind_class_and_code(make_task: Any) -> None:
    failed, cancelled = make_task(), make_task(priority=0)
    make_task(expires_at=timezone.now())
    before = figures()
    states.fail(failed.id, code="inference_failed", message="no")
    states.request_cancel(cancelled.id)
    states.expire_due()
    finish(make_task())
    name = 'imagegenx_task_outcomes_total{{class="P{}",code="{}",kind="text2img",model="mini@2",outcome="{}"}}'
    ends = {key: value for key, value in grown_since(before).items() if "outcomes_total" in key}
    assert ends == {
        name.format(2, "inference_failed", "failed"): 1,
        name.format(0, "", "cancelled"): 1,
        name.format(2, "expired", "expired"): 1,
        name.format(2, "", "succeeded"): 1,
    }


def test_returns_to_the_queue_are_counted_by_their_cause_from_zero_on(make_task: Any) -> None:
    names = {code: f'imagegenx_task_requeues_total{{code="{code}"}}' for code in Code}
    before = figures()
    assert set(names.values()) <= before.keys()
    task = make_task()
    for code, attempt in ((Code.WORKER_LOST, 1), (Code.PAUSED_MEMORY, 2)):
        states.claim([task.id], "gpu1-a")
        assert states.requeue(task.id, worker="gpu1-a", attempt=attempt, reason=Reason(code, "x"))
    returned = {key: value for key, value in grown_since(before).items() if "requeues_total" in key}
    assert returned == {names[Code.WORKER_LOST]: 1, names[Code.PAUSED_MEMORY]: 1}


def test_new_tasks_are_counted_when_they_are_committed(client_of: Any, owner: Any) -> None:
    before = figures()
    body = {"text": "x", "params": {"resolution": "256x320"}}
    answer = client_of(owner).post("/api/v1/image/generate", body, content_type="application/json")
    assert answer.status_code == 202
    new = [key for key in grown_since(before) if "submitted_total" in key]
    assert new == ['imagegenx_tasks_submitted_total{class="P1",kind="text2img",model="mini@2",size="512"}']


def test_waiting_work_is_told_by_the_pool_that_may_do_it(make_task: Any, monkeypatch: Any) -> None:
    made = timezone.now() - timedelta(seconds=90)
    for changes in ({"model_key": "mini@2"}, {"model_key": "other@1", "priority": 0, "created_at": made}):
        make_task(**changes)
    pools = [PoolState("gpu-worker", 1, 1), PoolState("gpu-worker/mini+small", 1, 1), PoolState("io-worker", 1, 1)]
    monkeypatch.setattr(alerts, "pools", lambda: SimpleNamespace(state=lambda: pools))
    now = figures()
    waiting = {key: value for key, value in now.items() if key.startswith("imagegenx_pool_waiting") and value}
    name = 'imagegenx_pool_waiting{{class="{}",pool="{}"}}'
    assert waiting == {name.format("P2", "gpu-worker/mini+small"): 1, name.format("P0", "gpu-worker"): 1}
    oldest = 'imagegenx_pool_oldest_waiting_seconds{class="P0",pool="gpu-worker"}'
    assert 90 <= now[oldest] < 120
    assert now['imagegenx_pool_oldest_waiting_seconds{class="P1",pool="gpu-worker"}'] == 0
    assert now['imagegenx_model_waiting{class="P0",model="other@1"}'] == 1


def test_places_servers_and_the_build_are_told(make_task: Any, settings: Any) -> None:
    Path(settings.MEDIA_ROOT).mkdir(parents=True, exist_ok=True)
    now = figures()
    assert 0 < now['imagegenx_disk_free_bytes{place="media"}'] < now['imagegenx_disk_bytes{place="media"}']
    assert now["imagegenx_redis_bytes"] > 1e5
    assert now["imagegenx_database_bytes"] > 1e6
    assert [value for name, value in now.items() if name.startswith("imagegenx_build_info{")] == [1]
    assert (now["imagegenx_webhooks_pending"], now["imagegenx_webhook_endpoints_disabled"]) == (0, 0)


def test_a_loras_versions_are_one_series(make_task: Any) -> None:
    for version, uses in ((1, 3), (2, 4)):
        Lora.objects.create(name="ink", version=version, uses=uses)
    assert figures()['imagegenx_lora_uses_total{lora="ink"}'] == 7
