"""The size of a run, its result, and how results are stored and shown."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

# Two GPU workers take 16 at once: of 28 some wait, and of 8 all find room on either one when the other dies.
TASKS = {"waiting": 28, "mid-batch": 8, "after the GPU": 12}
STEPS = {"waiting": 50, "mid-batch": 20, "after the GPU": 20}
STEP_MS = 30
MOMENTS = tuple(TASKS)
LIMIT_S = 180.0  # from the fault to the last task's end; generous, for machines that do other work beside
GOAL_AGAIN_S, GOAL_RECOVERED_S = 1.0, 60.0


@dataclass(frozen=True)
class Result:
    """One fault at one moment.

    `struck` are the states of the tasks when it struck. Times in s from the fault: `again` until every task that
    it took from its worker was claimed anew (None when it took none), `recovered` until all had ended (None: never).
    `doubled` counts second ends, second pictures, second rows of one request and second webhook events; `lost` tasks
    without an end, and ends without their event. `states` are those at the end.
    """

    fault: str
    moment: str
    struck: dict[str, int]
    again: float | None
    recovered: float | None
    lost: int
    doubled: int
    states: dict[str, int]

    @property
    def good(self) -> bool:
        return self.lost == 0 and self.doubled == 0 and self.recovered is not None


class Notebook:
    """Results in a JSON file, written after each: a long run that was cut off goes on where it was."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.results: dict[tuple[str, str], Result] = {}
        if path is not None and path.exists():
            for entry in json.loads(path.read_text())["results"]:
                result = Result(**entry)
                self.results[result.fault, result.moment] = result

    def has(self, fault: str, moment: str) -> bool:
        """Whether it was performed, and nothing was wrong."""
        result = self.results.get((fault, moment))
        return result is not None and result.good

    def keep(self, result: Result) -> None:
        self.results[result.fault, result.moment] = result
        if self.path is not None:
            self.path.write_text(json.dumps({"results": [asdict(one) for one in self.results.values()]}, indent=1))


def counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def row(result: Result) -> str:
    took = "never" if result.recovered is None else f"{result.recovered:.1f} s"
    facts = (
        result.fault,
        result.moment,
        counts(result.struck),
        _seconds(result.again),
        took,
        result.lost,
        result.doubled,
    )
    return f"| {' | '.join(map(str, facts))} | {counts(result.states)} |"


HEAD = """\
| fault | moment | states when it struck | tasks it took ran again within | all ended after | lost | doubled | ends |
|---|---|---|---|---|---|---|---|"""


def report(results: Iterable[Result]) -> str:
    """The page docs/benchmarks/faults.md."""
    rows = list(results)
    late = [f"{one.fault}, {one.moment}" for one in rows if one.recovered is None or one.recovered > GOAL_RECOVERED_S]
    killed = next((one.again for one in rows if (one.fault, one.moment) == ("kill -9 GPU worker", "mid-batch")), None)
    summary = f"""\
{len(rows)} performances: {sum(one.lost for one in rows)} tasks lost, {sum(one.doubled for one in rows)} doubled.
All ended within {GOAL_RECOVERED_S:.0f} s of the fault: {"yes" if not late else "not " + "; ".join(late)}.
Slowest recovery {max((one.recovered or LIMIT_S for one in rows), default=0):.1f} s.
Tasks of a killed GPU worker ran on a second one that had room within {_seconds(killed)} (goal {GOAL_AGAIN_S:.0f} s)."""
    return REPORT.format(summary=summary, table="\n".join([HEAD, *map(row, rows)]))


_SIZES = "; ".join(f"{moment}: {TASKS[moment]} tasks of {STEPS[moment]} steps" for moment in MOMENTS)
REPORT = f"""# Fault tests

{{summary}}

{_SIZES},
each of {STEP_MS} ms, and 2 tasks more after the fault, on two GPU workers whose engine sleeps, one CPU worker, one IO
worker, two reconcilers and, for its own faults, a web process; real Postgres and Redis. The GPU worker that is struck
is the one that holds more; dead processes are started again after half a second. Times include the start of Python
and whatever the fault itself lasts (`for 10 s`); the rows `none` are the same work undisturbed. Made by
`FAULTS=all make test-faults`; the figures are in `faults.json`.

{{table}}
"""
