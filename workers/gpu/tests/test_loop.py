"""One turn of the engine's thread under load."""

from collections import deque

from workers.engine import ModelPool, ModelSpec, PoolConfig
from workers.engine.requests import Progress, SampleId
from workers.engine.tests.tiny_models import MINI
from workers.gpu.loop import EngineLoop, LoopConfig


class Busy:
    """Stands in for engine, tickets, watchdog and reporter: there is always a step to do, and nothing else."""

    warm_key = None
    paused_memory_full = False
    idle = False

    def step(self):
        return [Progress(SampleId("t", 0), 1, 2)]

    def tasks_to_evict(self):
        return []

    def alive(self):
        pass

    def wake(self):
        pass

    def report(self, *_, **__):
        pass


class Clocked(ModelPool):
    """A pool whose clock a test moves."""

    def __init__(self):
        self.moment = 0.0
        super().__init__(PoolConfig(device="cpu", idle_unload_s=300), clock=lambda: self.moment)
        self.left = deque()

    def unload_idle(self):
        found = super().unload_idle()
        self.left.extend(found)
        return found


def test_an_idle_model_leaves_the_memory_under_a_steady_load_of_another(make_worker_queue):
    queue, busy, pool = make_worker_queue("gpu1-a"), Busy(), Clocked()
    mini_spec = ModelSpec("mini", "1", "sd15", str(MINI))
    pool.ensure(mini_spec)
    pool.preload([mini_spec.key])
    loop = EngineLoop(queue, busy, busy, busy, lambda: (pool, busy), LoopConfig(unload_every=0.0))
    loop._pool, loop._engine = pool, busy
    loop.turn()
    assert list(pool.left) == []
    pool.moment = 301.0
    loop.turn()
    assert list(pool.left) == [mini_spec.key]
    assert pool.loaded() == {}
    pool.close()


class Ending(Busy):
    """One step, then nothing more."""

    steps = 1

    def step(self):
        self.steps -= 1
        return super().step() if self.steps >= 0 else []

    def sleep(self, seconds):
        pass


def test_memory_is_given_back_once_when_work_has_ended(make_worker_queue, monkeypatch):
    queue, ending, pool = make_worker_queue("gpu1-t"), Ending(), Clocked()
    trimmed = []
    monkeypatch.setattr(pool, "trim", lambda: trimmed.append(1))
    loop = EngineLoop(queue, ending, ending, ending, lambda: (pool, ending), LoopConfig(trim_after=0.0))
    loop._pool, loop._engine = pool, ending
    loop.turn()
    assert trimmed == [], "a step was made"
    loop.turn()
    loop.turn()
    assert trimmed == [1]
    pool.close()
