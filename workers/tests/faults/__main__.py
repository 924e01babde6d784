"""Injects one fault at a time under load, and counts lost and duplicated tasks and the time of recovery.

    python -m workers.tests.faults                    a few faults that stand for the others, in under a minute
    python -m workers.tests.faults --all              every fault at every moment (FAULTS=all does the same)
    python -m workers.tests.faults --only Redis,hangs faults whose names contain one of the words, at every moment
    python -m workers.tests.faults --moment waiting   at that moment only
    python -m workers.tests.faults --notes FILE       keeps results as JSON; what is there and good is not done again
    python -m workers.tests.faults --write FOLDER     faults.md and faults.json from the results

Real processes and servers; only the engine sleeps instead of computing, so that a step takes 30 ms on any machine.
Ends with 1 when a task was lost or doubled, or did not end within three minutes.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import django

from workers.tests.faults.result import HEAD, MOMENTS, Notebook, report, row
from workers.tests.faults.stage import Stage

if TYPE_CHECKING:
    from workers.tests.faults.play import Play

SHORT = (
    ("kill -9 GPU worker", "mid-batch"),
    ("Redis FLUSHALL", "waiting"),
    ("kill -9 CPU worker", "after the GPU"),
    ("Postgres kill -9, back after 1 s", "mid-batch"),
)


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes are ended
    with tempfile.TemporaryDirectory(prefix="imagegenx-faults-") as name:
        notes = Path(options.notes or Path(name, "notes.json"))
        good = _perform_all(Path(name), options, Notebook(notes))
        if options.write:
            folder = Path(options.write)
            (folder / "faults.md").write_text(report(Notebook(notes).results.values()))
            (folder / "faults.json").write_text(notes.read_text())
    return 0 if good else 1


def _perform_all(folder: Path, options: argparse.Namespace, notebook: Notebook) -> bool:
    """Run the chosen faults on one stage; whether all of them passed."""
    stage = Stage(folder)
    try:
        os.environ.update(stage.env, DJANGO_SETTINGS_MODULE="imagegenx_site.settings")
        django.setup()
        from workers.tests.faults.play import Play

        play = Play(stage)
        try:
            play.open()
            return _perform(play, _programme(options, list(play.faults())), notebook)
        finally:
            play.close()
    finally:
        stage.close()


def _perform(play: "Play", programme: list[tuple[str, str]], notebook: Notebook) -> bool:
    faults, good = play.faults(), True
    print(HEAD, flush=True)
    for fault, moment in programme:
        if notebook.has(fault, moment):
            continue
        result = play.perform(fault, faults[fault], moment)
        notebook.keep(result)
        print(row(result), flush=True)
        good = good and result.good
    return good


def _programme(options: argparse.Namespace, faults: list[str]) -> list[tuple[str, str]]:
    everything = [(fault, moment) for fault in faults for moment in MOMENTS]
    if not (options.all or options.only):
        return list(SHORT)
    words = options.only.split(",")
    return [
        (fault, moment)
        for fault, moment in everything
        if any(word in fault for word in words) and options.moment in ("", moment)
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.tests.faults")
    parser.add_argument("--all", action="store_true", default=os.environ.get("FAULTS") == "all")
    parser.add_argument("--only", default="")
    parser.add_argument("--moment", choices=MOMENTS, default="")
    parser.add_argument("--notes", default="")
    parser.add_argument("--write", default="")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
