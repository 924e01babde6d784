"""Which runtime is quicker on this machine: measured once for each graph, and kept."""

from __future__ import annotations

import json
import logging
import platform
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

logger = logging.getLogger(__name__)

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


class KeptChoices:
    """Answers by graph and machine in a JSON file, which workers may share; without a path only in this process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._answers = self._read()

    def get(self, key: str) -> str | None:
        """The runtime that was quicker when it was measured."""
        return self._answers.get(key, {}).get("runtime")

    def put(self, key: str, entry: Mapping[str, Any]) -> None:
        """Keep an answer, beside what others have written meanwhile."""
        self._answers = {**self._read(), key: dict(entry)}
        if self._path is None:
            return
        partial = self._path.with_suffix(f".{uuid.uuid4().hex}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self._answers, indent=1, sort_keys=True))
            partial.replace(self._path)
        except OSError as error:
            logger.warning("the runtime of %s is measured again at the next start: %s", key, error)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(json.loads(self._path.read_text())) if self._path is not None else {}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError):
            logger.warning("%s is not readable; runtimes are measured anew", self._path)
            return {}


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
