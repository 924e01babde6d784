"""`make bench-cache`: hit rate and time of polls on a Zipf load, beside the same polls without a cache.

    python -m deploy.services run -- python -m deploy.bench.api.cache [--polls 30000] [--tasks 1000] [--json FILE]

Rows are in real Postgres, the cache in real Redis. Popularity follows Zipf's law; every `--moves` polls one open task
makes progress, which invalidates its entry. `cold` starts with an empty cache, so the first poll of a task is a miss;
`warm` follows it. The goal is a hit rate of 99 % when warm.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
django.setup()

from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from generation.accounts.models import Team, User
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import Parameters
from generation.tasks import states
from generation.tasks import view as task_views
from generation.tasks.models import Image, Status, Task
from imagegenx_site import caches, redis_clients
from imagegenx_site.ids import image_id, uuid7
from storage import keys

GOAL = 0.99
OPEN_SHARE = 0.1  # of the tasks: they run and make progress


@dataclass(frozen=True)
class Row:
    """The figures of one way of polling. `hit_rate` None: without a cache."""

    way: str
    polls: int
    hit_rate: float | None
    microseconds: float
    queries: float


def make_tasks(count: int) -> list[Task]:
    """Ended tasks with a picture each, and some running ones."""
    call_command("seed", verbosity=0)
    call_command("partitions", verbosity=0)
    model = ImageModel.objects.get(name="mini")
    team = Team.objects.create(name="bench", plan_id=1)
    user = User.objects.create(username="bench", team=team)
    running = int(count * OPEN_SHARE)
    tasks = [_task(user, model, Status.RUNNING if number < running else Status.SUCCEEDED) for number in range(count)]
    Task.objects.bulk_create(tasks)
    Image.objects.bulk_create([_image(task) for task in tasks])
    return tasks


def _task(user: User, model: ImageModel, status: str) -> Task:
    sides = {"width": 256, "height": 256}
    parameters = Parameters("text2img", "a red circle", "", 256, 256, 8, 4, "euler", 7)
    fields = {"model": model, "model_key": model.key, "kind": "text2img", "text": "a red circle", "batch_key": "x"}
    worker = {"worker": "bench", "attempt": 1, "expires_at": timezone.now()}
    return Task(id=uuid7(), user=user, status=status, params=parameters.to_json(), **fields, **worker, **sides)


def _image(task: Task) -> Image:
    sha256 = task.id.hex * 2
    key = keys.image_key(task.id, 0, sha256, "image/webp")
    facts = {"seed": 7, "width": 256, "height": 256, "bytes": 9000, "format": "webp", "content_type": "image/webp"}
    small = keys.variant_key(key, "thumbs")
    return Image(id=image_id(task.id, 0), task=task, index=0, sha256=sha256, key=key, thumbnail_key=small, **facts)


def polls(tasks: Sequence[Task], count: int, moves: int, exponent: float, seed: int) -> Iterator[Task]:
    """The tasks to poll; every `moves` polls a running one makes progress."""
    chance = random.Random(seed)
    order = chance.sample(list(tasks), len(tasks))
    weights = [1 / rank**exponent for rank in range(1, len(order) + 1)]
    running = [task for task in tasks if task.status == Status.RUNNING]
    for number, task in enumerate(chance.choices(order, weights, k=count)):
        if running and number % moves == moves - 1:
            states.report_progress(chance.choice(running).id, number % 100, worker="bench", attempt=1)
        yield task


def measure(way: str, tasks: Iterator[Task], poll: Callable[[Task], Any]) -> Row:
    """Poll each task; count queries and hits."""
    queries = 0

    def counted(execute: Any, *args: Any) -> Any:
        nonlocal queries
        queries += 1
        return execute(*args)

    before, spent, done = caches.tasks().counts(), 0.0, 0
    for task in tasks:  # the moves between them are not timed
        began = time.perf_counter()
        with connection.execute_wrapper(counted):
            poll(task)
        spent += time.perf_counter() - began
        done += 1
    after = caches.tasks().counts()
    hits, misses = (after[name] - before[name] for name in ("hits", "misses"))
    rate = hits / (hits + misses) if hits + misses else None
    return Row(way, done, rate, spent / done * 1e6, queries / done)


def run(options: argparse.Namespace) -> list[Row]:
    """All ways with the same load."""
    tasks = make_tasks(options.tasks)
    user = tasks[0].user
    load = (options.moves, options.exponent)
    redis_clients.cache_client().flushdb()
    rows = [
        measure("no cache", polls(tasks, options.polls // 10, *load, 0), lambda task: task_views._load(task.id)),
        *(
            measure(
                way,
                polls(tasks, options.polls, *load, 0),
                lambda task: task_views.view_for(task.public_id, user, base_url=""),
            )
            for way in ("cold", "warm")
        ),
    ]
    print("| way | polls | hit rate | µs a poll | queries a poll |", "|---|---|---|---|---|", sep="\n")
    for row in rows:
        rate = "-" if row.hit_rate is None else f"{row.hit_rate:.2%}"
        print(f"| {row.way} | {row.polls} | {rate} | {row.microseconds:.0f} | {row.queries:.3f} |")
    return rows


def main() -> None:
    """Entry point of `python -m deploy.bench.api.cache`."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.api.cache", description=__doc__)
    parser.add_argument("--polls", type=int, default=30_000)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--moves", type=int, default=200, help="polls between two moves")
    parser.add_argument("--exponent", type=float, default=1.1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    call_command("migrate", verbosity=0)
    rows = run(options)
    if options.json:
        chosen = {name: getattr(options, name) for name in ("polls", "tasks", "moves", "exponent")}
        options.json.write_text(json.dumps({**chosen, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    warm = rows[-1].hit_rate or 0.0
    if warm < GOAL:
        raise SystemExit(f"the goal is a hit rate of {GOAL:.0%} when warm")


if __name__ == "__main__":
    main()
