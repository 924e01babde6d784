"""Compares the stored objects with the rows of the database, day by day."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from storage import keys
from storage.errors import BadKey
from storage.store import Store


@dataclass(frozen=True)
class DayRows:
    """The rows of one day's tasks. `originals`, `thumbnails`, `inputs` (sent by customers): object keys; `tasks`: ids
    as text.
    """

    tasks: frozenset[str]
    originals: frozenset[str]
    thumbnails: frozenset[str]
    inputs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Finding:
    """`kind`: "missing" (a row without its object), "orphan" (an object whose task has no row), "replaced" (an object
    of an image that has a newer version) or "foreign" (not in the key scheme). `size`: bytes, 0 for missing objects.
    """

    kind: str
    key: str
    size: int = 0


def compare_day(store: Store, day: datetime, rows: DayRows) -> Iterator[Finding]:
    """All differences of one day. Memory: the day's keys. Objects that a running task has just written may be reported
    as replaced or orphaned.
    """
    present: set[str] = set()
    current = rows.originals | rows.thumbnails | {keys.variant_key(key, "medium") for key in rows.originals}
    for prefix in keys.day_prefixes(day):
        for found in store.list(prefix):
            key = found.key.removeprefix(keys.ARCHIVE)
            present.add(key)
            try:
                parts = keys.parse(found.key)
            except BadKey:
                yield Finding("foreign", found.key, found.size)
                continue
            if str(parts.task_id) not in rows.tasks:
                yield Finding("orphan", found.key, found.size)
            elif parts.kind != "inputs" and key not in current:
                yield Finding("replaced", found.key, found.size)
    for key in sorted((rows.originals | rows.thumbnails | rows.inputs) - present):
        if not store.exists(key):  # it may be in the spool, or just written
            yield Finding("missing", key)
