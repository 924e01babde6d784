"""The engine: samples join, step together and leave, at any denoising step.

One thread owns an engine: it alone calls its methods (`cancel` may come from any thread). Gradients stay off in that
thread for good, because grad mode belongs to the thread and leaks between greenlets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import torch

from generation.queue.values import BatchKey, size_class
from workers.engine.batching import batch_runner, scheduler
from workers.engine.batching.calibration import DECODE, DENOISE, Calibrator, PassKind
from workers.engine.batching.config import EngineConfig
from workers.engine.batching.decoder_threads import DecoderThreads
from workers.engine.batching.in_flight_dedup import InFlightDedup
from workers.engine.batching.limits import RowLimits
from workers.engine.batching.paused_memory import PausedMemory
from workers.engine.batching.pipeline_greenlet import PipelineGreenlet
from workers.engine.batching.row_tuner import RowTuner
from workers.engine.errors import EngineError, ModelUnavailable, is_out_of_memory
from workers.engine.interception import Phase
from workers.engine.metrics import BATCH, OUT_OF_MEMORY, PREEMPTED, ROWS, STEP
from workers.engine.models.pool import ModelPool
from workers.engine.requests import Cancelled, Event, Failed, SampleId, SampleRequest

logger = logging.getLogger(__name__)


class Engine:
    """See the module's docstring; the use of each method stands in workers/engine/__init__.py."""

    def __init__(
        self, pool: ModelPool, config: EngineConfig | None = None, calibrator: Calibrator | None = None
    ) -> None:
        """Without a `calibrator` the row limits are those of the configuration. `wake` is called, from another thread,
        when there is something for `step` to go on with; it may be set before the first step."""
        self.config = config or EngineConfig()
        self.limits = RowLimits(self.config.batch_limits)
        self.warm_key: BatchKey | None = None
        self.wake: Callable[[], None] = lambda: None
        self._pool = pool
        self._tuner = RowTuner(self.limits, pool, calibrator)
        self._waiting: deque[SampleRequest] = deque()
        self._active: dict[SampleId, PipelineGreenlet] = {}
        self._decoders = DecoderThreads(self.config.decoders, lambda: self.wake())
        self._dedup = InFlightDedup()
        self._paused = PausedMemory(self.config.paused_bytes)
        self._cancelled: set[SampleId] = set()
        self._rows_a_sample: dict[BatchKey, int] = {}  # at the last pass: two with guidance
        self._events: list[Event] = []
        self._thread: int | None = None

    # ---- what the worker asks

    @property
    def idle(self) -> bool:
        """No sample is active or waiting for its model."""
        return not self._active and not self._waiting

    def running(self) -> list[SampleRequest]:
        """All that are active, waiting for their model, or waiting for the picture of an identical sample."""
        return [*self._admitted(), *self._dedup.waiting()]

    def _admitted(self) -> list[SampleRequest]:
        return [*self._waiting, *(sample.request for sample in self._active.values())]

    def room(self, model: str, width: int, height: int, priority: int) -> int:
        """How many more samples of that model, size and priority would be admitted now."""
        admitted = self._admitted()
        key = BatchKey(model, width, height)
        same = [request for request in admitted if request.batch_key == key]
        return scheduler.room(
            same_key=len(same),
            same_key_urgent=sum(request.priority == scheduler.URGENT for request in same),
            admitted=len(admitted),
            limit=max(1, self._tuner.rows(key) // self._rows_a_sample.get(key, 2)),
            capacity=self.config.capacity,
            priority=priority,
            may_pause=self._paused.room(key, admitted, self._waiting),
        )

    @property
    def paused_memory_full(self) -> bool:
        """P0 is active, and paused work holds as much memory as it may: only P0 of the warm key is to come."""
        return self._paused.full(self._admitted())

    def tasks_to_evict(self) -> list[str]:
        """Ids of tasks that are to be requeued, because paused work holds more memory than it may. Whoever
        asks cancels their samples."""
        return self._paused.tasks_to_evict(self._active.values())

    def admit(self, request: SampleRequest) -> None:
        """Take a sample; it starts at the next step if its model is loaded, else as soon as it is. A cacheable one that
        is identical to one in flight waits for its picture instead."""
        if not self._dedup.join_or_lead(request):
            self._waiting.append(request)

    def cancel(self, sample_id: SampleId) -> None:
        """End a sample at the next step boundary. Unknown ids are ignored."""
        self._cancelled.add(sample_id)

    def discard_all(self) -> None:
        """Drop all samples without an event: at a graceful stop, or when the device is lost."""
        for sample in self._active.values():
            sample.cancel()
            self._pool.give_back(sample.request.model)
        self._active.clear()
        self._waiting.clear()
        self._dedup.clear()
        self._cancelled.clear()
        self._events.clear()
        self._paused.count(())

    # ---- the loop

    def step(self) -> list[Event]:
        """One shared forward pass and what comes with it. Never raises for one sample's fault."""
        self._own_thread()
        self._start_waiting()
        self._take_from_elsewhere()
        self._step_controls()
        self._step_denoisers()
        self._step_decoders()
        return self._retire()

    def _own_thread(self) -> None:
        thread = threading.get_ident()
        if self._thread is None:
            self._thread = thread
            torch.set_grad_enabled(False)
            torch.set_num_threads(self.config.threads)
        elif self._thread != thread:
            raise RuntimeError("an engine belongs to the thread that stepped it first")

    def _start_waiting(self) -> None:
        """Start those whose model is ready; the others keep waiting while the pool loads it."""
        self._apply_cancels()
        for request in [self._waiting.popleft() for _ in range(len(self._waiting))]:
            try:
                model = self._pool.borrow(request.model)
            except EngineError as error:
                self._events.append(Failed(request.sample_id, error, error.retryable))
                continue
            if model is None:
                self._waiting.append(request)
                continue
            self._tuner.recall(request)
            sample = PipelineGreenlet(request, model, self._events.append)
            self._active[request.sample_id] = sample
            sample.start()

    def _apply_cancels(self) -> None:
        cancelled, self._cancelled = self._cancelled, set()
        for sample_id in cancelled & self._active.keys():
            self._active[sample_id].cancel()
        for request in [request for request in self._waiting if request.sample_id in cancelled]:
            self._waiting.remove(request)
            self._events.append(Cancelled(request.sample_id))
        self._events += [Cancelled(sample_id) for sample_id in cancelled if self._dedup.leave(sample_id)]

    def _suspended(self, phase: Phase) -> list[PipelineGreenlet]:
        return [sample for sample in self._active.values() if sample.call is not None and sample.call.phase is phase]

    def _take_from_elsewhere(self) -> None:
        """What was computed elsewhere and is done."""
        for sample in self._suspended(Phase.REMOTE):
            future = sample.call.future if sample.call else None
            if future is None or not future.done():
                continue
            decoding, error = self._decoders.take_back(sample.request.sample_id), future.exception()
            if decoding is not None and error is not None and is_out_of_memory(error):
                sample.call = decoding
                self._run([sample], DECODE)  # once more, without others beside it
            elif isinstance(error, Exception):
                sample.fail(error)
            else:
                sample.resume(future.result())

    def _step_controls(self) -> None:
        """ControlNets of all that may be in this step, grouped."""
        while waiting := self._not_paused(Phase.AUXILIARY):
            key = batch_runner.group_key(waiting[0])
            self._run([sample for sample in waiting if batch_runner.group_key(sample) == key])

    def _step_decoders(self) -> None:
        """Pictures of samples whose steps are done, the oldest first, in passes as large as is worth while. What would
        make the turn longer than a step may be waits for the next one. With threads of their own they run beside the
        steps, one picture each.
        """
        if self._decoders:
            for sample in self._not_paused(Phase.DECODE):
                if not self._decoders.has_room(sample):
                    return
                self._decoders.start(sample)
            return
        until = time.monotonic() + self.config.step_max_s
        while waiting := self._not_paused(Phase.DECODE):
            key = batch_runner.group_key(waiting[0])
            group = [sample for sample in waiting if batch_runner.group_key(sample) == key]
            chosen = group[: max(1, self._tuner.rows(group[0].request.batch_key, DECODE))]
            decoding = time.monotonic()
            for sample in chosen:
                sample.times.decode_from = decoding
            with self._tuner.measure(chosen, DECODE):
                self._run(chosen, DECODE)
            decoded = time.monotonic()
            for sample in chosen:
                sample.times.decode_until = decoded
            if decoded > until:
                return

    def _not_paused(self, phase: Phase) -> list[PipelineGreenlet]:
        """Those that wait for such a call, the oldest first; beside P0 only P0, and who was passed over for long."""
        suspended = sorted(self._suspended(phase), key=lambda one: (one.request.arrived, one.request.sample_id))
        if not any(sample.request.priority == scheduler.URGENT for sample in self._active.values()):
            return suspended
        patience = self.config.policy.patience
        return [
            sample
            for sample in suspended
            if sample.request.priority == scheduler.URGENT or sample.passed_over >= patience
        ]

    def _step_denoisers(self) -> None:
        """One forward pass of the samples that the policy chooses; repeated at once with fewer if memory runs out."""
        suspended = {sample.request.sample_id: sample for sample in self._suspended(Phase.DENOISE)}
        for sample in [*self._suspended(Phase.AUXILIARY), *self._suspended(Phase.DECODE)]:
            sample.pause()  # beside P0; what is not paused has been run, or is run after this step
        if not suspended:
            return
        candidates = [_as_candidate(sample) for sample in suspended.values()]
        chosen = scheduler.choose(candidates, self._row_limit, self.config.policy)
        samples = [suspended[member.sample_id] for member in chosen]
        self.warm_key = samples[0].request.batch_key
        passed_over = [suspended[one] for one in suspended.keys() - {sample.sample_id for sample in chosen}]
        if preempted := sum(sample.passed_over == 0 and sample.times.steps > 0 for sample in passed_over):
            PREEMPTED.inc(preempted)
        self._paused.pass_over(passed_over)
        request, started = samples[0].request, time.monotonic()
        rows = [batch_runner.rows_of(sample) for sample in samples]
        self._rows_a_sample[request.batch_key] = max(rows)
        with self._tuner.measure(samples):
            self._run(samples)
        ended = time.monotonic()
        for sample in samples:
            sample.times.note_step(started, ended, len(samples))
        for sample in passed_over:
            sample.times.paused += ended - started
        BATCH.labels(request.model).observe(len(samples))
        ROWS.labels(request.model).observe(sum(rows))
        STEP.labels(request.model, size_class(request.width, request.height)).observe(ended - started)

    def _row_limit(self, leader: scheduler.Candidate) -> int:
        return self._tuner.rows(self._active[leader.sample_id].request.batch_key)

    def _run(self, samples: list[PipelineGreenlet], kind: PassKind = DENOISE) -> None:
        """A forward pass; out of memory lowers the limit of its size and repeats the same step with fewer rows."""
        request, rows = samples[0].request, sum(map(batch_runner.rows_of, samples))
        try:
            batch_runner.run_together(samples)
        except batch_runner.OutOfMemory as error:
            self._make_room(samples, error, kind)
        else:
            self._tuner.record_success(request, rows, kind)

    def _make_room(self, samples: list[PipelineGreenlet], error: batch_runner.OutOfMemory, kind: PassKind) -> None:
        request = samples[0].request
        OUT_OF_MEMORY.labels(request.model).inc()
        limit = self._tuner.halve(request.batch_key, error.rows, kind)
        freed = self._pool.free_memory()
        logger.warning("%s; the limit of %s is now %d rows", error, request.batch_key, limit)
        if len(samples) == 1:
            if freed:
                self._run(samples, kind)
            else:
                reason = f"one image of {request.width}x{request.height} does not fit into memory"
                self._pool.lower_precision(request.model, reason)  # for its next try
                samples[0].fail(ModelUnavailable(reason))
            return
        half = (len(samples) + 1) // 2
        self._run(samples[:half], kind)
        self._run(samples[half:], kind)

    def _retire(self) -> list[Event]:
        """Events since the last step; those that have ended leave."""
        events = list(self._events)
        self._events.clear()
        for sample_id, sample in list(self._active.items()):
            if sample.outcome is not None:
                events.append(sample.outcome)
                self._decoders.take_back(sample_id)
                del self._active[sample_id]
                self._pool.give_back(sample.request.model)
        self._paused.count(self._active.values())
        if not self._active:
            self.warm_key = None
        return [shared for event in events for shared in self._with_duplicates(event)]

    def _with_duplicates(self, event: Event) -> list[Event]:
        """The event, also for those that wait for the same picture; if it is not coming, they are admitted again."""
        events, again = self._dedup.fan_out(event)
        for request in again:
            self.admit(request)
        return events


def _as_candidate(sample: PipelineGreenlet) -> scheduler.Candidate:
    request = sample.request
    return scheduler.Candidate(
        sample_id=request.sample_id,
        key=batch_runner.group_key(sample),
        rows=batch_runner.rows_of(sample),
        priority=request.priority,
        arrived=request.arrived,
        passed_over=sample.passed_over,
        batch=request.batch,
    )
