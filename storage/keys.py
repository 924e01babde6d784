"""The object key scheme: all keys of all stores are built here.

Store "raw" (lossless pictures between the GPU and post-processing, deleted once the upload is verified):

    raw/{task_id}/{index}-{attempt}.png
    results/{identity}-{hash}.png      kept for identical requests (tasks/results.py); identity: 64 hex digits

Store "images" (the results; a key is never rewritten with other bytes):

    images/{yyyy}/{mm}/{dd}/{task_id}/{index}-{hash}.{ext}   the original; hash: first 16 hex digits of its SHA-256
    thumbs/{yyyy}/{mm}/{dd}/{task_id}/{index}-{hash}.webp    variant of 256 pixels
    medium/{yyyy}/{mm}/{dd}/{task_id}/{index}-{hash}.webp    variant of 512 pixels, made on first request
    inputs/{yyyy}/{mm}/{dd}/{task_id}/{role}-{hash}.{ext}    sent by the customer; role: image, mask, control
    archive/{key of an original}                   originals that were not opened for long

The day is the task's day of creation, read from its UUIDv7, so that the objects of a day can be listed and dropped with
the day's partition. A variant carries the hash of its original, not its own: its key is derived from the original's
key, and a replaced original (enlarged afterwards) gets new variants.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from storage.errors import BadKey

EXTENSIONS = {"image/webp": "webp", "image/avif": "avif", "image/png": "png", "image/jpeg": "jpg"}
CONTENT_TYPES = {extension: content_type for content_type, extension in EXTENSIONS.items()}
VARIANT_SIDES = {"thumbs": 256, "medium": 512}
ARCHIVE = "archive/"
RESULTS = "results/"
_HASH_DIGITS = 16
_DATED = re.compile(
    r"(?P<kind>images|thumbs|medium|inputs)/(?P<day>\d{4}/\d\d/\d\d)/(?P<task>[0-9a-f-]{36})/"
    r"(?P<part>[a-z0-9]{1,16})-(?P<hash>[0-9a-f]{16})\.(?P<ext>[a-z]{3,4})"
)
_RAW = re.compile(r"raw/(?P<task>[0-9a-f-]{36})/(?P<part>\d{1,4})-(?P<attempt>\d{1,4})\.png")
_RESULT = re.compile(r"results/[0-9a-f]{64}-[0-9a-f]{16}\.png")


@dataclass(frozen=True)
class KeyParts:
    """Parts of a dated key. `part`: the image's index, or the role of an input."""

    kind: str
    task_id: UUID
    part: str
    extension: str
    archived: bool


def raw_key(task_id: UUID, index: int, attempt: int) -> str:
    return f"raw/{task_id}/{index}-{attempt}.png"


def raw_prefix(task_id: UUID) -> str:
    return f"raw/{task_id}/"


def result_key(identity: str, sha256: str) -> str:
    return f"{RESULTS}{identity}-{sha256[:_HASH_DIGITS]}.png"


def image_key(task_id: UUID, index: int, sha256: str, content_type: str) -> str:
    return f"images/{_day(task_id)}/{task_id}/{index}-{sha256[:_HASH_DIGITS]}.{EXTENSIONS[content_type]}"


def input_key(task_id: UUID, role: str, sha256: str, content_type: str) -> str:
    return f"inputs/{_day(task_id)}/{task_id}/{role}-{sha256[:_HASH_DIGITS]}.{EXTENSIONS[content_type]}"


def variant_key(original: str, variant: str) -> str:
    """The key of a variant ("thumbs" or "medium") of the original under `original`, archived or not."""
    found = _DATED.fullmatch(original.removeprefix(ARCHIVE))
    if found is None or found["kind"] != "images" or variant not in VARIANT_SIDES:
        raise BadKey(f"{original!r} is not the key of an original, or {variant!r} is not a variant.")
    return f"{variant}/{found['day']}/{found['task']}/{found['part']}-{found['hash']}.webp"


def is_original(key: str) -> bool:
    """Whether it is the key of an original outside the archive."""
    return key.startswith("images/")


def created_at(key: str) -> float:
    """When the task of a dated key was created (POSIX seconds). Raises BadKey for other keys."""
    return (parse(key).task_id.int >> 80) / 1000


def archive_key(original: str) -> str:
    return ARCHIVE + original


def day_prefixes(day: datetime) -> list[str]:
    """The prefixes of all objects of one day."""
    kinds = ("images", "thumbs", "medium", "inputs")
    return [
        f"{prefix}{kind}/{day:%Y/%m/%d}/"
        for prefix in ("", ARCHIVE)
        for kind in kinds
        if not prefix or kind == "images"
    ]


def task_prefixes(task_id: UUID) -> list[str]:
    """The prefixes of all objects of one task: originals (also archived ones), variants, inputs."""
    day = datetime.fromtimestamp((task_id.int >> 80) / 1000, UTC)
    return [f"{prefix}{task_id}/" for prefix in day_prefixes(day)]


def check(key: str) -> str:
    """Return the key if it is in the scheme above, so that no path traversal reaches a store. Raises BadKey."""
    if _RAW.fullmatch(key) or _RESULT.fullmatch(key) or _DATED.fullmatch(key.removeprefix(ARCHIVE)):
        return key
    raise BadKey(f"{key!r} is not an object key.")


def parse(key: str) -> KeyParts:
    """Raises BadKey for keys that are not dated."""
    found = _DATED.fullmatch(key.removeprefix(ARCHIVE))
    if found is None:
        raise BadKey(f"{key!r} is not a dated object key.")
    return KeyParts(found["kind"], UUID(found["task"]), found["part"], found["ext"], key.startswith(ARCHIVE))


def content_type(key: str) -> str:
    return CONTENT_TYPES.get(key.rpartition(".")[2], "application/octet-stream")


def _day(task_id: UUID) -> str:
    if task_id.version != 7:
        raise BadKey(f"{task_id} is not a UUIDv7; its day of creation is unknown.")
    return f"{datetime.fromtimestamp((task_id.int >> 80) / 1000, UTC):%Y/%m/%d}"
