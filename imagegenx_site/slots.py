"""Bounds on what one holder (a user, an address, a host) has under way at once, counted in this process.

with uploads.hold(("user 7", 8)):       # SlotsFull when user 7 has 8 already
    ...
"""

import asyncio
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from django.http.response import HttpResponseBase

Claim = tuple[str, int]  # a holder, and how many slots it may hold

_LOOK_EVERY_S: Final = 0.02


class SlotsFull(Exception):
    """`holder` has all the slots that it may hold."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"{holder} has no slot left")
        self.holder = holder


class Slots:
    """Slots of one kind. Takes and returns may come from any thread."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, *claims: Claim) -> None:
        """One slot for each claim, or none at all. Raises SlotsFull."""
        with self._lock:
            self._check(claims)
            self._held.update(holder for holder, _ in claims)

    def check(self, *claims: Claim) -> None:
        """Take nothing. Raises SlotsFull when `take` would now."""
        with self._lock:
            self._check(claims)

    def _check(self, claims: Sequence[Claim]) -> None:
        for holder, most in claims:
            if self._held.get(holder, 0) >= most:
                raise SlotsFull(holder)

    def give_back(self, *claims: Claim) -> None:
        """What `take` took. Holders without slots are forgotten."""
        with self._lock:
            for holder, _ in claims:
                self._held[holder] -= 1
                if self._held[holder] <= 0:
                    del self._held[holder]

    @contextmanager
    def hold(self, *claims: Claim) -> Iterator[None]:
        """The slots for as long as the block lasts. Raises SlotsFull."""
        self.take(*claims)
        try:
            yield
        finally:
            self.give_back(*claims)

    def hold_until_closed(self, response: HttpResponseBase, *claims: Claim) -> None:
        """The slots until the response, a stream, has been sent or given up. Raises SlotsFull."""
        self.take(*claims)
        self.give_back_when_closed(response, *claims)

    def give_back_when_closed(self, response: HttpResponseBase, *claims: Claim) -> None:
        """What `take` took, once the response has been sent or given up."""
        closers: list[Callable[[], object]] = response._resource_closers  # type: ignore[attr-defined]
        closers.append(weakref.finalize(response, self.give_back, *claims))

    async def take_in_turn(self, *claims: Claim, seconds: float) -> None:
        """Like `take`, after waiting up to so many seconds for slots. Raises SlotsFull."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.take(*claims)
            except SlotsFull:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(_LOOK_EVERY_S)

    def held(self, holder: str) -> int:
        """How many the holder has now."""
        with self._lock:
            return self._held.get(holder, 0)
