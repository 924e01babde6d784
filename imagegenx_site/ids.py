"""Time-ordered ids (UUIDv7, RFC 9562 section 5.7) and the derived ids that live in the same day.

The first 48 bits are the Unix time in ms, so an id says on which day its row was made, and the daily partitions of
the task table are ranges of ids.
"""

import hashlib
import secrets
import time
from datetime import UTC, date, datetime
from uuid import UUID

_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)


def uuid7(ms: int | None = None) -> UUID:
    """A new id of the moment `ms` (Unix ms; now when None), with 74 random bits."""
    stamp = time.time_ns() // 1_000_000 if ms is None else ms
    random = secrets.randbits(74)  # at once: each call asks the kernel
    random_a, random_b = random >> 62, random & ((1 << 62) - 1)
    return UUID(int=(stamp << 80) | _VERSION_AND_VARIANT | (random_a << 64) | random_b)


def derived(parent: UUID, purpose: str) -> UUID:
    """The one id that belongs to `parent` for `purpose`: same ms, so same partition; a repeat meets the same primary
    key.
    """
    digest = hashlib.blake2b(purpose.encode(), key=parent.bytes, digest_size=8).digest()
    low = int.from_bytes(digest) & ((1 << 62) - 1)
    return UUID(int=(parent.int >> 62 << 62) | low)


def image_id(task_id: UUID, index: int) -> UUID:
    """The id of a task's picture number `index` (from 0)."""
    return UUID(int=task_id.int ^ (index + 1))


def family_of(parent: UUID) -> tuple[UUID, UUID]:
    """The smallest and the largest id that may be derived from `parent`: a query for its children that names both looks
    into one partition instead of all.
    """
    low = parent.int >> 62 << 62
    return UUID(int=low), UUID(int=low | ((1 << 62) - 1))


def first_id_of(moment: datetime | date) -> UUID:
    """The smallest id of that moment: rows of a day are first_id_of(day) <= id < first_id_of(next day). Moments before
    1970 have the smallest id of all.
    """
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def moment_of(identifier: UUID) -> datetime:
    """The time at which the id was made (ms precision, UTC)."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, tz=UTC)


def to_public(identifier: UUID, prefix: str = "img") -> str:
    """The form that clients see: `img` (tasks) or `bat` (batches) and 32 hexadecimal digits."""
    return f"{prefix}{identifier.hex}"


def from_public(text: str, prefix: str = "img") -> UUID | None:
    """The id behind a client's text, or None when it is not one of ours."""
    digits = text.removeprefix(prefix)
    if not text.startswith(prefix) or len(digits) != 32 or not digits.isascii() or not digits.isalnum():
        return None
    try:
        identifier = UUID(hex=digits)
    except ValueError:
        return None
    return identifier if identifier.version == 7 else None
