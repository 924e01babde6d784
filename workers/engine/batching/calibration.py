"""The best number of rows of a pass, measured on the steps that are made anyway, once per model, size, precision,
runtime and device, and kept in a file.

Up to a knee, more rows in a batch make each row cheaper; beyond it they only add latency. Until enough full batches of
a size were measured its limit is that of the table (limits.py); afterwards, and after every later start, it is the
knee.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from generation.queue.values import BatchKey
from imagegenx_site.config import GpuConfig
from workers.engine.measurements import Measurements

logger = logging.getLogger(__name__)

TOLERANCE = 0.05  # a batch is as good as the best if a row takes no more than this part longer
GAIN = 0.05  # part by which rows become cheaper, for which a pass may take longer than `step_max_s`
MIN_PASSES = 8  # of one row count, of which the quickest counts: what disturbs a pass only makes it slower
FEW_PASSES = 2  # enough to try twice as many rows


@dataclass(frozen=True)
class PassKind:
    """What of a sample's work a pass does. `least_rows` may share one even where batches gain nothing."""

    name: str
    least_rows: int


DENOISE = PassKind("", 4)  # two samples with guidance: one must not hold up all others
DECODE = PassKind("decode", 1)


def knee(seconds: Mapping[int, float]) -> int:
    """The smallest row count at which a row takes hardly longer than at the best one. `seconds` of a pass by rows."""
    best = min(taken / rows for rows, taken in seconds.items())
    return min(rows for rows, taken in seconds.items() if taken / rows <= best * (1 + TOLERANCE))


class CalibrationTable(Measurements[int]):
    """Row limits by "model|size|variant|device". The variant is that of ModelPool.variant_of: precision and runtime."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, int, "batch limits")


@dataclass
class _Measured:
    """Passes of one key: how many and the quickest, by rows."""

    passes: dict[int, int] = field(default_factory=dict)
    quickest: dict[int, float] = field(default_factory=dict)

    def add(self, rows: int, seconds: float) -> None:
        self.passes[rows] = self.passes.get(rows, 0) + 1
        self.quickest[rows] = min(seconds, self.quickest.get(rows, seconds))

    def reliable(self, least: int) -> dict[int, float]:
        """The quickest pass by rows, of those that were made at least so often."""
        return {rows: self.quickest[rows] for rows, passes in self.passes.items() if passes >= least}

    def each(self, low: int, high: int) -> float | None:
        """Seconds that a row takes in passes of more than `low` and up to `high` rows; None: not known."""
        known = self.reliable(FEW_PASSES)
        return min((taken / rows for rows, taken in known.items() if low < rows <= high), default=None)


class Calibrator:
    """Measures the passes of an engine. `clock` gives seconds; by default it fits the device. `step_max_s`: of
    GpuConfig.
    """

    def __init__(
        self,
        table: CalibrationTable,
        device: torch.device,
        clock: Callable[[], float] | None = None,
        step_max_s: float = GpuConfig.step_max_s,
    ) -> None:
        self._table = table
        self._device = device
        self._clock = clock
        self._step_max_s = step_max_s
        self._measured: dict[str, _Measured] = {}

    def known(self, batch_key: BatchKey, variant: str, kind: PassKind = DENOISE) -> int | None:
        """The row limit of a batch key, if it was measured before."""
        return self._table.get(self._key(batch_key, variant, kind))

    def allowed(self, batch_key: BatchKey, variant: str, ceiling: int, kind: PassKind = DENOISE) -> int:
        """Rows that a pass may have while its limit is being measured: twice as many again and again, as long as that
        stays within `step_max_s` or makes rows cheaper, up to `ceiling`.
        """
        measured = self._measured.get(self._key(batch_key, variant, kind), _Measured())
        rows = kind.least_rows
        while rows < ceiling and self._may_double(measured, rows):
            rows *= 2
        return min(rows, ceiling)

    def _may_double(self, measured: _Measured, rows: int) -> bool:
        now = measured.each(rows // 2, rows)
        if now is None:
            return False
        if 2 * rows * now <= self._step_max_s:
            return True
        then, before = measured.each(rows, 2 * rows), measured.each(rows // 4, rows // 2)
        if then is not None:
            return then <= now * (1 - GAIN)
        return before is None or now <= before * (1 - GAIN)

    def now(self) -> float:
        """Seconds; differences are the device's work. On a CPU the time of this thread, so that other programs do not
        count; a GPU is waited for, because it works on after its kernels are launched."""
        if self._clock is not None:
            return self._clock()
        if self._device.type != "cuda":
            return time.thread_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def record(
        self, batch_key: BatchKey, variant: str, rows: int, seconds: float, ceiling: int, kind: PassKind = DENOISE
    ) -> int | None:
        """Record a pass. The row limit, once enough batches up to near what is `allowed` were measured; else None."""
        key = self._key(batch_key, variant, kind)
        measured = self._measured.setdefault(key, _Measured())
        measured.add(rows, seconds)
        reliable = measured.reliable(MIN_PASSES)
        allowed = self.allowed(batch_key, variant, ceiling, kind)
        most = max(reliable, default=0)
        if len(reliable) < _row_counts(max(most, allowed)) or most < 0.75 * allowed:
            return None
        limit = min(allowed, max(kind.least_rows, knee(reliable)))
        self._table.put(key, limit)
        del self._measured[key]
        logger.info("%s: batches of up to %d rows (ms by rows: %s)", key, limit, _milliseconds(reliable))
        return limit

    def _key(self, batch_key: BatchKey, variant: str, kind: PassKind) -> str:
        size = f"{batch_key.width}x{batch_key.height}"
        key = f"{batch_key.model}|{size}|{variant}|{_device_name(self._device)}"
        return f"{key}|{kind.name}" if kind.name else key


def _row_counts(most: int) -> int:
    """How many different counts of up to `most` rows are measured before anything is concluded."""
    return 3 if most > DENOISE.least_rows else 2


def _milliseconds(seconds: Mapping[int, float]) -> dict[int, float]:
    return {rows: round(1000 * seconds[rows], 1) for rows in sorted(seconds)}


def _device_name(device: torch.device) -> str:
    """What decides the times: the GPU's name, or the threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} with {torch.get_num_threads()} threads"
