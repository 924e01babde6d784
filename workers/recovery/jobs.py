"""The jobs that make Redis agree with Postgres again, whatever was lost. workers/recovery/reconciler.py runs them.

The rows say what is to be done; buffer entries and messages are copies that a crash, a flush or a full disk can take
away.

    every     job        what it finds, what it does
    0.1 s     notes      what dead workers left behind (gq:retick, gq:dead, gq:dropped, gq:lost_workers): rows moved,
                         tickets sent anew, alerts raised
    0.5 s     leases     workers whose lease ran out: their tasks are put back
    0.5 s     epoch      Redis was emptied: every queued row is enqueued again
    1 s       expiry     rows that waited too long
    1 s       cancels    open rows whose cancel was asked for and not yet obeyed
    1 s       stages     rows after the GPU that nobody works on: their next messages are sent again
    1 s       audit      queued rows that Redis does not know or has in another class, running rows that no worker
                         holds

Every job only repeats what somebody else may have done already; each move is fenced by the row itself.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.utils import timezone
from redis import Redis

from generation.queue import client as queue_client
from generation.queue.buffer import Buffer, BufferConfig
from generation.queue.values import EntryState, Withdrawal
from generation.tasks import enqueue
from generation.tasks import stages as tasks_stages
from generation.tasks import states as tasks_states
from generation.tasks.models import Status, Task
from generation.tasks.reasons import Code, Reason
from generation.telemetry import alerts
from generation.telemetry.models import Alert

logger = logging.getLogger(__name__)
STAGES_LEFT = {
    Status.GENERATED: tasks_stages.STAGES,
    Status.PROCESSED: tasks_stages.STAGES[1:],
    Status.STORED: tasks_stages.STAGES[2:],
}


@dataclass(frozen=True)
class RepairsConfig:
    """Times in seconds."""

    settled: float = 3.0  # a row that moved later than this ago is left alone
    stage_patience: float = 5.0  # from a row's move to its next stage being sent again; doubles with every repeat
    stage_patience_max: float = 60.0
    epoch_grace: float = 1.5  # after a flush: running tasks register anew first
    page: int = 5000  # rows looked at in one audit


class Repairs:
    """One method per job. Errors of Redis and Postgres pass through: the caller tries again later."""

    def __init__(self, redis: Redis, config: RepairsConfig) -> None:
        self.redis, self.config = redis, config
        self.buffer = Buffer(redis, BufferConfig(worker="reconciler", own_queue=""))
        self._sent: dict[UUID, tuple[float, float]] = {}  # stages sent again: (not before, patience)
        self._suspects: set[UUID] = set()
        self._cursor = UUID(int=0)
        self._emptied_at: float | None = None

    # ---- what dead workers left behind

    def notes(self) -> None:
        """A note is read, acted upon, then removed: a crash in between repeats it."""
        while raw := self.redis.lindex("gq:retick", 0):
            note = json.loads(raw)
            self._put_back(UUID(note["id"]), note["worker"], note["cause"])
            self.redis.lrem("gq:retick", 1, raw)
        while raw := self.redis.lindex("gq:dead", 0):
            note = json.loads(raw)
            message = f"The task ended its worker again and again, at last alone ({note['cause']})."
            tasks_states.fail(UUID(note["id"]), code="worker_crashed", message=message)
            self.redis.lrem("gq:dead", 1, raw)
        while task_id := self.redis.lindex("gq:dropped", 0):
            tasks_states.cancel_if_requested(UUID(task_id), among=[Status.QUEUED, Status.RUNNING])
            self.redis.lrem("gq:dropped", 1, task_id)
        while raw := self.redis.lindex("gq:lost_workers", 0):
            note = json.loads(raw)
            alerts.raise_alert(Alert.Kind.WORKER_LOST, note["worker"], note["cause"])
            self.redis.lrem("gq:lost_workers", 1, raw)
        self.redis.delete("gq:expired")  # the rows say it themselves

    def _put_back(self, task_id: UUID, worker: str, cause: str) -> None:
        row = Task.objects.filter(pk=task_id, status=Status.RUNNING, worker=worker).first()
        if row is not None:
            reason = Reason(Code.WORKER_LOST, f"worker lost: {cause}")
            tasks_states.hand_back(task_id, worker=worker, attempt=row.attempt, reason=reason)
            queue_client.send_ticket(task_id, row.priority, again=str(row.attempt))

    def leases(self) -> None:
        """Tasks of workers that died together with their watchdog."""
        found = self.buffer.requeue_dead("", "its lease ran out")
        if found.requeued or found.given_up:
            logger.warning("leases ran out: %d tasks put back, %d given up", len(found.requeued), len(found.given_up))

    # ---- Redis was emptied

    def epoch(self) -> None:
        """Enqueues every queued row, oldest first, once the running ones have had time to register themselves."""
        if self.redis.exists("gq:epoch"):
            self._emptied_at = None
            return
        now = time.monotonic()
        self._emptied_at = self._emptied_at or now
        if now - self._emptied_at < self.config.epoch_grace:
            return
        count = 0
        for task in Task.objects.filter(status=Status.QUEUED).order_by("id").iterator(chunk_size=500):
            enqueue.enqueue(task)
            count += 1
        self.redis.set("gq:epoch", int(time.time()))
        self._sent.clear()
        logger.warning("the buffer was empty: %d waiting tasks enqueued", count)

    # ---- rows that stand still

    def expiry(self) -> None:
        """queued -> expired, and out of the buffer."""
        for task_id in tasks_states.expire_due():
            queue_client.cancel(task_id)

    def cancels(self) -> None:
        """A cancel that did not reach its worker is repeated; one that no worker will obey is carried out here."""
        wanted = Task.objects.filter(cancel_requested=True, status__in=[Status.QUEUED, Status.RUNNING])
        for task_id, updated in wanted.order_by("id").values_list("id", "updated_at")[:1000]:
            found = queue_client.cancel(task_id)
            if found is not Withdrawal.SIGNALLED and updated < self._settled_before():
                tasks_states.cancel_if_requested(task_id, among=[Status.QUEUED, Status.RUNNING])

    def stages(self) -> None:
        """Sends what follows the GPU again: after a lost message, a dead stage worker, or when a retry is due."""
        now = timezone.now()
        idle = Q(stage_owner="", updated_at__lt=now - timedelta(seconds=self.config.stage_patience))
        late = Task.objects.filter(idle | Q(stage_until__lt=now), status__in=list(STAGES_LEFT)).order_by("id")
        found = list(late.values_list("id", "status")[: self.config.page])
        for task_id, status in found:
            self._send_again(task_id, status)
        for task_id in self._sent.keys() - {task_id for task_id, _ in found}:
            del self._sent[task_id]

    def _send_again(self, task_id: UUID, status: str) -> None:
        """With growing patience: a long queue of the CPU workers is no loss of messages."""
        now = time.monotonic()
        not_before, patience = self._sent.get(task_id, (0.0, self.config.stage_patience))
        if now >= not_before:
            tasks_stages.send_stages(str(task_id), STAGES_LEFT[Status(status)])
            self._sent[task_id] = (now + patience, min(2 * patience, self.config.stage_patience_max))

    def audit(self) -> None:
        """One page of open rows against the buffer; the next page at the next call."""
        rows = Task.objects.filter(status__in=[Status.QUEUED, Status.RUNNING], updated_at__lt=self._settled_before())
        page = list(rows.filter(id__gt=self._cursor).order_by("id")[: self.config.page])
        self._cursor = page[-1].id if len(page) == self.config.page else UUID(int=0)
        with self.redis.pipeline(transaction=False) as pipe:
            for task in page:
                pipe.hmget(f"gq:t:{task.id}", "st", "own", "cls")
            pipe.zrange("gq:lease", 0, -1)
            *states, leases = pipe.execute()
        suspects = set()
        for task, (state, owner, priority) in zip(page, states, strict=True):
            if task.status == Status.QUEUED and state not in (EntryState.WAITING, EntryState.RUNNING):
                enqueue.enqueue(task)
            elif task.status == Status.QUEUED and state == EntryState.WAITING and priority != str(task.priority):
                self._reclass(task.id)
            elif state == EntryState.RUNNING and owner not in leases:
                suspects.add(task.id)
                if task.id in self._suspects:
                    self.buffer.requeue_dead(owner, "it left no lease")
            elif task.status == Status.RUNNING and state not in (EntryState.WAITING, EntryState.RUNNING):
                suspects.add(task.id)
                if task.id in self._suspects:
                    self._return_to_queue(task)
        self._suspects = suspects

    def _reclass(self, task_id: UUID) -> None:
        """Somebody died between the two halves of giving it another class. The row is asked once more, because it may
        have been given one just now."""
        row = Task.objects.filter(pk=task_id, status=Status.QUEUED, updated_at__lt=self._settled_before()).first()
        if row is not None:
            queue_client.reclass(row.id, row.priority)

    def _return_to_queue(self, task: Task) -> None:
        """Running by its row, but no worker holds it, and that for two audits."""
        reason = Reason(Code.NO_HOLDER, "no worker holds it")
        if tasks_states.hand_back(task.id, worker=task.worker, attempt=task.attempt, reason=reason):
            enqueue.enqueue(task)

    def _settled_before(self) -> datetime:
        return timezone.now() - timedelta(seconds=self.config.settled)

    def schedule(self) -> list[tuple[float, Callable[[], None]]]:
        """Every job with its period in seconds."""
        return [
            (0.1, self.notes),
            (0.5, self.leases),
            (0.5, self.epoch),
            (1.0, self.expiry),
            (1.0, self.cancels),
            (1.0, self.stages),
            (1.0, self.audit),
        ]
