"""The asynchronous connection. connection.py is its twin and says what each method does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from imagegenx import calls
from imagegenx.account import Account
from imagegenx.bodies import Output, Task
from imagegenx.calls import Call
from imagegenx.errors import ApiError, ConnectionFailed, HashMismatch, WaitTimeout
from imagegenx.event_streams import Event, StreamPosition, read_timeout
from imagegenx.files import Sink
from imagegenx.retries import Attempts, Retries
from imagegenx.transport import account_headers, checked_download, data_of, file_headers, limits, timeouts

T = TypeVar("T")
OnEvent = Callable[[Event], None]


class AsyncConnection:
    """One server and key. `timeout`: seconds that an answer may take to begin, or to go on."""

    def __init__(self, account: Account, retries: Retries, timeout: float) -> None:
        self._retries = retries
        common: dict[str, Any] = {"timeout": timeouts(timeout), "limits": limits()}
        self._api = httpx.AsyncClient(base_url=account.url, headers=account_headers(account), **common)
        self._files = httpx.AsyncClient(headers=file_headers(), follow_redirects=True, **common)

    async def close(self) -> None:
        await self._api.aclose()
        await self._files.aclose()

    async def send(self, call: Call[T]) -> T:
        """The result of a call. Raises ApiError, ConnectionFailed."""
        attempts = Attempts(self._retries, call.repeatable)
        while True:
            try:
                response = await self._api.request(**call.arguments())
            except httpx.TransportError as error:
                wait = attempts.after_break(error)
            else:
                if response.is_success:
                    return call.read(data_of(response))
                wait = attempts.after_refusal(response)
            await asyncio.sleep(wait)

    async def download(self, call: Call[None], sink: Callable[[], Sink]) -> None:
        """The answer's body; each try gets a new sink. Raises also Archived and HashMismatch."""
        await self._download(self._api, call.arguments(), sink, self._retries)

    async def download_output(self, task_id: str, output: Output, sink: Callable[[], Sink]) -> None:
        """A picture: from its own address, which counts against no limit, else with the key."""
        if output.url:
            try:
                return await self._download(self._files, {"method": "GET", "url": output.url}, sink, Retries(most=0))
            except (ApiError, ConnectionFailed, HashMismatch):
                pass  # expired, out of reach from here, or damaged on its way
        return await self.download(calls.picture(task_id, output.index, "original"), sink)

    async def _download(
        self, client: httpx.AsyncClient, request: dict[str, Any], sink: Callable[[], Sink], retries: Retries
    ) -> None:
        attempts = Attempts(retries, repeatable=True)
        while True:
            try:
                async with client.stream(**request, follow_redirects=True) as response:
                    if checked_download(response):
                        with sink() as file:
                            async for piece in response.aiter_bytes():
                                file.write(piece)
                        return
                    await response.aread()
                wait = attempts.after_refusal(response)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                wait = attempts.after_break(error)
            await asyncio.sleep(wait)

    async def events(self, task_id: str, deadline: float | None = None) -> AsyncIterator[Event]:
        """The events until the end, over broken connections too. `deadline`: of time.monotonic; it is noticed when
        something comes, or 15 s later at most. Raises WaitTimeout.
        """
        position, attempts = StreamPosition(), Attempts(self._retries, repeatable=True)
        while not position.ended:
            request = calls.events(task_id).arguments()
            request["headers"].update(position.headers())
            try:
                async with self._api.stream(**request, timeout=read_timeout(deadline)) as response:
                    if not response.is_success:
                        await response.aread()
                        await asyncio.sleep(attempts.after_refusal(response))
                        continue
                    async for message in EventSource(response).aiter_sse():
                        attempts.reset()
                        yield position.take(message)
                        _check(deadline, task_id)
                broken: Exception = httpx.RemoteProtocolError("the stream ended before the task")
            except (httpx.TransportError, SSEError) as error:
                broken = error
            _check(deadline, task_id)
            if not position.ended:
                await asyncio.sleep(attempts.after_break(broken))

    async def wait(self, task_id: str, timeout: float | None, on_event: OnEvent | None) -> Task:
        """The task, when it has ended."""
        newest: Task | None = None
        deadline = time.monotonic() + timeout if timeout is not None else None
        async for event in self.events(task_id, deadline):
            newest = event.task or newest
            if on_event:
                on_event(event)
        return newest if newest and newest.ended else await self.send(calls.task(task_id))


def _check(deadline: float | None, task_id: str) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise WaitTimeout(task_id)
