"""The GPU worker's side of the buffer: claim, tick, settle, reap. The rules: generation/queue/lua/*.lua; the
keys: imagegenx_site/redis_clients.py.

A `Buffer` belongs to one thread of one worker. Its Redis client never repeats a call by itself: a claim whose first
reply was lost would claim twice. Lost replies are found by `orphans()`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from redis import Redis

from generation.queue.lua import load_script
from generation.queue.values import BatchKey
from imagegenx_site.config import QueueConfig

LUA = Path(__file__).parent / "lua"


Outcome = Literal["ended", "waiting", "alone"]


Verdict = Literal["ok", "cancel", "lost"]


@dataclass(frozen=True)
class BufferConfig:
    """How a worker takes work. Times in milliseconds."""

    worker: str  # unique per start of the process
    own_queue: str  # Celery queue of this worker's tickets, "dq.gpu1"
    models: tuple[str, ...] = ()  # names served; empty: all
    shares: tuple[int, ...] = QueueConfig.shares  # of P0..P3 when all are full
    affinity_ms: int = 2000  # the warm key is preferred while the fair choice is younger than this
    window_ms: int = QueueConfig.window_ms  # how long a lone task may wait for mates
    least_batch: int = QueueConfig.least_batch  # so many waiting tasks end the window at once
    cold_ms: int = 100  # so long a task is left to workers that have its model in memory
    lease_ms: int = 1000
    clock_key: str = ""  # of a simulation: where its time stands instead of the server's


@dataclass(frozen=True)
class Claimed:
    """A task that this worker holds in the buffer. `fence` tells this claim from others of the same task."""

    task_id: str
    priority: int
    batch_key: BatchKey
    fence: int
    memo: str = field(repr=False)  # the Redis hash as JSON, to write it again after Redis has lost it

    @property
    def alone(self) -> bool:
        """It was on board when a worker died, or asked for it: it shares no batch."""
        return bool(self.batch_key.alone)


@dataclass(frozen=True)
class Claim:
    """The answer to a claim: tasks, or how long (s) to wait because mates may come, or neither."""

    tasks: tuple[Claimed, ...] = ()
    wait: float = 0.0


@dataclass(frozen=True)
class Tick:
    """What Redis says at a step boundary."""

    p0_waits: bool  # and it is P0's turn: it may preempt
    waiting: int  # tasks of all classes
    stranger_died: bool  # some worker's lease ran out: reap
    verdicts: dict[str, Verdict]  # by task id


@dataclass(frozen=True)
class Reaped:
    requeued: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()


class Buffer:
    """One worker's view. Every method is one atomic script and raises redis.RedisError when Redis is out of reach."""

    def __init__(self, redis: Redis, config: BufferConfig) -> None:
        self.redis = redis
        self.config = config
        self._shares = ",".join(map(str, config.shares))
        self._scripts = {
            name: load_script(redis, LUA / f"{name}.lua", clock_key=config.clock_key)
            for name in ("claim", "tick", "beat", "reap", "settle")
        }

    def claim(
        self,
        slots: int,
        *,
        warm_key: BatchKey | None = None,
        only_key: BatchKey | None = None,
        only_class: int | None = None,
        closed: Iterable[BatchKey] = (),
        join: bool = False,
        wait_for_mates: bool = True,
        loaded: Iterable[str] | None = None,
    ) -> Claim:
        """Takes tasks of one batch key for up to `slots` samples; a first task that needs more is taken too.

        With `join` somebody is on board already: only more of the warm key, or P0, may come, and nobody who must run
        alone. `closed` are keys that the worker is full of. `loaded`: models in memory, as "name@revision"; None: all.
        """
        config = self.config
        answer = self._run(
            "claim",
            config.worker,
            config.own_queue,
            slots,
            ",".join(config.models),
            warm_key or "",
            only_key or "",
            "" if only_class is None else only_class,
            config.affinity_ms,
            config.window_ms if wait_for_mates else 0,
            config.least_batch,
            self._shares,
            ",".join(map(str, closed)),
            int(join),
            "*" if loaded is None else ",".join(loaded),
            config.cold_ms,
        )
        rows = [answer[i : i + 5] for i in range(1, len(answer), 5)]
        tasks = tuple(
            Claimed(id_, int(class_), BatchKey.parse(key), int(fence), memo) for id_, class_, key, fence, memo in rows
        )
        return Claim(tasks, int(answer[0]) / 1000)

    def tick(self, held: Sequence[Claimed]) -> Tick:
        """Asks about every held task; one that Redis has lost is registered anew."""
        details = [value for task in held for value in (task.task_id, task.fence, task.memo)]
        p0, waiting, died, *verdicts = self._run("tick", self.config.worker, self._shares, *details)
        named = {task.task_id: verdict for task, verdict in zip(held, verdicts, strict=True)}
        return Tick(bool(p0), int(waiting), bool(died), named)

    def settle(self, task: Claimed, outcome: Outcome) -> bool:
        """Gives a task up: 'ended', or 'waiting' / 'alone' to run again. False if it was not ours any more."""
        return bool(self._run("settle", self.config.worker, task.task_id, task.fence, outcome))

    def orphans(self, held: Iterable[str]) -> list[str]:
        """Puts back what Redis counts as ours but the engine does not hold: a claim's lost reply. Answers ids."""
        strangers = self.redis.smembers(f"gq:run:{self.config.worker}") - set(held)
        return [id_ for id_ in strangers if self._run("settle", self.config.worker, id_, "", "waiting")]

    def beat(self) -> None:
        """Renews this worker's lease."""
        self._run("beat", self.config.worker, self.config.lease_ms)

    def reap(self, worker: str = "", cause: str = "lease", *, isolate: bool = False) -> Reaped:
        """Puts back the tasks of a dead worker, or of every worker whose lease ran out.

        They run alone after their second crash, or at once with `isolate`; one that crashed alone is given up.
        """
        answer = self._run("reap", worker, cause, int(isolate))
        if not answer:
            return Reaped()
        bar = answer.index("|")
        return Reaped(tuple(answer[:bar]), tuple(answer[bar + 1 :]))

    def leave(self) -> None:
        """Ends the lease of a worker that holds nothing any more."""
        self.redis.zrem("gq:lease", self.config.worker)

    def state(self, task_id: str) -> tuple[str | None, str | None]:
        """(state, owner) of a task here: state is 'w', 'r', 'x' or None when unknown."""
        state, owner = self.redis.hmget(f"gq:t:{task_id}", "st", "own")
        return state, owner

    def _run(self, script: str, *args: object) -> list:
        return self._scripts[script](args=[str(arg) for arg in args])
