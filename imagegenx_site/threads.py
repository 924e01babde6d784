"""The threads that run the web process's synchronous code, each with one kept connection to Postgres.

Django alone gives every ASGI request a thread of its own, and with it a new database connection: several milliseconds
of work for a request that needs two. Here a request gets the least busy of a few lasting threads, and keeps to it
(Django wants all synchronous code of a request in one thread). Threads are shared: a request that waits or streams
holds none.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.db import connections

Application = Callable[[Any, Any, Any], Awaitable[None]]


class LastingThread(ThreadPoolExecutor):
    """One thread, and how many calls it has to do."""

    def __init__(self, number: int) -> None:
        super().__init__(max_workers=1, thread_name_prefix=f"web-{number}")
        self._given = self._done = 0  # each written by one thread only

    @property
    def load(self) -> int:
        """Calls that wait or run."""
        return self._given - self._done

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run a call in the thread."""
        self._given += 1
        future = super().submit(*args, **kwargs)
        future.add_done_callback(self._count)
        return future

    def _count(self, _: "Future[Any]") -> None:
        self._done += 1


class LastingThreads:
    """An ASGI application that runs another one's synchronous code in `count` lasting threads."""

    def __init__(self, application: Application, count: int) -> None:
        self._application = application
        self._threads = [LastingThread(number) for number in range(count)]
        self._turn = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        async with ThreadSensitiveContext(executor=self._least_busy()):
            await self._application(scope, receive, send)

    def _least_busy(self) -> LastingThread:
        """The next thread in turn among those with the least to do."""
        self._turn = (self._turn + 1) % len(self._threads)
        in_turn = self._threads[self._turn :] + self._threads[: self._turn]
        return min(in_turn, key=lambda thread: thread.load)

    async def close(self) -> None:
        """Close the threads' connections and end them."""
        await asyncio.gather(*(asyncio.wrap_future(thread.submit(connections.close_all)) for thread in self._threads))
        for thread in self._threads:
            thread.shutdown(wait=False)
