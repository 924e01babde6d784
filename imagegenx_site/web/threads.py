"""The threads that run the web process's synchronous code, each with one kept connection to Postgres.

Django alone gives every ASGI request a thread of its own, and with it a new database connection: several milliseconds
of work for a request that needs two. Here a request gets the least busy of a few threads that stay, and keeps to it
(Django wants all synchronous code of a request in one thread). Threads are shared: a request that waits or streams
holds none (docs/decisions/0006).
"""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import connections


class RequestThread(ThreadPoolExecutor):
    """One thread, and how many calls it has to do."""

    def __init__(self, number: int) -> None:
        super().__init__(max_workers=1, thread_name_prefix=f"web-{number}")
        self._submitted = self._finished = 0  # each written by one thread only

    @property
    def load(self) -> int:
        """Calls that wait or run."""
        return self._submitted - self._finished

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run a call in the thread."""
        self._submitted += 1
        future = super().submit(*args, **kwargs)
        future.add_done_callback(self._count)
        return future

    def _count(self, _: "Future[Any]") -> None:
        self._finished += 1


class RequestThreads:
    """`count` threads that live as long as the process."""

    def __init__(self, count: int) -> None:
        self._threads = [RequestThread(number) for number in range(count)]

    def least_busy(self) -> RequestThread:
        """The first of those with the least to do: few threads stay awake while there is little work."""
        return min(self._threads, key=lambda thread: thread.load)

    async def close(self) -> None:
        """Close the threads' connections and end them."""
        await asyncio.gather(*(asyncio.wrap_future(thread.submit(connections.close_all)) for thread in self._threads))
        for thread in self._threads:
            thread.shutdown(wait=False)
