"""The alert rules. Each has a section in docs/runbook.md, and in alert_cases.py two small histories for promtool: one
that makes it fire and one that must not.

Gauges of shared state come from every web process alike: they are read with `max by`.
"""

from dataclasses import dataclass
from typing import Any, Final

from deploy.monitoring.thresholds import Thresholds

RUNBOOK: Final = "docs/runbook.md"
# what waits for pictures, streams, or is no customer's
_NOT_QUICK: Final = "(v1/|sdapi/).*|.*(admin|readyz|healthz|metrics|events|stream|zip|download|static|files).*"


@dataclass(frozen=True)
class AlertRule:
    """`severity`: critical wakes somebody, warning waits for the morning. `lasts`: how long before it fires. `says`: a
    sentence with Prometheus' templates.
    """

    name: str
    severity: str
    lasts: str
    expr: str
    says: str

    def rendered(self, base: str) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.says, "runbook_url": f"{base}{RUNBOOK}#{self.name.lower()}"},
        }


def _part(numerator: str, denominator: str, by: str = "") -> str:
    """A rate over a rate, by the same labels."""
    by = f" by ({by})" if by else ""
    return f"sum{by} (rate({numerator})) / sum{by} (rate({denominator}))"


def rules(limits: Thresholds) -> tuple[AlertRule, ...]:
    """All of them, the gravest first."""
    return (*_processes(), *_work(limits), *_answers(limits), *_engine(limits), *_places(limits), *_webhooks(limits))


def _processes() -> tuple[AlertRule, ...]:
    live = 'max by (pool) (imagegenx_workers{state="live"})'
    wanted = 'max by (pool) (imagegenx_workers{state="wanted"})'
    return (
        AlertRule(
            "ProcessDown",
            "critical",
            "2m",
            'up{job="imagegenx"} == 0',
            "{{ $labels.instance }} does not answer Prometheus.",
        ),
        AlertRule(
            "NoGpuWorker",
            "critical",
            "1m",
            'sum(max by (pool) (imagegenx_workers{pool=~"gpu-worker.*", state="live"})) == 0',
            "No GPU worker lives: nothing is generated.",
        ),
        AlertRule(
            "WorkersMissing",
            "warning",
            "2m",
            f"{live} < {wanted}",
            "{{ $labels.pool }} has {{ $value }} members, fewer than it wants.",
        ),
        AlertRule(
            "ServerUnreachable",
            "critical",
            "2m",
            "max by (source) (imagegenx_scrape_failures) == 1",
            "Postgres, Redis or a disk does not answer the web process ({{ $labels.source }}).",
        ),
        AlertRule(
            "LossNotRepaired",
            "warning",
            "10m",
            "max(imagegenx_alerts_open) > 0",
            "{{ $value }} lost processes or devices are not replaced.",
        ),
    )


def _work(limits: Thresholds) -> tuple[AlertRule, ...]:
    ended = "imagegenx_task_outcomes_total[10m]"
    failed = 'imagegenx_task_outcomes_total{outcome="failed"}[10m]'
    expired = 'imagegenx_task_outcomes_total{outcome="expired"}[10m]'
    oldest = "max by (class) (imagegenx_oldest_waiting_seconds"
    return (
        AlertRule(
            "UrgentTasksWait",
            "critical",
            "1m",
            f'{oldest}{{class="P0"}}) > {limits.waiting_p0_s:g}',
            "The oldest task of P0 has waited {{ $value | humanizeDuration }}.",
        ),
        AlertRule(
            "TasksWait",
            "warning",
            "5m",
            f'{oldest}{{class!="P0"}}) > {limits.waiting_s:g}',
            "The oldest task of {{ $labels.class }} has waited {{ $value | humanizeDuration }}.",
        ),
        AlertRule(
            "TasksExpire",
            "critical",
            "5m",
            f"{_part(expired, ended)} > {limits.expired_part:g}",
            "{{ $value | humanizePercentage }} of the tasks waited in vain.",
        ),
        AlertRule(
            "TasksFail",
            "critical",
            "5m",
            f"{_part(failed, ended, 'model')} > {limits.failed_part:g}",
            "{{ $value | humanizePercentage }} of the tasks of {{ $labels.model }} fail.",
        ),
        AlertRule(
            "WorkerLostUnderTasks",
            "warning",
            "0m",
            'sum by (code) (increase(imagegenx_task_requeues_total{code=~"worker_lost|device_lost.*"}[15m])) > 0',
            "Tasks went back to the queue because their worker or device was lost ({{ $labels.code }}).",
        ),
        AlertRule(
            "ModelFallsBack",
            "warning",
            "0m",
            'sum(increase(imagegenx_task_requeues_total{code="fell_back"}[15m])) > 0',
            "Tasks run on another model than was asked for, because theirs fails.",
        ),
    )


