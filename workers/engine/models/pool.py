"""Models in memory: loaded on demand beside the running batch, dropped when idle or when others need the room.

Methods are called by the engine's thread, except that weights are read in one loader thread, so that samples of other
models step on meanwhile.
"""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch

from imagegenx_site.config import GpuConfig
from workers.engine.errors import EngineError, ModelUnavailable, is_out_of_memory
from workers.engine.interface import ModelInterface
from workers.engine.metrics import MODEL_BYTES, MODEL_LOADS, OUT_OF_MEMORY, PRECISION
from workers.engine.models import memory
from workers.engine.models.precision import lower, resolved
from workers.engine.models.registry import make_model
from workers.engine.spec import ModelSpec

logger = logging.getLogger(__name__)

HIGH = 0.9  # part of the device's memory in use, above which batches and precisions are lowered


@dataclass(frozen=True)
class PoolConfig:
    """`device`: "auto" (first GPU, else CPU), "cpu", "cuda:0" and so on. `memory_bytes`: what the models may take,
    0 for a part of the device (memory.py). `idle_unload_s`: an unused model leaves after so many seconds."""

    device: str = GpuConfig.device
    memory_bytes: int = 0
    idle_unload_s: float = GpuConfig.idle_unload_s

    def torch_device(self) -> torch.device:
        """The device that `device` means on this machine."""
        if self.device == "auto":
            return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)


@dataclass
class _Entry:
    """A model on its way into memory or in it. `users`: active samples; `last_used` in monotonic seconds."""

    model: ModelInterface
    loading: Future
    last_used: float
    precision: str
    users: int = 0
    size: int = 0
    settled: bool = False
    outdated: bool = False


