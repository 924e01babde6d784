"""Which runtime is quicker on this machine: measured once for each graph, and kept."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workers.engine.measurements import Measurements

EAGER: Final = "eager"
ONNX: Final = "onnx"
AUTO: Final = "auto"
ONNX_INT8: Final = "onnx-int8"  # nearly the same picture, so `auto` does not choose it
RUNTIMES: Final = (AUTO, ONNX, ONNX_INT8, EAGER)
GAIN: Final = 0.05  # part by which another runtime must be quicker: it takes memory beside torch
PASSES: Final = 3  # of each, taken in turns; the quickest counts, as what disturbs a pass only makes it slower


@dataclass(frozen=True)
class Comparison:
    """Seconds of a pass by rows."""

    eager: Mapping[int, float]
    onnx: Mapping[int, float]

    @property
    def winner(self) -> str:
        return ONNX if sum(self.onnx.values()) < (1 - GAIN) * sum(self.eager.values()) else EAGER

    def as_entry(self) -> dict[str, Any]:
        times = {EAGER: self.eager, ONNX: self.onnx}
        ms = {name: {str(rows): round(1000 * one, 1) for rows, one in taken.items()} for name, taken in times.items()}
        return {"runtime": self.winner, "ms_by_rows": ms}


class KeptChoices(Measurements[dict[str, Any]]):
    """Entries of comparisons by graph and machine."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, dict, "runtimes")

    def runtime(self, key: str) -> str | None:
        """The one that was quicker when it was measured."""
        return (self.get(key) or {}).get("runtime")


def quickest(passes: Mapping[str, Callable[[], object]], count: int = PASSES) -> dict[str, float]:
    """Seconds of the quickest pass of each, after one that does not count; in turns, so that what else runs on the
    machine meets all of them."""
    for run in passes.values():
        run()
    best = dict.fromkeys(passes, float("inf"))
    for _ in range(count):
        for name, run in passes.items():
            started = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def machine(threads: int) -> str:
    """What decides the times on a CPU: its model and how many threads are used."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        name = ""
    return f"{name or platform.machine()}, {threads} threads"
