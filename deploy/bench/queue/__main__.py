"""What the queues cost and how they behave: `make bench-queue` (or `python -m deploy.bench.queue` with REDIS_URL and
DATABASE_URL naming empty servers).

    claims    one claim and one tick with up to --waiting tasks in 1, 16 and 256 batch keys (claims.py)
    rows      the statements of a task's way in a table of --small and of --rows tasks (rows.py)
    live      --live SECONDS of each load on real workers whose engine sleeps, beside simulator and estimates (live.py)
    peers     --peers SECONDS of the same loads on plain Celery and on celery-batches as well (peers.py)
    after     urgent tasks after the GPU while --after TASKS of a lower class wait for the same worker (after_gpu.py)

queue.json and queue.md keep each part as soon as it is measured, and what is not run this time.
"""

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import django

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "benchmarks"


class Kept:
    """The results so far: read from the folder, written to it with every `put`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._json, self._page = folder / "queue.json", folder / "queue.md"
        self.parts: dict[str, Any] = json.loads(self._json.read_text()) if self._json.exists() else {}

    def put(self, name: str, value: Any) -> None:
        self.parts[name] = value
        self._json.write_text(json.dumps(self.parts, indent=1) + "\n")
        self._page.write_text(report(self.parts))


def report(parts: dict[str, Any]) -> str:
    """The page docs/benchmarks/queue.md."""
    from deploy.bench.queue import after_gpu, claims, live, peers, rows

    made: dict[str, Callable[[Any], list[str]]] = {
        "claims": lambda found: claims.lines(found, parts.get("shares", {})),
        "rows": rows.lines,
        "live": live.lines,
        "peers": peers.lines,
        "after": after_gpu.lines,
    }
    lines = ["# Queues, measured", "", "By `make bench-queue`, on two shared cores: compare rows, not machines."]
    for name, lines_of in made.items():
        if name in parts:
            lines += ["", f"## {TITLES[name]}", "", *lines_of(parts[name])]
    return "\n".join(lines) + "\n"


TITLES = {
    "claims": "Claims",
    "rows": "The table of tasks",
    "live": "Live loads, the simulator and what clients are told",
    "peers": "Beside plain Celery and celery-batches",
    "after": "After the GPU",
}


def measure_claims(kept: Kept, most: int) -> None:
    from deploy.bench.queue import claims

    bench, found = claims.Bench(os.environ["REDIS_URL"]), []
    print(claims.CLAIMS_HEAD)
    for row in bench.claims(most):
        found.append(row)
        print(claims.claims_row(row), flush=True)
        kept.put("claims", found)
    kept.put("shares", bench.shares())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.queue")
    parser.add_argument("--waiting", type=int, default=10_000, help="largest queue; a million takes 2 GB; 0: none")
    parser.add_argument("--small", type=int, default=10_000, help="rows of the small table")
    parser.add_argument("--rows", type=int, default=0, help="rows of the large table; ten million take 8 GB; 0: none")
    parser.add_argument("--live", type=float, default=0, help="seconds of each live load; 0: none")
    parser.add_argument("--peers", type=float, default=0, help="seconds of each load on each system; 0: none")
    parser.add_argument("--after", type=int, default=0, help="tasks of P2 that wait after the GPU; 0: none")
    parser.add_argument("--batches", default="", help="a Python that has celery-batches; see docs/benchmarks/README.md")
    parser.add_argument("--part", type=float, default=1.0, help="of the tasks that do not depend on the seconds")
    parser.add_argument("--write", type=Path, default=FOLDER, help="folder of queue.md and queue.json")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
    django.setup()
    kept = Kept(options.write)
    if options.waiting:
        measure_claims(kept, options.waiting)
    if options.rows:
        from deploy.bench.queue import rows

        kept.put("rows", rows.measure(options.small, options.rows))
    if options.live:
        from deploy.bench.queue import live

        kept.put("live", live.measure(options.live, options.part))
    if options.peers:
        from deploy.bench.queue import peers

        peers.measure(options.peers, options.batches, options.part, partial(kept.put, "peers"))
    if options.after:
        from deploy.bench.queue import after_gpu

        kept.put("after", after_gpu.measure(options.after))
    print("\n" + report(kept.parts))


if __name__ == "__main__":
    main()
