"""Performs a fault. Imported after Django is set up."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from django.core.management import call_command
from django.db import Error, connection

from fixtures.fleet import Fleet, all_ended, doubled, statuses, submit
from generation.accounts.models import ApiKey, Plan, Team, User
from generation.tasks import partitions
from generation.tasks.models import TERMINAL, Status, Task
from generation.webhooks.models import Delivery
from workers.tests.faults.acts import Act, all_faults
from workers.tests.faults.clients import Clients
from workers.tests.faults.result import LIMIT_S, STEPS, TASKS, Result
from workers.tests.faults.stage import Stage, Supervisor

PROCESSES = ("gpu1", "gpu2", "cpu1", "io1", "reconciler1", "reconciler2")
BEFORE_END = (Status.QUEUED, Status.RUNNING)
AFTER_GPU = (Status.GENERATED, Status.PROCESSED, Status.STORED)


class Play:
    """Performs faults one after the other, with one database and one fleet."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        call_command("migrate", verbosity=0)
        call_command("seed", verbosity=0)
        partitions.ensure(datetime.now(UTC).date(), 2)
        team = Team.objects.create(name="shop", plan=Plan.objects.get(name="paid"))
        self.user = User.objects.create(username="owner", team=team)
        self.clients = Clients(f"http://127.0.0.1:{stage.web_port}", ApiKey.make(self.user)[1])
        self.fleet = Fleet(stage.folder, stage.env)
        self.supervisor = Supervisor(self.fleet)
        self._bad: list[UUID] = []
        self._steps = 0

    def open(self) -> None:
        """Everything starts; `close` ends it, also when this raised."""
        self.fleet.start(*PROCESSES)
        self.supervisor.start()

    def close(self) -> None:
        self.supervisor.stopping.set()
        if self.supervisor.is_alive():
            self.supervisor.join()
        self.clients.close()
        self.fleet.stop(*self.fleet.processes)

    def faults(self) -> dict[str, Act]:
        """All that this stage can do."""
        return all_faults(self)

    # ---- one performance

    def perform(self, fault: str, act: Act, moment: str) -> Result:
        """Submits tasks, lets the fault happen at the moment, submits some more, and waits for the end of all."""
        over_http = "web" in fault
        self._everything_up(web=over_http)
        self._bad.clear()
        self._steps = STEPS[moment]
        ids, more = self._at_the_moment(moment, over_http)
        struck = dict(statuses(ids))
        begun, at = time.monotonic(), datetime.now(UTC)
        act()
        connection.close()  # the server may have been another one
        ids += [*more(), *self._bad]
        with suppress(Error):
            ids += self._submit(2)
        recovered = self._ended(ids, begun)
        lost, twice = self._lost(ids), self._doubled(ids)
        return Result(fault, moment, struck, _again(ids, at), recovered, lost, twice, dict(statuses(ids)))

    def busiest(self) -> str:
        """The GPU worker that holds most of the running tasks: whose death is felt."""
        held = Counter(Task.objects.filter(status=Status.RUNNING).values_list("worker", flat=True))
        return max(("gpu1", "gpu2"), key=lambda name: sum(n for who, n in held.items() if who.startswith(name)))

    def submit_bad(self, text: str) -> None:
        """A task whose prompt makes its engine misbehave."""
        self._bad += submit(self.user, text, steps=self._steps)

    def _at_the_moment(self, moment: str, over_http: bool) -> tuple[list[UUID], Callable[[], list[UUID]]]:
        """Tasks of which some are where the moment wants them, and what answers with those still to be accepted."""
        count = TASKS[moment]
        for _ in range(5):
            if over_http:
                known = set(self._mine())
                more = self.clients.submit(
                    count, self._steps, accepted=count // 2 if moment == "waiting" else count - 3
                )
                ids = [task_id for task_id in self._mine() if task_id not in known]
                rest = partial(_but, more, ids)
            else:
                ids, rest = self._submit(count), partial(_but, list, [])
            if self._reached(moment, ids):
                return ids, rest
            self._ended([*ids, *rest()], time.monotonic())
        raise RuntimeError(f"the moment {moment!r} was missed five times")

    def _mine(self) -> list[UUID]:
        return list(Task.objects.filter(user=self.user).values_list("id", flat=True))

    def _submit(self, count: int) -> list[UUID]:
        put = partial(submit, self.user, steps=self._steps, callback_url="https://shop.example/hook")
        return [*put(count=count - 2), *put(count=2, priority=0)]

    def _reached(self, moment: str, ids: list[UUID]) -> bool:
        """waiting: some wait; mid-batch: some have run for a while; after the GPU: none is before it, some after."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = statuses(ids)
            before = sum(found[state] for state in BEFORE_END)
            if moment == "waiting":
                return found[Status.QUEUED] > 0
            if moment == "mid-batch" and (found[Status.RUNNING] or not before):
                time.sleep(0.2 if before else 0)
                return statuses(ids)[Status.RUNNING] > 0
            if moment == "after the GPU" and not before:
                return sum(found[state] for state in AFTER_GPU) > 0
            time.sleep(0.002)
        return False

    def _everything_up(self, *, web: bool) -> None:
        names = (*PROCESSES, "web1") if web else PROCESSES
        if web and "web1" not in self.fleet.processes:
            self.fleet.start("web1", wait=False)
        end = time.monotonic() + 240
        while not all(self.fleet.alive(name) and self.fleet.ready(name) for name in names):
            if time.monotonic() > end:
                raise RuntimeError("the fleet did not come back after the last fault")
            time.sleep(0.05)

    def _ended(self, ids: list[UUID], begun: float) -> float | None:
        while time.monotonic() - begun < LIMIT_S:
            try:
                if all_ended(ids):
                    return time.monotonic() - begun
            except Error:
                connection.close()
            time.sleep(0.02)
        return None

    def _lost(self, ids: list[UUID]) -> int:
        """Tasks without an end, and ends whose webhook event is missing."""
        ended = Task.objects.filter(pk__in=ids, status__in=TERMINAL)
        wanted = ended.exclude(callback_url="")
        told = Delivery.objects.filter(task__in=wanted).values("task").distinct().count()
        return len(ids) - ended.count() + wanted.count() - told

    def _doubled(self, ids: list[UUID]) -> int:
        """Second ends and pictures, second events, and rows that a repeated request made beside its first."""
        events = Counter(Delivery.objects.filter(task_id__in=ids).values_list("task_id", flat=True))
        unasked = Task.objects.filter(id__gte=min(ids)).exclude(pk__in=ids).count()
        return len(doubled(ids)) + sum(count - 1 for count in events.values()) + unasked


def _but(more: Callable[[], list[UUID]], known: list[UUID]) -> list[UUID]:
    return [task_id for task_id in more() if task_id not in known]


def _again(ids: list[UUID], at: datetime) -> float | None:
    """Seconds from the fault until the last task that lost its worker was claimed again."""
    waits = []
    for task in Task.objects.filter(pk__in=ids):
        claims = [datetime.fromisoformat(entry["at"]) for entry in task.history if entry.get("to") == "running"]
        if len(claims) > 1 and claims[0] <= at:
            waits += [(claim - at).total_seconds() for claim in claims if claim > at][:1]
    return max(waits, default=None)
