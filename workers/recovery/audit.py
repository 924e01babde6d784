"""Open rows against the buffer, page by page: queued rows that Redis does not know, has with another priority or has
no ticket of (`celery purge`), running rows that no worker holds.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.utils import timezone
from redis import Redis

from generation.queue import client as queue_client
from generation.queue.values import EntryState
from generation.queue.worker import WorkerQueue
from generation.tasks import enqueue, states
from generation.tasks.models import Status, Task
from generation.tasks.open_tasks import RecentDays
from generation.tasks.reasons import Code, Reason


@dataclass(frozen=True)
class AuditConfig:
    min_age_s: float = 3.0  # since the row's last change; a younger one is left alone
    page: int = 5000  # rows of one run


@dataclass(frozen=True)
class _Entry:
    """A row's entry in the buffer: state (w waiting, r running), owner, priority, and the number of its ticket in the
    queue of its class (layout.lua); None where there is none.
    """

    state: str | None
    owner: str | None
    priority: str | None
    ticket: str | None


class _SecondLook:
    """Ids that were noted in this round through the rows and in the one before."""

    def __init__(self) -> None:
        self._before: set[UUID] = set()
        self._now: set[UUID] = set()

    def confirms(self, task_id: UUID) -> bool:
        """Note it; whether it was noted in the round before."""
        self._now.add(task_id)
        return task_id in self._before

    def end_round(self) -> None:
        self._before, self._now = self._now, set()


class Audit:
    """A worker or a ticket that seems to be gone is believed to be so at the second look."""

    def __init__(self, redis: Redis, queue: WorkerQueue, config: AuditConfig) -> None:
        self._redis, self._queue, self._config = redis, queue, config
        self._orphans, self._without_ticket = _SecondLook(), _SecondLook()
        self._days = RecentDays(in_a_row=2)  # two rounds, as what is seen once is not believed
        self._cursor: UUID | None = None  # the last row of a full page; None: a round begins

    def run(self) -> None:
        """One page; the next page at the next run."""
        rows = Task.objects.filter(status__in=[Status.QUEUED, Status.RUNNING], updated_at__lt=self._cutoff())
        rows = rows.filter(id__gt=self._cursor) if self._cursor else rows.filter(id__gte=self._days.first_id())
        page = list(rows.order_by("id")[: self._config.page])
        self._cursor = page[-1].id if len(page) == self._config.page else None
        entries, leases = self._read(page)
        self._resend_tickets(page, entries)
        for task, entry in zip(page, entries, strict=True):
            if task.status == Status.QUEUED and entry.state not in (EntryState.WAITING, EntryState.RUNNING):
                enqueue.enqueue(task)
            elif (
                task.status == Status.QUEUED
                and entry.state == EntryState.WAITING
                and entry.priority != str(task.priority)
            ):
                self._repair_priority(task.id)
            elif self._is_orphaned(task, entry, leases) and self._orphans.confirms(task.id):
                self._requeue(task, entry)
        if self._cursor is None:
            self._orphans.end_round()
            self._without_ticket.end_round()

    def _read(self, page: list[Task]) -> tuple[list[_Entry], list[str]]:
        """The entries of these rows, and the workers that have a lease."""
        with self._redis.pipeline(transaction=False) as pipe:
            for task in page:
                pipe.hmget(f"gq:t:{task.id}", "st", "own", "cls", "tk")
            pipe.zrange("gq:lease", 0, -1)
            *entries, leases = pipe.execute()
        return [_Entry(*entry) for entry in entries], leases

    def _resend_tickets(self, page: list[Task], entries: list[_Entry]) -> None:
        """New tickets for those whose number is past the end of their list."""
        firsts = queue_client.first_tickets()
        for task, entry in zip(page, entries, strict=True):
            if entry.state != EntryState.WAITING or entry.ticket is None:
                continue
            if int(entry.ticket) < firsts[int(entry.priority or 0)] and self._without_ticket.confirms(task.id):
                queue_client.resend_ticket(enqueue.entry_of(task))

    @staticmethod
    def _is_orphaned(task: Task, entry: _Entry, leases: list[str]) -> bool:
        if entry.state == EntryState.RUNNING:
            return entry.owner not in leases
        return task.status == Status.RUNNING and entry.state != EntryState.WAITING

    def _requeue(self, task: Task, entry: _Entry) -> None:
        if entry.state == EntryState.RUNNING:
            self._queue.requeue_dead(entry.owner or "", "it left no lease")
            return
        reason = Reason(Code.NO_HOLDER, "no worker holds it")
        if states.requeue(task.id, worker=task.worker, attempt=task.attempt, reason=reason):
            enqueue.enqueue(task)

    def _repair_priority(self, task_id: UUID) -> None:
        """Somebody died between changing the priority of the row and that of the entry. The row is read again, because
        it may have got another one just now."""
        row = Task.objects.filter(pk=task_id, status=Status.QUEUED, updated_at__lt=self._cutoff()).first()
        if row is not None:
            queue_client.set_priority(row.id, row.priority)

    def _cutoff(self) -> datetime:
        return timezone.now() - timedelta(seconds=self._config.min_age_s)
