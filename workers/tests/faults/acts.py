"""The faults: each is a function that does the harm, and returns when it is done or over."""

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fixtures.fleet import Fleet
from generation.telemetry.system_gauges import QUEUES
from imagegenx_site import redis_clients
from workers.tests.faults.clock import step
from workers.tests.faults.stage import Stage, blocked, watchdog_of

if TYPE_CHECKING:
    from workers.tests.faults.play import Play

Act = Callable[[], None]
RECONCILERS = ("reconciler1", "reconciler2")
TERM = signal.SIGTERM


def all_faults(play: "Play") -> dict[str, Act]:
    """Every fault by name."""
    return {
        "none": lambda: None,
        **_killed(play.fleet, play.busiest),
        **_servers(play.stage),
        **_messages(),
        "a step hangs": lambda: play.submit_bad("hang"),
        "a poison task": lambda: play.submit_bad("poison"),
        "a lost device": lambda: play.submit_bad("device"),
        "kill -9 web": lambda: play.fleet.signal("web1"),
        "SIGTERM web": lambda: play.fleet.signal("web1", TERM),
        "clock a minute ahead": lambda: step(redis_clients.bytes_client(), 60),
        "clock a minute back": lambda: step(redis_clients.bytes_client(), -60),
    }


def _killed(fleet: Fleet, busiest: Callable[[], str]) -> dict[str, Act]:
    def watchdog(number: int = signal.SIGKILL, of: str = "") -> None:
        os.kill(watchdog_of(fleet.processes[of or busiest()].pid), number)

    def both(number: int = signal.SIGKILL) -> None:
        name = busiest()
        watchdog(number, name)
        fleet.signal(name, number)

    def reconcilers(number: int = signal.SIGKILL) -> None:
        for name in RECONCILERS:
            fleet.signal(name, number)

    return {
        "kill -9 GPU worker": lambda: fleet.signal(busiest()),
        "SIGTERM GPU worker": lambda: fleet.signal(busiest(), TERM),
        "kill -9 its watchdog": watchdog,
        "SIGTERM its watchdog": lambda: watchdog(TERM),
        "kill -9 both": both,
        "SIGTERM both": lambda: both(TERM),
        "kill -9 CPU worker": lambda: fleet.signal("cpu1"),
        "SIGTERM CPU worker": lambda: fleet.signal("cpu1", TERM),
        "kill -9 IO worker": lambda: fleet.signal("io1"),
        "SIGTERM IO worker": lambda: fleet.signal("io1", TERM),
        "kill -9 both reconcilers": reconcilers,
        "SIGTERM both reconcilers": lambda: reconcilers(TERM),
    }


def _servers(stage: Stage) -> dict[str, Act]:
    redis, postgres, folder = stage.redis, stage.postgres, stage.folder

    def lose_redis() -> None:
        redis.kill()
        stage.empty_redis_file()

    def flush() -> None:
        redis_clients.bytes_client().flushall()

    def away(down: Act, up: Act, seconds: float) -> Act:
        def act() -> None:
            down()
            time.sleep(seconds)
            up()

        return act

    return {
        "Redis kill -9, back after 1 s with its file": away(redis.kill, redis.start, 1),
        "Redis kill -9, back after 1 s empty": away(lose_redis, redis.start, 1),
        "Redis FLUSHALL": flush,
        "Redis stands still for 10 s": lambda: redis.pause(10),
        "Postgres kill -9, back after 1 s": away(postgres.kill, postgres.start, 1),
        "Postgres away for 10 s": away(postgres.stop, postgres.start, 10),
        "disk for raw pictures full for 5 s": blocked(folder / "raw", 5),
        "object store away for 5 s": blocked(folder / "media", 5),
    }


def _messages() -> dict[str, Act]:
    def queues() -> list[str]:
        names = [key.decode() for key in redis_clients.bytes_client().scan_iter("*", _type="list")]
        return [name for name in names if name in QUEUES or name.startswith("dq.")]

    def lose() -> None:
        for queue in queues():
            redis_clients.bytes_client().delete(queue)

    def double() -> None:
        for queue in queues():
            for message in redis_clients.bytes_client().lrange(queue, 0, -1):
                redis_clients.bytes_client().lpush(queue, message)

    def delay() -> None:
        held = {queue: redis_clients.bytes_client().lrange(queue, 0, -1) for queue in queues()}
        lose()
        time.sleep(6)
        for queue, messages in held.items():
            if messages:
                redis_clients.bytes_client().rpush(queue, *messages)

    return {"all messages lost": lose, "all messages doubled": double, "all messages 6 s late": delay}
