"""One line for each submission and each move of a task, and how long tasks waited, whatever became of them."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from prometheus_client import REGISTRY

from generation.tasks import move_log, states
from generation.tasks.models import Task
from generation.tasks.reasons import Code, Reason


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any) -> Any:
    """The fields of the lines that a call writes, after its commit."""
    caplog.set_level(logging.INFO, "imagegenx.tasks")

    def written(call: Any) -> list[dict[str, Any]]:
        caplog.clear()
        with django_capture_on_commit_callbacks(execute=True):
            call()
        return [record.__dict__ for record in caplog.records if record.name == "imagegenx.tasks"]

    return written


def waits(outcome: str, priority: str = "P2") -> float:
    labels = {"class": priority, "outcome": outcome}
    return REGISTRY.get_sample_value("imagegenx_task_wait_seconds_count", labels) or 0.0


def test_each_move_is_one_line_with_what_a_search_needs(make_task: Any, lines: Any) -> None:
    task = make_task()
    (claimed,) = lines(lambda: states.claim([task.id], "gpu1-ab"))
    expected = {"task_id": str(task.id), "to": "running", "user": task.user_id, "kind": task.kind, "attempt": 1}
    expected |= {"model": task.model_key, "size": f"{task.width}x{task.height}", "worker": "gpu1-ab", "code": None}
    assert claimed | expected == claimed
    assert min(claimed["duration_s"], claimed["age_s"]) >= 0
    reason = Reason(Code.STOPPED, "the worker was stopped")
    (back,) = lines(lambda: states.requeue(task.id, worker="gpu1-ab", attempt=1, reason=reason))
    assert (back["to"], back["code"]) == ("queued", "stopped")
    (failed,) = lines(lambda: states.fail(task.id, code="bad_luck", message="no"))
    assert (failed["to"], failed["code"], failed["task_id"]) == ("failed", "bad_luck", str(task.id))


def test_a_move_that_did_not_happen_writes_nothing(make_task: Any, lines: Any) -> None:
    task = make_task()
    assert lines(lambda: states.mark_generated(task.id, worker="nobody", attempt=1)) == []


def test_a_submission_is_one_line(make_task: Any, lines: Any) -> None:
    task = make_task()
    (line,) = lines(lambda: move_log.submitted([task]))
    expected = {"task_id": str(task.id), "user": task.user_id, "steps": task.parameters.steps, "loras": []}
    assert line | expected == line


def test_waits_of_those_who_never_came_through_are_counted(make_task: Any, lines: Any) -> None:
    before = {outcome: waits(outcome) for outcome in ("claimed", "expired", "cancelled", "failed")}
    claimed, expired, cancelled, failed = (make_task() for _ in range(4))
    Task.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))

    def end_all() -> None:
        states.claim([claimed.id], "gpu1-ab")
        states.expire_due()
        states.request_cancel(cancelled.id)
        states.fail(failed.id, code="x", message="y")
        states.fail(claimed.id, code="x", message="y")  # it did not wait in vain: counted at its claim

    lines(end_all)
    assert {outcome: waits(outcome) - before[outcome] for outcome in before} == dict.fromkeys(before, 1)


def test_a_wait_of_five_minutes_has_a_bucket() -> None:
    from imagegenx_site.metrics import WAIT

    assert {300.0, 600.0} <= set(WAIT._upper_bounds)
