"""Threads that decode pictures beside the engine's steps, on a CPU.

A decoder's pass is a hundred short parallel loops. Spread over the cores it waits at the end of each one for the core
that another process was using, and one core alone leaves the others idle. Whole pictures, each on a core of its own,
wait for nothing (docs/benchmarks/cost.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from workers.engine.batching.pipeline_greenlet import PipelineGreenlet
from workers.engine.interception import Call, SharedModule, elsewhere
from workers.engine.requests import SampleId

BESIDE_PIXELS = 1 << 20  # of all pictures that are decoded at once; a larger one alone
# Decoders that keep nothing between their lines; two passes of another one (those of videos cache frames) would mix
STATELESS = ("AutoencoderKL", "AutoencoderTiny")


@dataclass(frozen=True)
class _Pass:
    module: SharedModule
    pixels: int
    future: Future[Any]


class DecoderThreads:
    """`count` passes of one picture at once; 0: none, the engine's thread decodes. All methods belong to the engine's
    thread; `wake` is called from others, whenever a pass has ended.
    """

    def __init__(self, count: int, wake: Callable[[], None]) -> None:
        self._count = count
        self._wake = wake
        self._threads = ThreadPoolExecutor(max(1, count), "decoder", initializer=_prepare_thread)  # start when used
        self._running: list[_Pass] = []  # also of samples that have left: a pass that runs keeps its core
        self._calls: dict[SampleId, Call] = {}

    def __bool__(self) -> bool:
        return self._count > 0

    def has_room(self, sample: PipelineGreenlet) -> bool:
        """Whether the sample's picture may be decoded beside those that are."""
        self._running = [one for one in self._running if not one.future.done()]
        call = sample.call
        if call is None or len(self._running) >= self._count:
            return False
        if call.module.name not in STATELESS and any(one.module is call.module for one in self._running):
            return False
        return not self._running or sum(one.pixels for one in self._running) + _pixels(sample) <= BESIDE_PIXELS

    def start(self, sample: PipelineGreenlet) -> None:
        """Decode its picture; until then the sample waits for a future, as for a remote model."""
        call = sample.call
        assert call is not None, "only suspended samples are run"

        def run() -> Any:
            sample.times.decode_from = time.monotonic()
            try:
                return call.run()
            finally:
                sample.times.decode_until = time.monotonic()

        future = self._threads.submit(run)
        future.add_done_callback(lambda _: self._wake())
        self._running.append(_Pass(call.module, _pixels(sample), future))
        self._calls[sample.request.sample_id] = call
        sample.call = elsewhere(future)

    def take_back(self, sample_id: SampleId) -> Call | None:
        """The call of a sample whose pass has ended, or that leaves; None when it waited for something else."""
        return self._calls.pop(sample_id, None)


def _prepare_thread() -> None:
    torch.set_grad_enabled(False)  # belongs to the thread
    torch.set_num_threads(1)


def _pixels(sample: PipelineGreenlet) -> int:
    return sample.request.width * sample.request.height
