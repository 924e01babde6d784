"""Limits of rows of a pass as they change while the engine runs: recalled from earlier processes, measured on passes,
lowered and raised by how full the memory is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from workers.engine.batching import batch_runner
from workers.engine.batching.calibration import Calibrator
from workers.engine.batching.limits import RowLimits
from workers.engine.batching.pipeline_greenlet import PipelineGreenlet
from workers.engine.models.pool import HIGH, ModelPool
from workers.engine.requests import SampleRequest

logger = logging.getLogger(__name__)

RAISE_BELOW = 0.7  # part of the memory in use, below which a lowered limit may rise again
CHECK_EVERY = 25  # passes between measurements of the memory


class RowTuner:
    """Used by the engine around its forward passes. Without a calibrator their times are not measured."""

    def __init__(self, limits: RowLimits, pool: ModelPool, calibrator: Calibrator | None) -> None:
        self._limits = limits
        self._pool = pool
        self._calibrator = calibrator
        self._passes = 0
        self._full = 0.0

    def recall(self, request: SampleRequest) -> None:
        """Before the first sample of a size: its limit, if an earlier process has measured it."""
        if self._calibrator is not None and not self._limits.is_calibrated(request.batch_key):
            known = self._calibrator.known(request.batch_key, self._pool.precision_of(request.model))
            if known is not None:
                self._limits.calibrate(request.batch_key, known)

    @contextmanager
    def measure(self, samples: Sequence[PipelineGreenlet]) -> Iterator[None]:
        """Inside, the denoisers of these samples run. The time counts for calibration if their limit is not known yet,
        they have no LoRAs, and memory was not short."""
        request = samples[0].request
        if self._calibrator is None or self._limits.is_calibrated(request.batch_key):
            yield
            return
        rows = sum(map(batch_runner.rows_of, samples))
        plain = not any(sample.request.loras for sample in samples)
        ceiling = self._limits.ceiling(request.batch_key, request.width, request.height)
        started = self._calibrator.now()
        yield
        taken = self._calibrator.now() - started
        if plain and self._limits.rows(request.batch_key, request.width, request.height) == ceiling:
            precision = self._pool.precision_of(request.model)
            limit = self._calibrator.record(request.batch_key, precision, rows, taken, ceiling)
            if limit is not None:
                self._limits.calibrate(request.batch_key, limit)

    def record_success(self, request: SampleRequest, rows: int) -> None:
        """A pass of so many rows fitted. The limit is still halved when memory is nearly full; a lowered one rises
        again while there is room."""
        self._passes += 1
        if self._passes % CHECK_EVERY == 0:
            self._full = self._pool.memory_load()
            if self._full > HIGH and rows > 1:
                limit = self._limits.halve(request.batch_key, rows)
                logger.warning("memory is %.0f%% full; the limit of %s is now %d rows", 100 * self._full,
                               request.batch_key, limit)  # fmt: skip
        if self._full < RAISE_BELOW:
            self._limits.record_success(request.batch_key, request.width, request.height)
