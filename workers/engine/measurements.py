"""What was measured on this machine, in a JSON file that workers may share."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

logger = logging.getLogger(__name__)
V = TypeVar("V")


class Measurements(Generic[V]):
    """Values by key; without a path only of this process. `parse` reads one from JSON, `what` they are, for log lines.
    A file that cannot be read or written costs a log line and another measurement.
    """

    def __init__(self, path: Path | None, parse: Callable[[Any], V], what: str) -> None:
        self._path, self._parse, self._what = path, parse, what
        self._values = self._read()

    def get(self, key: str) -> V | None:
        """What was measured, by this process or before it began."""
        return self._values.get(key)

    def put(self, key: str, value: V) -> None:
        """Keep a value, beside what others have written meanwhile."""
        self._values = {**(self._values if self._path is None else self._read()), key: value}
        if self._path is None:
            return
        partial = self._path.with_suffix(f".{uuid.uuid4().hex}.partial")  # in containers every process id is 1
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self._values, indent=1, sort_keys=True))
            partial.replace(self._path)
        except OSError as error:
            logger.warning("the %s of %s are measured again at the next start: %s", self._what, key, error)

    def _read(self) -> dict[str, V]:
        try:
            text = self._path.read_text() if self._path is not None else "{}"
            return {str(key): self._parse(value) for key, value in json.loads(text).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, KeyError):
            logger.warning("%s is not readable; %s are measured anew", self._path, self._what)
            return {}