def _answers(limits: Thresholds) -> tuple[AlertRule, ...]:
    quick = f'imagegenx_http_seconds_bucket{{route!~"{_NOT_QUICK}"}}[5m]'
    return (
        AlertRule(
            "RequestsFail",
            "critical",
            "5m",
            _part('imagegenx_http_seconds_count{status=~"5.."}[5m]', "imagegenx_http_seconds_count[5m]")
            + f" > {limits.http_errors_part:g}",
            "{{ $value | humanizePercentage }} of the requests are answered with 5xx.",
        ),
        AlertRule(
            "RequestsSlow",
            "warning",
            "10m",
            f"histogram_quantile(0.95, sum by (le) (rate({quick}))) > {limits.http_p95_s:g}",
            "One request in twenty takes longer than {{ $value | humanizeDuration }}.",
        ),
        AlertRule(
            "CacheFails",
            "warning",
            "5m",
            'sum(increase(imagegenx_cache_calls_total{result="errors"}[5m])) > 0',
            "Redis fails look-ups of the caches; Postgres carries them.",
        ),
    )


def _engine(limits: Thresholds) -> tuple[AlertRule, ...]:
    steps = "histogram_quantile(0.95, sum by (le, model) (rate(imagegenx_step_seconds_bucket[10m])))"
    return (
        AlertRule(
            "OutOfMemory",
            "warning",
            "0m",
            "sum by (model) (increase(imagegenx_out_of_memory_total[15m])) > 0",
            "Forward passes of {{ $labels.model }} do not fit into the device's memory.",
        ),
        AlertRule(
            "PausedWorkReturned",
            "warning",
            "0m",
            "sum(increase(imagegenx_tasks_returned_total[15m])) > 10",
            "Paused tasks go back to the queue for want of memory.",
        ),
        AlertRule(
            "ModelDoesNotLoad",
            "critical",
            "0m",
            'sum by (model) (increase(imagegenx_model_loads_total{outcome="failed"}[15m])) > 0',
            "{{ $labels.model }} could not be loaded.",
        ),
        AlertRule(
            "StepsSlow",
            "warning",
            "15m",
            f"{steps} > {limits.step_p95_s:g}",
            "Steps of {{ $labels.model }} take {{ $value | humanizeDuration }}.",
        ),
    )


def _places(limits: Thresholds) -> tuple[AlertRule, ...]:
    free = "min by (place) (imagegenx_disk_free_bytes / imagegenx_disk_bytes)"
    stages = 'imagegenx_stage_seconds_count{outcome="failed"}[10m]'
    return (
        AlertRule(
            "StagesFail",
            "warning",
            "5m",
            f"{_part(stages, 'imagegenx_stage_seconds_count[10m]', 'stage')} > {limits.stage_failed_part:g}",
            "{{ $value | humanizePercentage }} of the tries of {{ $labels.stage }} fail.",
        ),
        AlertRule(
            "WorkPilesUpAfterGpu",
            "warning",
            "5m",
            f'sum(max by (queue) (imagegenx_queue_messages{{queue=~"(cpu|io).*"}})) > {limits.after_gpu_messages:g}',
            "{{ $value }} messages wait after the GPU: post-processing or upload is too slow.",
        ),
        AlertRule(
            "StoreDown",
            "critical",
            "2m",
            "max(imagegenx_store_down) == 1",
            "The object store takes no pictures; they go to the spool.",
        ),
        AlertRule(
            "SpoolFillsUp",
            "critical",
            "1m",
            f"max(imagegenx_spool_full) > {limits.spool_full_part:g}",
            "The spool is {{ $value | humanizePercentage }} full; when it is, tasks fail.",
        ),
        AlertRule(
            "DiskFillsUp",
            "warning",
            "10m",
            f"{free} < {limits.disk_free_part:g}",
            "{{ $value | humanizePercentage }} of the disk of {{ $labels.place }} is free.",
        ),
        AlertRule(
            "DiskAlmostFull",
            "critical",
            "1m",
            f"{free} < {limits.disk_free_part / 2:g}",
            "{{ $value | humanizePercentage }} of the disk of {{ $labels.place }} is free.",
        ),
        AlertRule(
            "RedisLarge",
            "warning",
            "10m",
            f"max(imagegenx_redis_bytes) > {limits.redis_bytes:.0f}",
            "Redis uses {{ $value | humanize1024 }}B of memory.",
        ),
    )


def _webhooks(limits: Thresholds) -> tuple[AlertRule, ...]:
    given_up = 'imagegenx_webhooks_ended_total{outcome="given_up"}[30m]'
    return (
        AlertRule(
            "WebhooksPileUp",
            "warning",
            "10m",
            f"max(imagegenx_webhooks_pending) > {limits.webhooks_pending:g}",
            "{{ $value }} webhooks wait for an attempt.",
        ),
        AlertRule(
            "WebhooksGivenUp",
            "warning",
            "15m",
            f"{_part(given_up, 'imagegenx_webhooks_ended_total[30m]')} > {limits.webhooks_given_up_part:g}",
            "{{ $value | humanizePercentage }} of the webhooks are given up.",
        ),
    )


def rule_file(limits: Thresholds, base: str = "") -> dict[str, Any]:
    """For Prometheus' `rule_files`. `base`: what stands before docs/ in the addresses of the runbook."""
    return {"groups": [{"name": "imagegenx", "rules": [rule.rendered(base) for rule in rules(limits)]}]}