class ModelPool:
    """Declared models by key, and those of them that are in memory."""

    def __init__(
        self,
        config: PoolConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        memory_load: Callable[[], float] | None = None,
    ) -> None:
        """`memory_load`: the part of the device's memory that is in use; measured if it is not given."""
        self.config = config or PoolConfig()
        self.device = self.config.torch_device()
        self.memory_load = memory_load or partial(memory.load, self.device)
        self._budget = self.config.memory_bytes or memory.measured_budget(self.device)
        self._lowered: dict[str, str] = {}
        self._clock = clock
        self._specs: dict[str, ModelSpec] = {}
        self._entries: dict[str, _Entry] = {}
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")
        self._requested: set[str] = set()  # whose loading no sample asked for

    # ---- declaring

    def ensure(self, spec: ModelSpec) -> None:
        """Make a model known under its key. Another revision of it leaves the memory with its last sample."""
        self._specs[spec.key] = spec
        for key, entry in list(self._entries.items()):
            if key != spec.key and self._specs[key].name == spec.name:
                entry.outdated = True
                self._drop_if(key, entry.users == 0)

    def preload(self, keys: list[str]) -> None:
        """Load these now and wait for them; a failure is raised as ModelUnavailable."""
        for key in keys:
            self.get(key)

    def request(self, key: str) -> None:
        """Begin to load a declared model that nobody uses yet; `settle_requested` says what became of it."""
        self._requested.add(key)
        self._entry(key)

    def settle_requested(self) -> dict[str, EngineError]:
        """Take note of requested loadings that are over: those that failed, and why."""
        failed = {}
        for key in list(self._requested):
            entry = self._entries.get(key)
            if entry is not None and not entry.loading.done():
                continue
            try:
                over = entry is None or self._settled(key, entry)
            except EngineError as error:
                failed[key], over = error, True
            if over:
                self._requested.discard(key)
        return failed

    def knows(self, key: str) -> bool:
        """Whether the model was declared by `ensure`."""
        return key in self._specs

    def precision_of(self, key: str) -> str:
        """The precision in which a declared model is loaded."""
        return self._lowered.get(key) or resolved(self._specs[key].precision, self.device)

    def variant_of(self, key: str) -> str:
        """What decides the times of a loaded model: its precision, and the runtime if that is not torch."""
        entry = self._entries.get(key)
        hosted = entry is not None and entry.settled and bool(getattr(entry.model, "hosted", None))
        return f"{self.precision_of(key)} onnx" if hosted else self.precision_of(key)

    def lower_precision(self, key: str, why: str) -> bool:
        """The next loading of a model will be in the next lower precision; the present one leaves with its last sample.
        False: there is none."""
        entry = self._entries.get(key)
        now = self.precision_of(key)
        following = lower(now, entry.model.precisions) if entry is not None else None
        if entry is None or following is None:
            return False
        self._lowered[key] = following
        logger.warning("%s: model %s goes from %s to %s", why, key, now, following)
        entry.outdated = True
        self._drop_if(key, entry.users == 0)
        return True

    # ---- using

    def borrow(self, key: str) -> ModelInterface | None:
        """The loaded model, counted as used until `give_back`; None while it is being loaded.

        Raises ModelUnavailable with the reason when the model is unknown or its loading failed; the next call tries
        again.
        """
        entry = self._entry(key)
        if not entry.loading.done() or not self._settled(key, entry):
            return None
        entry.users += 1
        entry.last_used = self._clock()
        return entry.model

    def give_back(self, key: str) -> None:
        """A sample of the model has ended."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.users -= 1
        entry.last_used = self._clock()
        self._drop_if(key, entry.outdated and entry.users == 0)

    def get(self, key: str) -> ModelInterface:
        """The loaded model, waiting for it. For starting up and for tests; the engine borrows."""
        while True:
            entry = self._entry(key)
            entry.loading.exception()
            if self._settled(key, entry):
                return entry.model

    # ---- leaving

    def release(self, key: str) -> None:
        """Drop a model from memory unless samples use it."""
        entry = self._entries.get(key)
        self._drop_if(key, entry is not None and entry.users == 0)

    def retire(self, key: str) -> None:
        """Drop a model from memory with its last sample."""
        if entry := self._entries.get(key):
            entry.outdated = True
            self._drop_if(key, entry.users == 0)

    def unload_idle(self) -> list[str]:
        """Drop every model that was unused for `idle_unload_s`. Returns their keys."""
        oldest = self._clock() - self.config.idle_unload_s
        idle = [key for key, entry in self._evictable() if entry.last_used < oldest]
        for key in idle:
            self._drop_if(key, True)
        return idle

    def trim(self) -> None:
        """Give the system back what the allocator keeps for the next pictures: none are to come for a while. A GPU's
        cache stays, as nobody else has use for it.
        """
        if self.device.type == "cpu":
            memory.give_back_freed()

    def free_memory(self) -> bool:
        """Drop the least recently used of the unused models and empty the allocator's cache. False: none was left."""
        victims = self._evictable()
        if victims:
            self._drop_if(victims[0][0], True)
        self._give_back_cache()
        return bool(victims)

    @property
    def budget(self) -> int:
        """Bytes that models may take together."""
        return self._budget

    def loaded(self) -> dict[str, int]:
        """Bytes of each model in memory."""
        return {key: entry.size for key, entry in self._entries.items() if entry.settled}

    def sizes(self) -> dict[str, tuple[int, str]]:
        """Bytes and precision of each model in memory."""
        return {key: (entry.size, entry.precision) for key, entry in self._entries.items() if entry.settled}

    def close(self) -> None:
        """Drop everything and end the loader thread."""
        self._loader.shutdown(wait=True, cancel_futures=True)
        for key in list(self._entries):
            self._drop_if(key, True)

    # ---- inside

    def _entry(self, key: str) -> _Entry:
        """The entry of a declared model; loading begins with it."""
        if key in self._entries:
            return self._entries[key]
        if key not in self._specs:
            raise ModelUnavailable(
                f"model {key} is not known to this worker; it knows {', '.join(self._specs) or 'none'}"
            )
        precision = self.precision_of(key)
        OUT_OF_MEMORY.labels(key)  # and the loads: from 0 on, so that the first event is seen
        for outcome in ("loaded", "failed"):
            MODEL_LOADS.labels(key, outcome)
        model = make_model(replace(self._specs[key], precision=precision), self.device)
        entry = self._entries[key] = _Entry(model, self._loader.submit(model.load), self._clock(), precision)
        return entry

    def _settled(self, key: str, entry: _Entry) -> bool:
        """Take note of a finished loading: its size, or its failure. False: it begins again, in a lower precision."""
        error = entry.loading.exception()
        if error is not None:
            again = self._may_load_again(key, entry, error)
            self._entries.pop(key, None)
            MODEL_LOADS.labels(key, "failed").inc()
            if again:
                self._entry(key)
                return False
            if isinstance(error, EngineError):
                raise error
            raise ModelUnavailable(f"model {key} could not be loaded: {error}") from error
        if not entry.settled:
            entry.settled, entry.size = True, entry.model.memory_bytes()
            MODEL_LOADS.labels(key, "loaded").inc()
            MODEL_BYTES.labels(key).set(entry.size)
            PRECISION.labels(key, entry.precision).set(1)
            self._evict_beyond_budget(keep=key)
            if self._too_full(keep=key) and self.lower_precision(key, f"over {HIGH:.0%} of the memory is in use"):
                self._entry(key)
                return False
        return True

    def _may_load_again(self, key: str, entry: _Entry, error: BaseException) -> bool:
        """After a failed loading, of which nothing stays in memory. Out of memory: models that nobody uses leave, and
        then it is loaded in the next lower precision."""
        entry.model.release()
        _forget_frames(error)
        gc.collect()
        self._give_back_cache()
        if not is_out_of_memory(error):
            return False
        return self.free_memory() or self.lower_precision(key, "out of memory while loading")

    def _too_full(self, keep: str) -> bool:
        """Whether memory is short even without the models that are not in use."""
        for key, _ in self._evictable():
            if self.memory_load() <= HIGH:
                return False
            self._drop_if(key, key != keep)
        return self.memory_load() > HIGH

    def _evict_beyond_budget(self, keep: str) -> None:
        """The least recently used leave first; models in use and the one just loaded stay even beyond the budget."""
        for key, _ in self._evictable():
            if sum(self.loaded().values()) <= self._budget:
                return
            self._drop_if(key, key != keep)

    def _evictable(self) -> list[tuple[str, _Entry]]:
        """Loaded and unused, least recently used first."""
        unused = [(key, entry) for key, entry in self._entries.items() if entry.users == 0 and entry.settled]
        return sorted(unused, key=lambda item: item[1].last_used)

    def _drop_if(self, key: str, condition: bool) -> None:
        if not condition or key not in self._entries:
            return
        entry = self._entries.pop(key)
        entry.model.release()
        MODEL_BYTES.labels(key).set(0)
        PRECISION.labels(key, entry.precision).set(0)
        logger.info("model %s left the memory", key)
        gc.collect()
        self._give_back_cache()

    def _give_back_cache(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _forget_frames(error: BaseException | None) -> None:
    """The frames of a failed loading hold what it had loaded."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
