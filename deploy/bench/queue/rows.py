"""The statements of a task's way in a small and in a large table: two databases of the server of DATABASE_URL, which
take turns so that other work on the machine hits both. They are loaded once; a later run on the same server finds them.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from generation.accounts.models import User
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import Parameters
from generation.tasks import partitions, states
from generation.tasks.models import Status, Task
from imagegenx_site.ids import moment_of, uuid7

TURNS, CALLS, WARM = 8, 40, 15
DAYS = 90
GOAL = 1.2
BLOCK = 250_000
USERS = 200

# A succeeded task of some day, its id made as uuid7 makes them: 48 bits of ms, then chance.
INSERT = """
    INSERT INTO generation_task (id, user_id, kind, status, priority, model_id, model_key, style, text, params, width,
        height, batch_key, cost, progress, warnings, callback_url, cancel_requested, error_code, error_message, attempt,
        worker, stage_owner, stage_attempts, history, created_at, expires_at, started_at, generated_at, stored_at,
        finished_at, updated_at)
    SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
        %(user)s + n %% %(users)s, 'text2img', 'succeeded', n %% 4, %(model)s, 'mini@1', '', 'red circle', %(params)s,
        256, 256, 'mini@1:256x256', 1.3, 100, '[]', '', false, '', '', 1, 'gpu1', '', 0, '[]',
        at, at, at, at, at, at, at
    FROM (SELECT n, at, (extract(epoch FROM at) * 1000)::bigint AS ms FROM (SELECT n,
        %(newest)s::timestamptz - interval '1 ms' * (n * %(gap)s)::bigint AS at
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS moments) AS stamped"""


class Table:
    """A database with `count` ended tasks, evenly over the days, the newest a minute ago."""

    def __init__(self, count: int, name: str = "") -> None:
        self.count, self.name = count, name or f"bench_rows_{count}"
        if not self._exists():
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {self.name}")
        with self.used():
            call_command("migrate", verbosity=0)
            call_command("seed", verbosity=0)
            partitions.ensure(datetime.now(UTC).date() - timedelta(days=DAYS), DAYS + 3)
            if not User.objects.filter(username="user0").exists():
                User.objects.bulk_create(User(username=f"user{number}") for number in range(USERS))
            self.user = User.objects.get(username="user0")
            self.model = ImageModel.objects.get(name="mini")
            if not Task.objects.exists():
                self._fill()
        self.parameters = Parameters("text2img", "red circle", "", 256, 256, 20, 4.0, "euler", 7)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Django's connection leads to this database inside."""
        before = connection.settings_dict["NAME"]
        connection.close()
        connection.settings_dict["NAME"] = self.name
        try:
            yield
        finally:
            connection.close()
            connection.settings_dict["NAME"] = before

    def _exists(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.name])
            return cursor.fetchone() is not None

    def _fill(self) -> None:
        params: dict[str, Any] = {
            "user": self.user.pk,
            "users": USERS,
            "model": self.model.pk,
            "params": '{"kind": "text2img", "steps": 20, "seed": 7, "num_images": 1, "schema": 1}',
            "newest": timezone.now() - timedelta(minutes=1),
            "gap": (DAYS - 1) * 86_400_000 / self.count,
        }
        with transaction.atomic(), connection.cursor() as cursor:  # a load that was cut off leaves nothing
            for begin in range(1, self.count + 1, BLOCK):
                last = min(begin + BLOCK - 1, self.count)
                cursor.execute(INSERT, params | {"first": begin, "last": last})
                print(f"  {last:,} rows", flush=True)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE generation_task")

    def new(self, **changes: Any) -> Task:
        task_id = uuid7()
        created = moment_of(task_id)
        bound = {"model": self.model, "model_key": "mini@1", "batch_key": "mini@1:256x256", "user": self.user}
        what = {"kind": "text2img", "text": "red circle", "params": self.parameters.to_json(), "cost": 1.3}
        when = {"created_at": created, "expires_at": created + timedelta(minutes=5)}
        fields = {**bound, **what, **when, "width": 256, "height": 256, **changes}
        return Task(id=task_id, **fields)

    def times(self) -> dict[str, list[float]]:
        """Seconds of each call of each statement."""
        with self.used():
            some = self._newest_ids()
            waiting = [self.new() for _ in range(WARM + CALLS)]
            Task.objects.bulk_create(waiting)
            try:
                statements = self._statements(some, [task.id for task in waiting])
                return {name: _measured(call) for name, call in statements.items()}
            finally:
                Task.objects.filter(status__in=[Status.QUEUED, Status.RUNNING]).delete()

    def _statements(self, some: list[UUID], waiting: list[UUID]) -> Mapping[str, Callable[[], object]]:
        late = timezone.now() + timedelta(seconds=3)
        chance = random.Random(1)
        open_ones = Task.objects.filter(status__in=[Status.QUEUED, Status.RUNNING], updated_at__lt=late)
        return {
            "insert of a task": lambda: self.new().save(force_insert=True),
            "claim (queued -> running)": lambda: states.claim([waiting.pop()], "bench-1"),
            "a task by its id": lambda: Task.objects.get(pk=chance.choice(some)),
            "a user's 20 newest": lambda: list(Task.objects.filter(user=self.user).order_by("-id")[:20]),
            "what the audit reads": lambda: list(open_ones.order_by("id")[:50]),
            "what has expired": states.expire_due,
        }

    def _newest_ids(self) -> list[UUID]:
        return list(Task.objects.order_by("-id").values_list("id", flat=True)[:5000])


def measure(small: int, large: int) -> dict[str, Any]:
    """The same statements at both sizes."""
    return compare(Table(small), Table(large))


def compare(*tables: Table) -> dict[str, Any]:
    """Medians of what they take, in turns."""
    taken: list[dict[str, list[float]]] = [{}, {}]
    for _ in range(TURNS):
        for table, times in zip(tables, taken, strict=True):
            for name, found in table.times().items():
                times.setdefault(name, []).extend(found)
    before, after = taken
    medians = {name: [statistics.median(before[name]), statistics.median(after[name])] for name in before}
    return {"sizes": [table.count for table in tables], "times": medians}


def _measured(call: Callable[[], object]) -> list[float]:
    """Seconds of each call, after some that warm caches and plans up."""
    times = []
    for _ in range(WARM + CALLS):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times[WARM:]


def lines(found: dict[str, Any]) -> list[str]:
    """The table of the page."""
    small, large = found["sizes"]
    head = [f"| statement | {small:,} rows | {large:,} rows | ratio |", "|---|---|---|---|"]
    times = [
        f"| {name} | {before * 1e3:.2f} ms | {after * 1e3:.2f} ms | {after / before:.2f} |"
        for name, (before, after) in found["times"].items()
    ]
    worst = max(after / before for before, after in found["times"].values())
    end = f"Worst ratio {worst:.2f}; goal {GOAL}. Medians. Daily partitions over {DAYS} days in both."
    return [*head, *times, "", end]
