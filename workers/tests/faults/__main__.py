"""Breaks one thing at a time under work, and counts what was lost, what came twice, and how long recovery took.

    python -m workers.tests.faults                    every fault once, in the middle of a batch
    python -m workers.tests.faults --moments all      also while tasks wait, and after the GPU
    python -m workers.tests.faults --only Redis,hangs faults whose names contain one of the words
    python -m workers.tests.faults --write FILE       the table into a file as well

Real processes and servers; only the engine sleeps instead of computing, so that a step takes 30 ms on any machine.
Ends with 1 when a task was lost or doubled, or did not end within three minutes.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

import django

from workers.tests.faults.result import MOMENTS, STEPS, TASKS, Result
from workers.tests.faults.stage import Stage


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes are ended
    with tempfile.TemporaryDirectory(prefix="imagegenx-faults-") as name:
        stage = Stage(Path(name))
        try:
            os.environ.update(stage.env, DJANGO_SETTINGS_MODULE="imagegenx_site.settings")
            django.setup()
            from workers.tests.faults.play import Play

            play = Play(stage)
            results = []
            try:
                play.open()
                for moment in MOMENTS if options.moments == "all" else ("mid-batch",):
                    for fault, act in play.faults().items():
                        if any(word in fault for word in options.only.split(",")):
                            results.append(play.perform(fault, act, moment))
                            print(row(results[-1]), flush=True)
            finally:
                play.close()
        finally:
            stage.close()
    table = "\n".join([HEAD, *map(row, results)]) + "\n"
    if options.write:
        Path(options.write).write_text(REPORT.format(table=table))
    return 0 if all(result.good for result in results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.tests.faults")
    parser.add_argument("--moments", choices=["one", "all"], default="one")
    parser.add_argument("--only", default="")
    parser.add_argument("--write", default="")
    return parser.parse_args()


HEAD = "| fault | moment | running tasks went on within | all ended after | lost | doubled | ends |"
HEAD += "\n|---|---|---|---|---|---|---|"
REPORT = f"""# Fault tests

{TASKS} tasks of {STEPS} steps of 30 ms (a batch of 8 takes 0.6 s) and 2 more after the fault, on two GPU workers whose
engine sleeps, one CPU worker, one IO worker, two reconcilers; real Postgres and Redis; dead processes are started again
after half a second. Times include the start of Python and whatever the fault itself lasts (`for 10 s`); the row
`none` is the same work undisturbed. Made by `python -m workers.tests.faults --write docs/benchmarks/faults.md`.

{{table}}"""


def row(result: Result) -> str:
    took = "never" if result.recovered is None else f"{result.recovered:.1f} s"
    ends = ", ".join(f"{count} {state}" for state, count in sorted(result.states.items()))
    ran_on = "-" if result.ran_on is None else f"{result.ran_on:.2f} s"
    return f"| {result.fault} | {result.moment} | {ran_on} | {took} | {result.lost} | {result.doubled} | {ends} |"


if __name__ == "__main__":
    sys.exit(main())
