"""The worker's side of the buffer: claim, tick, settle, requeue. The rules: generation/queue/lua/*.lua; the
keys: imagegenx_site/redis_clients.py.

A `WorkerQueue` belongs to one thread of one worker. Its Redis client never repeats a call by itself: a claim whose
first reply was lost would claim twice. Lost replies are found by `requeue_orphans`.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from generation.queue.lua import load_script
from generation.queue.values import BatchKey, EntryState, Release
from imagegenx_site.config import QueueConfig

_MODELS_KEPT_S = 60


@dataclass(frozen=True)
class WorkerQueueConfig:
    """How a worker takes work. Times in milliseconds."""

    worker: str  # unique per start of the process
    own_queue: str  # Celery queue of this worker's tickets, "dq.gpu1"
    models: tuple[str, ...] = ()  # names served; empty: all
    shares: tuple[int, ...] = QueueConfig.shares  # of P0..P3 when all are full
    affinity_ms: int = 2000  # the warm key is preferred while the fair choice is younger than this
    window_ms: int = QueueConfig.window_ms  # a task waits so long for others of its batch key
    min_batch: int = QueueConfig.min_batch  # so many waiting tasks end the window at once
    cold_ms: int = 100  # so long a task is left to workers that have its model in memory
    lease_ms: int = QueueConfig.lease_ms
    clock_key: str = ""  # of a simulation: where its time stands instead of the server's


@dataclass(frozen=True)
class Claimed:
    """A task that this worker holds in the buffer. `fence` tells this claim from others of the same task."""

    task_id: str
    priority: int
    batch_key: BatchKey
    fence: int
    entry_snapshot: str = field(repr=False)  # the Redis hash as JSON, to write it again after Redis has lost it

    @property
    def alone(self) -> bool:
        """It runs alone, because it failed or its worker died."""
        return bool(self.batch_key.alone)


@dataclass(frozen=True)
class Claim:
    """The answer to a claim: tasks, or how long (s) to wait for others of the same batch key, or neither."""

    tasks: tuple[Claimed, ...] = ()
    wait: float = 0.0


@dataclass(frozen=True)
class Tick:
    """What Redis says at a step boundary."""

    p0_waits: bool  # and it is its turn: it may preempt
    waiting: int  # tasks of all classes
    lease_expired: bool  # of some worker: `requeue_dead`
    cancelled: frozenset[str] = frozenset()  # of the tasks asked about, by id: their cancel was asked for
    taken_over: frozenset[str] = frozenset()  # by another worker


@dataclass(frozen=True)
class Requeued:
    """Ids of the tasks of dead workers: those that run again, those that are given up."""

    requeued: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()


class WorkerQueue:
    """One worker's view. Every change is one atomic command or script, but `requeue_orphans`: one script for each id.
    Every method raises redis.RedisError when Redis is out of reach.
    """

    def __init__(self, redis: Redis, config: WorkerQueueConfig) -> None:
        self.redis = redis
        self.config = config
        self._noted = ("", 0.0)  # models in memory as they were written, and when (monotonic s)
        own = ("worker", "own_queue", "models", "affinity_ms", "min_batch", "shares", "cold_ms")
        self._own = {name: getattr(config, name) for name in own}
        self._scripts = {
            name: load_script(redis, name, clock_key=config.clock_key)
            for name in ("claim", "tick", "beat", "requeue_dead", "settle", "resend_ticket", "return_ticket")
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
        wait_for_batch: bool = True,
        loaded: Iterable[str] | None = None,
    ) -> Claim:
        """Takes tasks of one batch key for up to `slots` samples; a first task that needs more is taken too.

        With `join` tasks run here already: only more of the warm key, or P0, may come, and none that must run alone.
        `closed` are keys that the worker is full of. `loaded`: models in memory, as "name@revision"; None: all.
        """
        ask: dict[str, Any] = {
            "slots": slots,
            "warm_key": warm_key and str(warm_key),
            "only_key": only_key and str(only_key),
            "only_class": only_class,
            "window_ms": self.config.window_ms if wait_for_batch else 0,
            "closed": [str(key) for key in closed],
            "join": join,
            "loaded": None if loaded is None else list(loaded),
        }
        answer = self._ask("claim", self._own | {name: value for name, value in ask.items() if value is not None})
        tasks = (
            Claimed(task["id"], task["class"], BatchKey.parse(task["key"]), task["fence"], task["hash"])
            for task in answer.get("tasks", ())
        )
        return Claim(tuple(tasks), answer["wait"] / 1000)

    def tick(self, held: Sequence[Claimed]) -> Tick:
        """Asks about every held task; one that Redis has lost is registered anew."""
        named = [{"id": task.task_id, "fence": task.fence} for task in held]
        ask = {"worker": self.config.worker, "classes": len(self.config.shares), "held": named}
        answer = self._ask("tick", ask, *(task.entry_snapshot for task in held))
        cancelled, taken_over = frozenset(answer["cancelled"]), frozenset(answer["taken_over"])
        return Tick(answer["p0_waits"], answer["waiting"], answer["lease_expired"], cancelled, taken_over)

    def settle(self, task: Claimed, release: Release) -> bool:
        """Releases the entry of a claimed task. False if it was not ours any more."""
        return bool(self._run("settle", self.config.worker, task.task_id, task.fence, release))

    def requeue_orphans(self, held: Iterable[str]) -> list[str]:
        """Requeues what Redis counts as ours but this worker does not hold: a claim's lost reply. Answers ids."""
        orphans = self.redis.smembers(f"gq:run:{self.config.worker}") - set(held)
        return [id_ for id_ in orphans if self._run("settle", self.config.worker, id_, "", Release.WAITING)]

    def beat(self) -> bool:
        """Renews this worker's lease; whether it had none."""
        return bool(self._run("beat", self.config.worker, self.config.lease_ms))

    def note_models(self, loaded: Iterable[str]) -> None:
        """For operators: what this worker has in memory. Written when it changes, and before Redis forgets it."""
        models, now = json.dumps(sorted(loaded)), time.monotonic()
        if self._noted[0] != models or now - self._noted[1] > _MODELS_KEPT_S / 2:
            self.redis.set(f"gq:models:{self.config.worker}", models, ex=_MODELS_KEPT_S)
            self._noted = (models, now)

    def requeue_dead(self, worker: str = "", cause: str = "lease", *, alone: bool = False) -> Requeued:
        """Requeues the tasks of a dead worker, or of every worker whose lease ran out.

        They run alone after their second crash, or at once with `alone`; one that crashed alone is given up.
        """
        answer = json.loads(self._run("requeue_dead", worker, cause, int(alone)))
        return Requeued(tuple(answer["requeued"]), tuple(answer["given_up"]))

    def leave(self) -> None:
        """Releases the lease of a worker that holds nothing any more."""
        self.redis.zrem("gq:lease", self.config.worker)

    def receive_ticket(self, task_id: str) -> None:
        """The task's ticket has been delivered here: nobody looks for it in the queue of its class."""
        self.redis.hdel(f"gq:t:{task_id}", "tk")

    def return_ticket(self, task_id: str) -> None:
        """The ticket is about to be given back to the queue of its class."""
        self._run("return_ticket", task_id)

    def forward_ticket(self, task_id: str, make: Callable[[int], str]) -> None:
        """Sends the ticket of a task that this worker does not run to where the task is; `make` writes it for the
        priority. One of an ended task is not sent.
        """
        priority = self.redis.hget(f"gq:t:{task_id}", "cls")
        if priority is not None:
            self._run("resend_ticket", task_id, make(int(priority)))

    def state(self, task_id: str) -> tuple[EntryState | None, str | None]:
        """(state, owner) of a task's entry; None where there is none."""
        state, owner = self.redis.hmget(f"gq:t:{task_id}", "st", "own")
        return EntryState(state) if state else None, owner

    def _ask(self, script: str, ask: dict[str, Any], *more: str) -> dict[str, Any]:
        """A script that takes and answers JSON."""
        answer: dict[str, Any] = json.loads(self._scripts[script](args=[json.dumps(ask), *more]))
        return answer

    def _run(self, script: str, *args: object) -> Any:
        return self._scripts[script](args=[str(arg) for arg in args])
