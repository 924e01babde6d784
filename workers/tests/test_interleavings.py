"""Random interleavings of submitting, claiming, stepping, crashing, cancelling, losing Redis and repairing, over the
real database and the real buffer; after each the invariants hold, and at the end every task has come to exactly one
end.

Workers are modelled by what they hold in memory: a crash forgets it, a lost tick drops it, a delivery uses it.
"""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from django.conf import settings
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from fixtures.fleet import moves, submit
from generation.accounts.models import User
from generation.queue import client as queue_client
from generation.queue.classes import queues_of
from generation.queue.worker import Claimed, WorkerQueue, WorkerQueueConfig
from generation.tasks import cancel as tasks_cancel
from generation.tasks import states
from generation.tasks.enqueue import set_priority
from generation.tasks.models import TERMINAL, Status, Task
from generation.webhooks.models import Delivery
from imagegenx_site import redis_clients
from workers.gpu.outcomes import End, Outcome
from workers.gpu.settlement import settle_row
from workers.recovery.audit import AuditConfig
from workers.recovery.cancels import CancelsConfig
from workers.recovery.redis_epoch import RedisEpochConfig
from workers.recovery.schedule import RecoveryConfig, repairs
from workers.recovery.stages import StageMessages, StageMessagesConfig

WORKERS = 2
HOOK = "https://client.example.com/hook"
AT_ONCE = RecoveryConfig(
    redis_epoch=RedisEpochConfig(grace=0),
    cancels=CancelsConfig(min_age_s=0),
    stages=StageMessagesConfig(patience=0),
    audit=AuditConfig(min_age_s=0),
)
ENDS = {str(state) for state in TERMINAL}


class Worker:
    """A GPU worker without engine and threads: its state, and the calls of the real one."""

    def __init__(self, name: str) -> None:
        config = WorkerQueueConfig(worker=name, own_queue="dq.gpu1", lease_ms=3_600_000, window_ms=0, affinity_ms=0)
        self.queue = WorkerQueue(redis_clients.connect(settings.REDIS_URL, 5), config)
        self.name = name
        self.held: dict[str, tuple[Claimed, Task]] = {}
        self.queue.beat()

    def claim(self, slots: int) -> None:
        claims = self.queue.claim(slots).tasks
        rows = {str(task.id): task for task in states.claim([UUID(claim.task_id) for claim in claims], self.name)}
        for claim in claims:
            task = rows.get(claim.task_id)
            if task is not None:
                self.held[claim.task_id] = (claim, task)
            else:
                self.queue.settle(claim, settle_row(claim, None, Outcome(End.NOT_RUNNABLE), self.name))

    def tick(self) -> None:
        tick = self.queue.tick([claim for claim, _ in self.held.values()])
        for task_id in tick.taken_over:
            del self.held[task_id]
        for task_id in tick.cancelled:
            self.settle(task_id, Outcome(End.CANCELLED))
        self.queue.requeue_orphans(self.held)  # what it claimed anew while it held the last claim of the same task

    def settle(self, task_id: str, outcome: Outcome) -> None:
        claim, task = self.held.pop(task_id)
        self.queue.settle(claim, settle_row(claim, task, outcome, self.name))

    def finish(self) -> None:
        """The oldest task's pictures are stored, but its stages not enqueued: the repairs must find that."""
        for task_id, (_, task) in list(self.held.items())[:1]:
            states.mark_generated(task.id, worker=self.name, attempt=task.attempt)
            self.settle(task_id, Outcome(End.FINISHED))

    def stop(self) -> None:
        for task_id in list(self.held):
            self.settle(task_id, Outcome(End.STOPPED))

    def return_paused(self, *, dies: bool) -> None:
        """The newest task is returned, because paused work holds too much memory; or the worker dies half way."""
        for task_id, (claim, task) in list(self.held.items())[-1:]:
            if dies:
                settle_row(claim, task, Outcome(End.RETURNED), self.name)
            else:
                self.settle(task_id, Outcome(End.RETURNED))


