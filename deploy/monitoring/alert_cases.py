"""Histories for `promtool test rules`: of each alert one that makes it fire, and one beside it that must not.

A series is (its text, its values at each minute in promtool's short form). The alert is asked for after `after`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from deploy.monitoring.alerts import AlertRule

Series = tuple[str, str]
_STEADY: Final = "0+60x60"  # one a second


@dataclass(frozen=True)
class Case:
    """`labels`: those of the alert that fires, beside its severity."""

    fires: Sequence[Series]
    calm: Sequence[Series]
    labels: tuple[tuple[str, str], ...] = ()
    after: str = "20m"


def _workers(live: str, pool: str = "gpu-worker") -> list[Series]:
    series = f'imagegenx_workers{{pool="{pool}", state="%s", instance="web-%d"}}'
    return [(series % (state, web), value) for web in (1, 2) for state, value in (("live", live), ("wanted", "2x60"))]


def _outcomes(bad: str, good: str, outcome: str) -> list[Series]:
    series = 'imagegenx_task_outcomes_total{model="mini@2", kind="text2img", class="P1", outcome="%s", code="%s"}'
    return [(series % (outcome, "x"), bad), (series % ("succeeded", ""), good)]


def _pair(name: str, labels: str, bad: str, good: str) -> list[Series]:
    """A counter by one label: the bad value grows so, the good one so."""
    key, bad_value, good_value = labels.split("|")
    return [(f'{name}{{{key}="{bad_value}"}}', bad), (f'{name}{{{key}="{good_value}"}}', good)]


def _buckets(name: str, labels: str, slow: bool) -> list[Series]:
    """One observation a second, all below 0.5 s, or all above 5 s."""
    quick = "0x60" if slow else _STEADY
    series = f'{name}{{{labels}, le="%s"}}'
    return [(series % le, quick) for le in ("0.5", "1", "5")] + [(series % le, _STEADY) for le in ("10", "+Inf")]


def _gauge(name: str, high: str, low: str) -> Case:
    return Case([(name, f"{high}x60")], [(name, f"{low}x60")])


def _disk(free: str) -> list[Series]:
    return [('imagegenx_disk_bytes{place="media"}', "1000x60"), ('imagegenx_disk_free_bytes{place="media"}', free)]


def _counter(series: str, *labels: tuple[str, str], steps: int = 1) -> Case:
    """Grows once, after ten minutes, by `steps`; in the calm one never."""
    return Case([(series, f"0x10 {steps}x50")], [(series, "0x60")], labels)


_STAGE: Final = 'imagegenx_stage_seconds_count{stage="upload", outcome="%s"}'
_P0: Final = 'imagegenx_oldest_waiting_seconds{class="P0"}'
_P2: Final = 'imagegenx_oldest_waiting_seconds{class="P2"}'
CASES: Final = {
    "ProcessDown": Case(
        [('up{job="imagegenx", instance="a"}', "1x5 0x60")],
        [('up{job="imagegenx", instance="a"}', "1x60")],
        (("instance", "a"), ("job", "imagegenx")),
    ),
    "NoGpuWorker": Case([*_workers("0x60"), *_workers("2x60", "io-worker")], _workers("1x60")),
    "WorkersMissing": Case(_workers("1x60"), _workers("2x60"), (("pool", "gpu-worker"),)),
    "ServerUnreachable": Case(
        [('imagegenx_scrape_failures{source="redis"}', "1x60")],
        [('imagegenx_scrape_failures{source="redis"}', "0x60")],
        (("source", "redis"),),
    ),
    "LossNotRepaired": _gauge("imagegenx_alerts_open", "1", "0"),
    "UrgentTasksWait": Case([(_P0, "6x60")], [(_P0, "4x60"), (_P2, "40x60")], (("class", "P0"),)),
    "TasksWait": Case([(_P2, "61x60"), (_P0, "1x60")], [(_P2, "59x60"), (_P0, "90x60")], (("class", "P2"),)),
    "TasksExpire": Case(_outcomes("0+2x60", _STEADY, "expired"), _outcomes("0x60", _STEADY, "expired")),
    "TasksFail": Case(
        _outcomes("0+10x60", _STEADY, "failed"), _outcomes("0+1x60", _STEADY, "failed"), (("model", "mini@2"),)
    ),
    "WorkerLostUnderTasks": _counter('imagegenx_task_requeues_total{code="worker_lost"}', ("code", "worker_lost")),
    "ModelFallsBack": _counter('imagegenx_task_requeues_total{code="fell_back"}'),
    "RequestsFail": Case(
        _pair("imagegenx_http_seconds_count", "status|500|200", "0+2x60", _STEADY),
        _pair("imagegenx_http_seconds_count", "status|404|200", "0+30x60", _STEADY),
    ),
    "RequestsSlow": Case(
        _buckets("imagegenx_http_seconds_bucket", 'route="api/v1/image/generate"', slow=True),
        _buckets("imagegenx_http_seconds_bucket", 'route="api/v1/image/task/events"', slow=True)
        + _buckets("imagegenx_http_seconds_bucket", 'route="api/v1/image/generate"', slow=False),
    ),
    "CacheFails": Case(
        [('imagegenx_cache_calls_total{cache="task", result="errors"}', "0+1x60")],
        [('imagegenx_cache_calls_total{cache="task", result="errors"}', "5x60")],
    ),
    "OutOfMemory": _counter('imagegenx_out_of_memory_total{model="mini@2"}', ("model", "mini@2")),
    "PausedWorkReturned": _counter("imagegenx_tasks_returned_total", steps=20),
    "ModelDoesNotLoad": _counter('imagegenx_model_loads_total{model="mini@2", outcome="failed"}', ("model", "mini@2")),
    "StepsSlow": Case(
        _buckets("imagegenx_step_seconds_bucket", 'model="mini@2", size="256"', slow=True),
        _buckets("imagegenx_step_seconds_bucket", 'model="mini@2", size="256"', slow=False),
        (("model", "mini@2"),),
        after="40m",
    ),
    "StagesFail": Case(
        [(_STAGE % "failed", "0+10x60"), (_STAGE % "done", _STEADY)],
        [(_STAGE % "failed", "0+1x60"), (_STAGE % "done", _STEADY)],
        (("stage", "upload"),),
    ),
    "WorkPilesUpAfterGpu": Case(
        [('imagegenx_queue_messages{queue="cpu.p1"}', "400x60"), ('imagegenx_queue_messages{queue="io"}', "200x60")],
        [('imagegenx_queue_messages{queue="cpu.p1"}', "400x60"), ('imagegenx_queue_messages{queue="p2"}', "9999x60")],
    ),
    "StoreDown": _gauge("imagegenx_store_down", "1", "0"),
    "SpoolFillsUp": _gauge("imagegenx_spool_full", "0.6", "0.4"),
    "DiskFillsUp": Case(_disk("90x60"), _disk("110x60"), (("place", "media"),)),
    "DiskAlmostFull": Case(_disk("40x60"), _disk("60x60"), (("place", "media"),)),
    "RedisLarge": _gauge("imagegenx_redis_bytes", "5000000000", "1000000000"),
    "WebhooksPileUp": _gauge("imagegenx_webhooks_pending", "1001", "999"),
    "WebhooksGivenUp": Case(
        _pair("imagegenx_webhooks_ended_total", "outcome|given_up|delivered", "0+10x60", _STEADY),
        _pair("imagegenx_webhooks_ended_total", "outcome|given_up|delivered", "0+1x60", _STEADY),
        after="40m",
    ),
}


def test_file(rules: Sequence[AlertRule], rule_file: str) -> dict[str, Any]:
    """For `promtool test rules`: two tests a rule, at the thresholds that stand in the code."""
    tests = [_test(rule, fires=fires) for rule in rules for fires in (True, False)]
    return {"rule_files": [rule_file], "evaluation_interval": "1m", "tests": tests}


def _test(rule: AlertRule, *, fires: bool) -> dict[str, Any]:
    case = CASES[rule.name]
    series = case.fires if fires else case.calm
    expected = {"exp_labels": {"severity": rule.severity, **dict(case.labels)}}
    return {
        "name": f"{rule.name} {'fires' if fires else 'stays calm'}",
        "interval": "1m",
        "input_series": [{"series": text, "values": values} for text, values in series],
        "alert_rule_test": [
            {"eval_time": case.after, "alertname": rule.name, "exp_alerts": [expected] if fires else []}
        ],
    }
