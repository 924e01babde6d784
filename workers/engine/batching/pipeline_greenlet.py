"""An active sample: a pipeline call in a greenlet, resumed and paused by the engine."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, greenlet

from workers.engine.batching.footprint import bytes_held
from workers.engine.errors import is_retryable
from workers.engine.interception import Call
from workers.engine.made_picture import completed
from workers.engine.requests import Cancelled, Event, Failed, Finished, Progress, SampleRequest, SampleTimes

if TYPE_CHECKING:
    import numpy as np

    from workers.engine.interface import Generated, ModelInterface


class PipelineGreenlet:
    """Runs `model.infer(request)` until it is suspended at a heavy call, again and again.

    `call` is what it waits for, None once it has ended. Not resuming it is pausing it. `outcome` is the last event of
    a sample that has ended; progress made on the way is handed to `report`. `held_bytes` is what it holds in memory,
    known while it is paused.
    """

    def __init__(self, request: SampleRequest, model: ModelInterface, report: Callable[[Event], None]) -> None:
        self.request = request
        self.model = model
        self.call: Call | None = None
        self.outcome: Event | None = None
        self.passed_over = 0
        self.held_bytes = 0
        self.times = SampleTimes()
        self._report = report
        self._greenlet = greenlet(self._run)
        self._greenlet.context = request.loras

    def start(self) -> None:
        """Run up to the first heavy call: the text encoder and the preparations of the pipeline."""
        self.times.began = time.monotonic()
        self._switch()

    def resume(self, result: Any) -> None:
        """Hand over the result of the suspended call and run up to the next one, or to the end."""
        self.passed_over = self.held_bytes = 0
        self._switch(result)

    def pause(self) -> None:
        """A forward pass goes by without it."""
        self.passed_over += 1
        self.held_bytes = self.held_bytes or bytes_held(self.request, self._greenlet)

    def fail(self, error: Exception) -> None:
        """Raise `error` where the sample is suspended."""
        self._end(error)

    def cancel(self) -> None:
        """End the sample where it is suspended; its tensors are freed with it."""
        self._end(GreenletExit())

    def _run(self) -> Generated:
        made = self.model.infer(self.request, self._on_step)
        return replace(made, image=completed(self.request, made.image))

    def _on_step(self, step: int, steps: int, preview: np.ndarray | None) -> None:
        self._report(Progress(self.request.sample_id, step, steps, preview))

    def _switch(self, *value: Any) -> None:
        try:
            self._on_switched_back(self._greenlet.switch(*value))
        except Exception as error:
            self._failed(error)

    def _end(self, reason: BaseException) -> None:
        try:
            self._on_switched_back(self._greenlet.throw(reason))
        except Exception as error:
            self._failed(error)

    def _on_switched_back(self, result: Any) -> None:
        """The greenlet came back: suspended with a call, ended with a picture, or ended by a cancel."""
        if not self._greenlet.dead:
            self.call = result
            return
        self.call = None
        sample_id = self.request.sample_id
        if isinstance(result, GreenletExit) or result is None:
            self.outcome = Cancelled(sample_id)
        else:
            self.outcome = Finished(sample_id, result.image, result.warnings, self.times)

    def _failed(self, error: Exception) -> None:
        self.call = None
        traceback.clear_frames(error.__traceback__)  # the event lives on; the sample's tensors need not
        self.outcome = Failed(self.request.sample_id, error, is_retryable(error), self.times)
