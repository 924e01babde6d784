"""A real, throw-away Redis server per test session, and buffers over it."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from redis import Redis

from deploy.embedded_redis import EmbeddedRedis, RedisConfig
from deploy.processes import stop
from deploy.services import free_port, wait_ready
from generation import partitions, tickets
from generation.lua import load_script
from generation.models import User
from generation.uuid7 import uuid7
from workers.buffer import Buffer, BufferConfig, connect
from workers.tests.fleet import Fleet, wait_until


@pytest.fixture(autouse=True)
def gradients() -> Iterator[None]:
    """An engine turns gradients off in its thread for good; in tests that is everybody's thread."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_grad_enabled(True)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("redis")
    folder.chmod(0o755)
    server = EmbeddedRedis(RedisConfig(folder / "data", free_port(), "secret", durable=False))
    server.initialise()
    log = folder / "redis.log"
    with log.open("wb") as output:
        process = server.start(output)
    wait_ready(server, process, log)
    yield server.url
    stop(process, server.stop_signal)
    server.close()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = connect(redis_url, timeout=5)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def make_buffer(redis: Redis) -> Callable[..., Buffer]:
    def make(worker: str = "gpu1-a", **changes: Any) -> Buffer:
        config = BufferConfig(worker=worker, own_queue=f"dq.{worker.split('-')[0]}")
        return Buffer(redis, replace(config, **changes))

    return make


@pytest.fixture
def enqueue(redis: Redis) -> Callable[..., str]:
    """Puts one task into the buffer as generation.tickets does, without Celery. Answers its id."""
    script = load_script(redis, tickets.LUA / "enqueue.lua")
    stamps = itertools.count(int(time.time() * 1000))

    def put(
        priority: int = 2, key: str = "mini@1:256x256", *, user: int = 1, weight: float = 1, age_ms: int = 10_000,
        expires_in_ms: int | None = None, samples: int = 1, task_id: str | None = None,
    ) -> str:  # fmt: skip
        task_id = task_id or str(uuid7(next(stamps)))
        expires = 0 if expires_in_ms is None else int(time.time() * 1000) + expires_in_ms
        created = int(time.time() * 1000) - age_ms
        new, *_ = script(args=[task_id, priority, key, user, weight, created, expires, key.split(":")[0], samples])
        assert new in (0, 1)
        return task_id

    return put


@pytest.fixture
def cancel(redis: Redis) -> Callable[[str], str]:
    script = load_script(redis, tickets.LUA / "cancel.lua")
    return lambda task_id: script(args=[task_id])


@pytest.fixture
def user(transactional_db: None) -> User:
    """Somebody who submits, in a seeded database without queues."""
    call_command("seed", verbosity=0)
    partitions.ensure(datetime.now(UTC).date(), 2)
    Redis.from_url(settings.REDIS_URL).flushdb()
    return User.objects.create(username="owner")


@pytest.fixture(scope="session")
def processes(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Worker processes over the test database and the Redis of the settings; their engine sleeps."""
    folder = tmp_path_factory.mktemp("fleet")
    parts = connection.settings_dict
    name, password = quote(parts["USER"]), quote(parts["PASSWORD"] or "")
    address = f"postgres://{name}:{password}@{parts['HOST']}:{parts['PORT']}/{parts['NAME']}"
    env = {"DATABASE_URL": address, "REDIS_URL": settings.REDIS_URL, "RAW_ROOT": str(folder / "raw")}
    fleet = Fleet(folder, env)
    yield fleet
    fleet.stop(*fleet.processes)


@pytest.fixture
def fleet(processes: Fleet, user: User) -> Iterator[Fleet]:
    """The processes, and nothing of an earlier test in their services."""
    yield processes
    wait_until(lambda: not Redis.from_url(settings.REDIS_URL).keys("gq:run:*"), 10)
