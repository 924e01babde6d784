"""`make bench-grouping`: the gain of post-processing waiting tasks of one size together.

Tasks wait in the state generated, in a separate database and folders; one process handles their messages in order of
arrival. The ways alternate, each with new tasks: one by one (POSTPROCESS_GROUP=1, the baseline) and in groups. The time
from the first message until the last row is processed is measured.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import django

RESULTS: Final = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "grouping.json"
NAME: Final = "bench_grouping"
DISK: Final = "django.core.files.storage.FileSystemStorage"
RECIPES: Final[dict[str, dict[str, Any]]] = {"plain": {}, "upscale": {"upscale": {"scale": 2}}}


class Workplace:
    """A database and stores of the benchmark, with waiting tasks."""

    def __init__(self, folder: str) -> None:
        from django.conf import settings
        from django.core.management import call_command
        from django.db import connection

        from generation.accounts.models import User
        from generation.catalogue.models import ImageModel
        from generation.tasks import partitions

        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {NAME}")
            cursor.execute(f"CREATE DATABASE {NAME}")
        connection.close()
        connection.settings_dict["NAME"] = NAME
        for name in ("images", "raw"):
            options = {"location": str(Path(folder) / name), "base_url": None}
            settings.STORAGES[name] = {"BACKEND": DISK, "OPTIONS": options}
        call_command("migrate", verbosity=0)
        call_command("seed", verbosity=0)
        partitions.ensure(datetime.now(UTC).date(), 2)
        self.user = User.objects.create(username="bench")
        self.model = ImageModel.objects.get(name="mini")

    def waiting(self, count: int, side: int, postprocess: dict[str, Any]) -> list[Any]:
        """New tasks in the state generated."""
        from generation.catalogue.parameters import Parameters
        from generation.tasks.models import Status, Task
        from imagegenx_site.ids import moment_of, uuid7
        from storage import raw

        picture = _picture(side)
        asked = Parameters("text2img", "red circle", "", side, side, 20, 4.0, "euler", 7, postprocess=postprocess)
        tasks = []
        for _ in range(count):
            task_id = uuid7()
            created = moment_of(task_id)
            bound = {"model": self.model, "model_key": "mini@1", "batch_key": str(asked.batch_key("mini@1"))}
            what = {"kind": "text2img", "text": asked.text, "params": asked.to_json(), "width": side, "height": side}
            when = {"created_at": created, "expires_at": created + timedelta(minutes=5)}
            state = {"status": Status.GENERATED, "attempt": 1, "user": self.user}
            tasks.append(Task(id=task_id, **bound, **what, **when, **state))
            raw.write_raw(task_id, 0, 1, picture)
        return Task.objects.bulk_create(tasks)


def _picture(side: int) -> bytes:
    """A PNG with surfaces, edges and grain, as a model draws them."""
    import cv2
    import numpy as np

    chance = np.random.default_rng(1)
    coarse = chance.integers(0, 255, (8, 8, 3), np.uint8)
    drawn = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    cv2.circle(drawn, (side // 2, side // 2), side // 4, (40, 40, 220), -1, cv2.LINE_AA)
    grained = np.clip(drawn + chance.normal(0, 4, drawn.shape), 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".png", grained)[1])


def throughput(workplace: Workplace, group: int, count: int, side: int, recipe: str) -> float:
    """Pictures per second with `count` waiting tasks."""
    from django.conf import settings

    from generation.tasks.models import Status, Task
    from workers.stages import postprocess as stages_postprocess

    settings.POSTPROCESS_GROUP = group
    tasks = workplace.waiting(count, side, RECIPES[recipe])
    begin = time.perf_counter()
    for task in tasks:
        stages_postprocess.postprocess(str(task.id))
    took = time.perf_counter() - begin
    done = Task.objects.filter(pk__in=[task.pk for task in tasks], status=Status.PROCESSED).count()
    if done != count:
        raise SystemExit(f"{done} of {count} tasks were processed")
    return count / took


def measure(options: argparse.Namespace, workplace: Workplace) -> list[dict[str, Any]]:
    """A row for each size and group."""
    rows = []
    for side in options.sides:
        throughput(workplace, 1, 4, side, options.recipe)  # imports, connections, caches
        rates: dict[int, list[float]] = {group: [] for group in (1, *options.groups)}
        for _ in range(options.turns):
            for group, found in rates.items():
                found.append(throughput(workplace, group, options.tasks, side, options.recipe))
        alone = statistics.median(rates[1])
        for group, found in rates.items():
            middle = statistics.median(found)
            pairs = statistics.median(one / other for one, other in zip(found, rates[1], strict=True))
            facts = {"recipe": options.recipe, "side": side, "group": group, "tasks": options.tasks}
            rows.append(facts | {"median": round(middle, 2), "best": round(max(found), 2)})
            rows[-1] |= {"ratio": round(middle / alone, 3), "ratio_of_turns": round(pairs, 3)}
    return rows


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.grouping")
    parser.add_argument("--tasks", type=int, default=32, help="that wait at the beginning of each turn")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512], help="of the pictures, in pixels")
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 8], help="values of POSTPROCESS_GROUP beside 1")
    parser.add_argument("--turns", type=int, default=3, help="of each way")
    parser.add_argument("--recipe", choices=RECIPES, default="plain", help="what all tasks ask for")
    parser.add_argument("--write", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
    django.setup()
    with tempfile.TemporaryDirectory(prefix="imagegenx-grouping-") as folder:
        rows = measure(options, Workplace(folder))
    print(f"{'recipe':8} {'side':>5} {'group':>5} {'images/s':>9} {'best':>7} {'ratio':>6} {'of turns':>8}")
    for row in rows:
        print(
            f"{row['recipe']:8} {row['side']:5} {row['group']:5} {row['median']:9.1f} {row['best']:7.1f} "
            f"{row['ratio']:6.2f} {row['ratio_of_turns']:8.2f}"
        )
    kept = json.loads(options.write.read_text()) if options.write.exists() else []
    kept = [row for row in kept if row["recipe"] != options.recipe]
    options.write.write_text(json.dumps([*kept, *rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