class Interleavings(RuleBasedStateMachine):
    """Rules in the order of a task's life."""

    tasks: Bundle[UUID] = Bundle("tasks")

    @initialize(target=tasks)
    def begin(self):
        """Two tasks run and four wait, so that the first rule has work."""
        Task.objects.all().delete()
        self.redis = redis_clients.connect(settings.REDIS_URL, 5)
        self.redis.flushdb()
        self.user = User.objects.get(username="owner")
        self.ids: list[UUID] = []
        self.starts = 0
        self.workers = [self.start(number) for number in range(WORKERS)]
        self.repairs = repairs(self.redis, AT_ONCE)
        ids = [
            task_id
            for priority in (1, 2)
            for task_id in submit(self.user, priority=priority, count=3, callback_url=HOOK)
        ]
        self.ids += ids
        self.workers[0].claim(2)
        return multiple(*ids)

    def start(self, number: int) -> Worker:
        self.starts += 1
        return Worker(f"gpu{number}-{self.starts}-x")

    @rule(target=tasks, priority=st.integers(0, 3), count=st.integers(1, 4), known=st.booleans())
    def submit(self, priority: int, count: int, known: bool):
        """`known` false: the process died between the commit and the buffer."""
        ids = submit(self.user, priority=priority, count=count, callback_url=HOOK)
        if not known:
            self.redis.delete(*[f"gq:t:{task_id}" for task_id in ids])
        self.ids += ids
        return multiple(*ids)

    @rule(number=st.integers(0, WORKERS - 1), slots=st.integers(1, 6))
    def claim(self, number: int, slots: int) -> None:
        self.workers[number].claim(slots)

    @rule(number=st.integers(0, WORKERS - 1))
    def lose_a_claims_answer(self, number: int) -> None:
        worker = self.workers[number]
        worker.queue.claim(2)
        worker.queue.requeue_orphans(worker.held)

    @rule(number=st.integers(0, WORKERS - 1))
    def tick(self, number: int) -> None:
        self.workers[number].tick()

    @rule(number=st.integers(0, WORKERS - 1))
    def finish(self, number: int) -> None:
        self.workers[number].finish()

    @rule(number=st.integers(0, WORKERS - 1))
    def stop(self, number: int) -> None:
        self.workers[number].stop()

    @rule(number=st.integers(0, WORKERS - 1), dies=st.booleans())
    def paused_work_returns(self, number: int, dies: bool) -> None:
        self.workers[number].return_paused(dies=dies)
        if dies:
            self.crash(number)

    @rule(task_id=tasks, priority=st.integers(0, 3), dies=st.sampled_from(["not", "before the entry", "before commit"]))
    def another_class(self, task_id: UUID, priority: int, dies: str) -> None:
        """An operator re-prioritises, or dies between row and entry."""
        if dies == "not":
            set_priority(Task.objects.get(pk=task_id), priority)
        elif dies == "before the entry":
            states.set_priority(task_id, priority)
        elif Task.objects.filter(pk=task_id, status=Status.QUEUED).exists():
            queue_client.set_priority(task_id, priority)

    @rule(number=st.integers(0, WORKERS - 1))
    def crash(self, number: int) -> None:
        """The watchdog requeues everything; another process starts."""
        self.workers[number].queue.requeue_dead(self.workers[number].name, "killed")
        self.workers[number] = self.start(number)

    @rule(number=st.integers(0, WORKERS - 1))
    def crash_with_its_watchdog(self, number: int) -> None:
        """Its tasks are found when its lease expires."""
        self.redis.zadd("gq:lease", {self.workers[number].name: 1})
        self.workers[number] = self.start(number)

    @rule(number=st.integers(0, WORKERS - 1))
    def requeue_the_tasks_of_a_living_worker(self, number: int) -> None:
        """Its lease ran out though it lives: it goes on with what it holds until its next tick."""
        self.workers[number].queue.requeue_dead(self.workers[number].name, "stalled")
        self.workers[number].queue.beat()

    @rule(task_id=consumes(tasks))
    def cancel(self, task_id: UUID) -> None:
        tasks_cancel.cancel_task(Task.objects.get(pk=task_id))

    @rule(task_id=consumes(tasks))
    def deadline_passes(self, task_id: UUID) -> None:
        """A waiting task expires at the next repair or claim; one that runs does not."""
        Task.objects.filter(pk=task_id).update(expires_at=timezone.now() - timedelta(seconds=1))

    @rule(number=st.integers(0, WORKERS - 1))
    def inference_fails(self, number: int) -> None:
        """The oldest task's inference: retried alone, then failed."""
        worker = self.workers[number]
        for task_id in list(worker.held)[:1]:
            worker.settle(task_id, Outcome(End.FAILED, RuntimeError("asked to fail")))

    @rule()
    def reconciler_restarts(self) -> None:
        """A new one has no memory of earlier rounds."""
        self.repairs = repairs(self.redis, AT_ONCE)

    @rule()
    def flush_redis(self) -> None:
        self.redis.flushdb()
        for worker in self.workers:
            worker.queue.beat()

    @rule()
    def repair(self) -> None:
        for worker in self.workers:  # as their watchdogs do: a slow machine is no outage of Redis
            worker.queue.beat()
        self.redis.delete("gq:grace")
        for repair in self.repairs:
            repair.run()
        for task in Task.objects.filter(status=Status.QUEUED):
            state, priority = self.redis.hmget(f"gq:t:{task.id}", "st", "cls")
            assert state != "w" or priority == str(task.priority), "the entry waits with another priority than its row"

    @invariant()
    def nobody_ends_twice(self) -> None:
        events = Counter(Delivery.objects.values_list("task_id", flat=True))
        for task in Task.objects.all():
            assert events[task.id] == (task.status in ENDS), "one event for an end, none before"
            assert sum(len(moves(task, end)) for end in ENDS) <= 1, task.history
            assert len(moves(task, "generated")) <= 1, task.history
            assert (task.status in ENDS) == (sum(len(moves(task, end)) for end in ENDS) == 1)

    @invariant()
    def a_row_has_one_holder(self) -> None:
        """Two workers may hold a task in memory, but only one of them holds the row's fence."""
        for task in Task.objects.filter(status=Status.RUNNING):
            fences = [
                row for worker in self.workers for _, row in worker.held.values()
                if row.id == task.id and (worker.name, row.attempt) == (task.worker, task.attempt)
            ]  # fmt: skip
            assert len(fences) <= 1

    def teardown(self) -> None:
        """Left alone, with workers that work, everything ends."""
        if not hasattr(self, "ids"):
            return
        for _ in range(30):
            if not Task.objects.exclude(status__in=[*TERMINAL, Status.GENERATED]).exists():
                break
            self.repair()
            for worker in self.workers:
                worker.tick()
                worker.claim(8)
                for _ in range(8):
                    worker.finish()
        left = Task.objects.exclude(status__in=[*TERMINAL, Status.GENERATED])
        assert not left, [(task.id, task.status, task.history) for task in left]
        assert Task.objects.count() == len(self.ids)
        unsent = Task.objects.filter(status=Status.GENERATED).count()
        self.redis.delete(*queues_of("cpu"))
        StageMessages(AT_ONCE.stages).run()
        assert sum(map(self.redis.llen, queues_of("cpu"))) == unsent
        self.nobody_ends_twice()


@pytest.mark.usefixtures("user")
def test_every_task_ends_once_in_every_interleaving(monkeypatch):
    monkeypatch.setattr(settings, "MAX_ATTEMPTS", 1000)
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    Interleavings.TestCase.settings = hypothesis_settings(
        max_examples=20, stateful_step_count=50, deadline=None, suppress_health_check=slow, derandomize=True
    )
    Interleavings.TestCase("runTest").runTest()
