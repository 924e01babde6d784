"""The statements of a task's way in a small and in a large table, over the database of DATABASE_URL, which must be
empty and is migrated first.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from generation import lifecycle, partitions
from generation.models import ImageModel, Status, Task, User
from generation.parameters import Parameters
from generation.uuid7 import moment_of, uuid7

ROUNDS = 60
DAYS = 90
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
    """The task table, filled step by step."""

    def __init__(self) -> None:
        call_command("migrate", verbosity=0)
        call_command("seed", verbosity=0)
        today = datetime.now(UTC).date()
        partitions.ensure(today - timedelta(days=DAYS), DAYS + 3)
        User.objects.bulk_create(User(username=f"user{number}") for number in range(USERS))
        self.user = User.objects.order_by("id")[0]
        self.model = ImageModel.objects.get(name="mini")
        self.parameters = Parameters("text2img", "red circle", "", 256, 256, 20, 4.0, "euler", 7)

    def fill(self, first: int, last: int) -> None:
        """Ended tasks number `first` to `last`, evenly over the days; the newest a minute ago."""
        params: dict[str, Any] = {
            "user": self.user.pk,
            "users": USERS,
            "model": self.model.pk,
            "params": '{"kind": "text2img", "steps": 20, "seed": 7, "num_images": 1, "schema": 1}',
            "newest": timezone.now() - timedelta(minutes=1),
            "gap": (DAYS - 1) * 86_400_000 / last,
        }
        for begin in range(first, last + 1, BLOCK):
            with connection.cursor() as cursor:
                cursor.execute(INSERT, params | {"first": begin, "last": min(begin + BLOCK - 1, last)})
            print(f"  {min(begin + BLOCK - 1, last):,} rows", flush=True)
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

    def time(self) -> dict[str, float]:
        """Seconds of each statement: the border of the fastest tenth."""
        some = [UUID(bytes=bytes(row)) if isinstance(row, memoryview) else row for row in self._ids()]
        open_ids = [self.new() for _ in range(ROUNDS * 2)]
        Task.objects.bulk_create(open_ids)
        waiting = iter([task.id for task in open_ids])
        late = timezone.now() - timedelta(seconds=3)
        calls: Mapping[str, Callable[[], object]] = {
            "insert of a task": lambda: self.new().save(force_insert=True),
            "claim (queued -> running)": lambda: lifecycle.claim([next(waiting)], "bench-1"),
            "a task by its id": lambda: Task.objects.get(pk=some[int(time.perf_counter_ns()) % len(some)]),
            "a user's 20 newest": lambda: list(Task.objects.filter(user=self.user).order_by("-id")[:20]),
            "what the audit reads": lambda: list(
                Task.objects.filter(status__in=[Status.QUEUED, Status.RUNNING], updated_at__lt=late).order_by("id")[:50]
            ),
            "what has expired": lifecycle.expire_due,
        }
        times = {name: _fast(call) for name, call in calls.items()}
        Task.objects.filter(status__in=[Status.QUEUED, Status.RUNNING]).delete()
        return times

    def _ids(self) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM generation_task ORDER BY id DESC LIMIT 5000")
            return [row[0] for row in cursor.fetchall()]


def measure(small: int, large: int) -> dict[str, Any]:
    """The same statements at both sizes, in one run."""
    table = Table()
    table.fill(1, small)
    before = table.time()
    table.fill(small + 1, large)
    after = table.time()
    return {"sizes": [small, large], "times": {name: [before[name], after[name]] for name in before}}


def _fast(call: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 10]
