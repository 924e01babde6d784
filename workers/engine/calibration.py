"""How many rows are worth while: measured once per model, size, precision and device, and remembered in a file.

More rows in a batch are cheaper each up to a knee, after which they only make everybody wait longer. The knee is where
another row no longer lowers the time per row by `GAIN`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.hub import is_out_of_memory
from workers.engine.requests import Failed, SampleRequest
from workers.models.pool import ModelPool

logger = logging.getLogger(__name__)

GAIN = 0.05
SAMPLES = (1, 2, 3, 4, 6, 8, 12, 16)  # batches that are tried; each sample brings two rows
STEPS = 4  # of which the first is not timed: it encodes the prompt and warms up


def knee(seconds: Callable[[int], float | None], sizes: Sequence[int] = SAMPLES, gain: float = GAIN) -> int:
    """The largest of the ascending `sizes` that still lowers the time per sample by `gain`.

    `seconds` measures one step of that many samples; None if they do not fit into memory.
    """
    best, best_each = sizes[0], float("inf")
    for size in sizes:
        taken = seconds(size)
        if taken is None or taken / size > best_each * (1 - gain):
            break
        best, best_each = size, taken / size
    return best


def measure_step(pool: ModelPool, request: SampleRequest, samples: int) -> float | None:
    """Seconds of one step with so many samples like `request`; None if memory ran out."""
    engine = Engine(pool, EngineConfig(batch_limits={max(request.width, request.height): samples}))
    for number in range(samples):
        engine.admit(replace(request, sample_id=f"calibration/{number}", seed=number, steps=STEPS))
    try:
        while not (events := engine.step()):
            time.sleep(0.01)  # the model is being loaded
        if any(isinstance(event, Failed) and is_out_of_memory(event.error) for event in events):
            return None
        times = []
        for _ in range(STEPS - 2):  # the last one also decodes the picture
            _wait_for_device(pool)
            started = time.perf_counter()
            engine.step()
            _wait_for_device(pool)
            times.append(time.perf_counter() - started)
        limited = engine.limits.rows(request.batch_key, request.width, request.height) < 2 * samples
        return None if limited else min(times)
    finally:
        engine.discard_all()


class CalibrationTable:
    """Row limits by "model|size|precision|device", kept in a JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._rows: dict[str, int] = json.loads(path.read_text())
        except FileNotFoundError:
            self._rows = {}
        except ValueError:
            logger.warning("%s is not readable; measuring anew", path)
            self._rows = {}

    def rows(self, pool: ModelPool, request: SampleRequest, precision: str) -> int:
        """The limit for requests like this one, measured now if it is not known."""
        key = f"{request.model}|{request.width}x{request.height}|{precision}|{_device_name(pool)}"
        if key not in self._rows:
            self._rows[key] = 2 * knee(lambda samples: measure_step(pool, request, samples))
            logger.info("calibrated %s: %d rows", key, self._rows[key])
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps(self._rows, indent=1, sort_keys=True))
            partial.replace(self._path)
        return self._rows[key]


def _wait_for_device(pool: ModelPool) -> None:
    """A GPU works on after its kernels are launched."""
    if pool.device.type == "cuda":
        torch.cuda.synchronize(pool.device)


def _device_name(pool: ModelPool) -> str:
    return torch.cuda.get_device_name(pool.device) if pool.device.type == "cuda" else pool.device.type
