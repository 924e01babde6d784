"""The synchronous connection: sends calls, streams downloads and events. async_connection.py is its twin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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


class Connection:
    """One server and key. `timeout`: seconds that an answer may take to begin, or to go on."""

    def __init__(self, account: Account, retries: Retries, timeout: float) -> None:
        self._retries = retries
        common: dict[str, Any] = {"timeout": timeouts(timeout), "limits": limits()}
        self._api = httpx.Client(base_url=account.url, headers=account_headers(account), **common)
        self._files = httpx.Client(headers=file_headers(), follow_redirects=True, **common)

    def close(self) -> None:
        self._api.close()
        self._files.close()

    def send(self, call: Call[T]) -> T:
        """The result of a call. Raises ApiError, ConnectionFailed."""
        attempts = Attempts(self._retries, call.repeatable)
        while True:
            try:
                response = self._api.request(**call.arguments())
            except httpx.TransportError as error:
                wait = attempts.after_break(error)
            else:
                if response.is_success:
                    return call.read(data_of(response))
                wait = attempts.after_refusal(response)
            time.sleep(wait)

    def download(self, call: Call[None], sink: Callable[[], Sink]) -> None:
        """The answer's body; each try gets a new sink. Raises also Archived and HashMismatch."""
        self._download(self._api, call.arguments(), sink, self._retries)

    def download_output(self, task_id: str, output: Output, sink: Callable[[], Sink]) -> None:
        """A picture: from its own address, which counts against no limit, else with the key."""
        if output.url:
            try:
                return self._download(self._files, {"method": "GET", "url": output.url}, sink, Retries(most=0))
            except (ApiError, ConnectionFailed, HashMismatch):
                pass  # expired, out of reach from here, or damaged on its way
        return self.download(calls.picture(task_id, output.index, "original"), sink)

    def _download(
        self, client: httpx.Client, request: dict[str, Any], sink: Callable[[], Sink], retries: Retries
    ) -> None:
        attempts = Attempts(retries, repeatable=True)
        while True:
            try:
                with client.stream(**request, follow_redirects=True) as response:
                    if checked_download(response):
                        with sink() as file:
                            for piece in response.iter_bytes():
                                file.write(piece)
                        return
                    response.read()
                wait = attempts.after_refusal(response)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                wait = attempts.after_break(error)
            time.sleep(wait)

    def events(self, task_id: str, deadline: float | None = None) -> Iterator[Event]:
        """The events until the end, over broken connections too. `deadline`: of time.monotonic; it is noticed when
        something comes, or 15 s later at most. Raises WaitTimeout.
        """
        position, attempts = StreamPosition(), Attempts(self._retries, repeatable=True)
        while not position.ended:
            request = calls.events(task_id).arguments()
            request["headers"].update(position.headers())
            try:
                with self._api.stream(**request, timeout=read_timeout(deadline)) as response:
                    if not response.is_success:
                        response.read()
                        time.sleep(attempts.after_refusal(response))
                        continue
                    for message in EventSource(response).iter_sse():
                        attempts.reset()
                        yield position.take(message)
                        _check(deadline, task_id)
                broken: Exception = httpx.RemoteProtocolError("the stream ended before the task")
            except (httpx.TransportError, SSEError) as error:
                broken = error
            _check(deadline, task_id)
            if not position.ended:
                time.sleep(attempts.after_break(broken))

    def wait(self, task_id: str, timeout: float | None, on_event: OnEvent | None) -> Task:
        """The task, when it has ended."""
        newest: Task | None = None
        deadline = time.monotonic() + timeout if timeout is not None else None
        for event in self.events(task_id, deadline):
            newest = event.task or newest
            if on_event:
                on_event(event)
        return newest if newest and newest.ended else self.send(calls.task(task_id))


def _check(deadline: float | None, task_id: str) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise WaitTimeout(task_id)
