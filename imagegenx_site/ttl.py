"""What a process remembers for a moment, so that it need not ask a server each time. Safe for threads."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class TtlValue(Generic[Value]):
    """A value that is loaded anew when it is `seconds` old. One thread loads while the others wait for it."""

    def __init__(self, load: Callable[[], Value], seconds: float) -> None:
        self.seconds = seconds
        self._load = load
        self._lock = threading.Lock()
        self._held: tuple[float, Value] | None = None  # when loaded (monotonic s), value

    def get(self) -> Value:
        """The value, `seconds` old at most."""
        with self._lock:
            if self._held is None or time.monotonic() - self._held[0] >= self.seconds:
                value = self._load()
                self._held = (time.monotonic(), value)
            return self._held[1]

    def adjust(self, change: Callable[[Value], Value]) -> None:
        """Count in what this process itself has changed since the value was loaded. Its age stays."""
        with self._lock:
            if self._held is not None:
                self._held = (self._held[0], change(self._held[1]))

    def drop(self) -> None:
        """The next `get` loads."""
        with self._lock:
            self._held = None


class TtlMap(Generic[Key, Value]):
    """Values by key, `max_entries` at most. Threads load side by side.

    Race: a load that began before `drop` may have read what is no longer true. Drops are counted, and what was loaded
    during one is given to its caller and not kept.
    """

    def __init__(self, load: Callable[[Key], Value], max_entries: int) -> None:
        self._load, self._max_entries = load, max_entries
        self._lock = threading.Lock()
        self._held: dict[Key, tuple[float, Value]] = {}
        self._drops = 0

    def get(self, key: Key, seconds: float) -> Value:
        """The value of `key`, less than `seconds` old."""
        now, drops = time.monotonic(), self._drops
        held = self._held.get(key)
        if held is not None and now - held[0] < seconds:
            return held[1]
        value = self._load(key)
        with self._lock:
            if len(self._held) >= self._max_entries:
                self._held.clear()
            if drops == self._drops:
                self._held[key] = (now, value)
        return value

    def drop(self) -> None:
        """The next `get` of each key loads."""
        with self._lock:
            self._drops += 1
            self._held.clear()
