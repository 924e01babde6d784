"""The short form of the fault tests, as `make test-faults` runs it: one process or server is broken at a time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.tests.faults.__main__ import SHORT
from workers.tests.faults.result import HEAD

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = [name.strip() for name in HEAD.splitlines()[0].strip("| ").split("|")]


class FaultsProgram:
    """The running program; it prints a row when a fault is over."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._rows: dict[tuple[str, str], dict[str, str]] = {}
        self._printed = ""

    def wait_until_it_plays(self) -> None:
        """All servers and processes run."""
        while HEAD.splitlines()[-1] not in self._printed:
            self._read()

    def row(self, fault: str, moment: str) -> dict[str, str]:
        """Cells by the name of their column, once they are printed. The program goes through the faults in its order,
        whichever is asked for.
        """
        while (fault, moment) not in self._rows:
            cells = [cell.strip() for cell in self._read().strip("| \n").split("|")]
            if len(cells) == len(COLUMNS):
                self._rows[cells[0], cells[1]] = dict(zip(COLUMNS, cells, strict=True))
        return self._rows[fault, moment]

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"it ended too early:\n{self._printed[-6000:]}"
        self._printed += line
        return line


@pytest.fixture(scope="module")
def program() -> Iterator[FaultsProgram]:
    env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL", "FAULTS")}
    env["STAGE_SECONDS"] = "15"  # a killed CPU worker's task is free after that time
    command = [sys.executable, "-m", "workers.tests.faults"]
    out, both = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=out, stderr=both) as process:
        running = FaultsProgram(process)
        running.wait_until_it_plays()
        yield running
        process.terminate()


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "moment"), SHORT)
def test_a_fault_under_load_loses_and_doubles_nothing(program: FaultsProgram, fault: str, moment: str) -> None:
    row = program.row(fault, moment)
    assert (row["lost"], row["doubled"]) == ("0", "0"), row
    assert row["all ended after"] != "never", row
