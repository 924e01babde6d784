"""Limits of rows of a pass as they change while the engine runs: recalled from earlier processes, measured on passes,
lowered and raised by how full the memory is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from generation.queue.values import BatchKey
from workers.engine.batching import batch_runner
from workers.engine.batching.calibration import DECODE, DENOISE, Calibrator, PassKind
from workers.engine.batching.limits import RowLimits
from workers.engine.batching.pipeline_greenlet import PipelineGreenlet
from workers.engine.models.pool import HIGH, ModelPool
from workers.engine.requests import SampleRequest

logger = logging.getLogger(__name__)

RAISE_BELOW = 0.7  # part of the memory in use, below which a lowered limit may rise again
CHECK_EVERY = 25  # passes between measurements of the memory


class RowTuner:
    """Used by the engine around its passes. Without a calibrator their times are not measured. `limits`: of the
    denoiser; decoders have limits of their own.
    """

    def __init__(self, limits: RowLimits, pool: ModelPool, calibrator: Calibrator | None) -> None:
        self._limits = {DENOISE: limits, DECODE: limits.of_one_row_a_sample()}
        self._pool = pool
        self._calibrator = calibrator
        self._passes = 0
        self._full = 0.0

    def rows(self, batch_key: BatchKey, kind: PassKind = DENOISE) -> int:
        """Rows that a pass may have now: fewer than the limit while that is being measured."""
        limits = self._limits[kind]
        most = limits.rows(batch_key, batch_key.width, batch_key.height)
        if self._calibrator is None or limits.is_calibrated(batch_key):
            return most
        if not self._pool.knows(batch_key.model):  # asked before its first task is here
            return min(most, kind.least_rows)
        ceiling = limits.ceiling(batch_key, batch_key.width, batch_key.height)
        variant = self._pool.variant_of(batch_key.model)
        return min(most, self._calibrator.allowed(batch_key, variant, ceiling, kind))

    def recall(self, request: SampleRequest) -> None:
        """Before the first sample of a size: its limits, if an earlier process has measured them."""
        if self._calibrator is None:
            return
        for kind, limits in self._limits.items():
            if not limits.is_calibrated(request.batch_key):
                known = self._calibrator.known(request.batch_key, self._pool.variant_of(request.model), kind)
                if known is not None:
                    limits.calibrate(request.batch_key, known)

    @contextmanager
    def measure(self, samples: Sequence[PipelineGreenlet], kind: PassKind = DENOISE) -> Iterator[None]:
        """Inside, a pass of these samples runs. The time counts for calibration if their limit is not known yet,
        they have no LoRAs, and memory was not short."""
        request, limits = samples[0].request, self._limits[kind]
        if self._calibrator is None or limits.is_calibrated(request.batch_key):
            yield
            return
        rows = sum(map(batch_runner.rows_of, samples))
        plain = not any(sample.request.loras for sample in samples)
        ceiling = limits.ceiling(request.batch_key, request.width, request.height)
        started = self._calibrator.now()
        yield
        taken = self._calibrator.now() - started
        if plain and limits.rows(request.batch_key, request.width, request.height) == ceiling:
            variant = self._pool.variant_of(request.model)
            limit = self._calibrator.record(request.batch_key, variant, rows, taken, ceiling, kind)
            if limit is not None:
                limits.calibrate(request.batch_key, limit)

    def halve(self, batch_key: BatchKey, failed_rows: int, kind: PassKind = DENOISE) -> int:
        """A pass of `failed_rows` rows did not fit. Returns the new limit, at least 1."""
        return self._limits[kind].halve(batch_key, failed_rows)

    def record_success(self, request: SampleRequest, rows: int, kind: PassKind = DENOISE) -> None:
        """A pass of so many rows fitted. The limit is still halved when memory is nearly full; a lowered one rises
        again while there is room."""
        limits = self._limits[kind]
        self._passes += 1
        if self._passes % CHECK_EVERY == 0:
            self._full = self._pool.memory_load()
            if self._full > HIGH and rows > 1:
                limit = limits.halve(request.batch_key, rows)
                logger.warning("memory is %.0f%% full; the limit of %s is now %d rows", 100 * self._full,
                               request.batch_key, limit)  # fmt: skip
        if self._full < RAISE_BELOW:
            limits.record_success(request.batch_key, request.width, request.height)
