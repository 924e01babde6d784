"""What the server answers, as values. Fields that this version does not know stay in `raw`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
T = TypeVar("T")
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Output:
    """One picture. `url` needs no key and expires; `sha256` is of the file's bytes."""

    index: int
    url: str = ""
    thumbnail_url: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    bytes: int = 0
    sha256: str = ""
    seed: int = 0
    mark: str | None = None


@dataclass(frozen=True)
class Failure:
    """Why a task failed."""

    code: str
    message: str


@dataclass(frozen=True)
class Task:
    """One request for pictures."""

    task_id: str
    status: str
    kind: str = ""
    batch_id: str | None = None
    progress: int = 0
    position: int | None = None
    estimated_time: float | None = None
    outputs: tuple[Output, ...] = ()
    enlarging: bool = False
    input: Body = field(default_factory=dict)
    priority: int = 0
    warnings: tuple[str, ...] = ()
    error: Failure | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    raw: Body = field(default_factory=dict, repr=False)

    @property
    def ended(self) -> bool:
        """Whether its status is final."""
        return self.status in ENDED

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"

    @property
    def text(self) -> str:
        """The prompt."""
        return str(self.input.get("text") or "")


@dataclass(frozen=True)
class BatchTask:
    """One line of a batch."""

    task_id: str
    status: str
    text: str = ""
    progress: int = 0
    error: Failure | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class Batch:
    """Many texts of one request."""

    batch_id: str
    status: str
    size: int = 0
    progress: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    tasks: tuple[BatchTask, ...] = ()
    raw: Body = field(default_factory=dict, repr=False)

    @property
    def ended(self) -> bool:
        return all(task.ended for task in self.tasks)


@dataclass(frozen=True)
class Price:
    """What a request would cost."""

    valid: bool
    tasks: int = 0
    images: int = 0
    megapixel_steps: float = 0.0
    priority: int = 0
    input: Body = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A page of the history, newest first."""

    items: tuple[Task, ...]
    next_cursor: str | None = None
    kept_days: int = 0


@dataclass(frozen=True)
class Model:
    """A model that can be asked for."""

    name: str
    title: str = ""
    family: str = ""
    kinds: tuple[str, ...] = ()
    control_types: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    min_side: int = 0
    max_side: int = 0
    default_width: int = 0
    default_height: int = 0
    default_steps: int = 0
    max_steps: int = 0
    raw: Body = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Style:
    """A style that can be asked for."""

    name: str
    title: str = ""
    title_zh: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    child_safe: bool = False
    raw: Body = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Lora:
    """One version of a LoRA."""

    name: str
    version: int
    title: str = ""
    sha256: str = ""
    bytes: int = 0
    rank: int = 0
    base_family: str = ""
    triggers: tuple[str, ...] = ()
    state: str = ""
    uses: int = 0
    own: bool = False
    raw: Body = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Key:
    """An API key; `api_key` is its text, which only the answer to its making has."""

    prefix: str
    name: str = ""
    scopes: tuple[str, ...] = ()
    plan: str | None = None
    must_sign: bool = False
    created_at: str = ""
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None
    api_key: str | None = field(default=None, repr=False)
    raw: Body = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Usage:
    """What was used: one item a group, and their sums."""

    items: tuple[Body, ...]
    total: Body
    group_by: str = ""
    since: str = ""
    until: str = ""
    raw: Body = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Endpoint:
    """A webhook endpoint; `secret` is there when it was just made or rotated."""

    id: int
    url: str = ""
    events: tuple[str, ...] = ()
    enabled: bool = True
    disabled_reason: str = ""
    created_at: str = ""
    secret: str | None = field(default=None, repr=False)
    raw: Body = field(default_factory=dict, repr=False)


_INNER = {"outputs": Output, "error": Failure, "tasks": BatchTask}  # by the field's name; `tasks` also is a number
_LISTS = (list, tuple)


def read(kind: type[T], body: Body) -> T:
    """A body as a value of `kind`."""
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]  # every kind is a dataclass
    values = {name: _value(name, value) for name, value in body.items() if name in names}
    if "raw" in names:
        values["raw"] = body
    return kind(**values)


def read_items(kind: type[T], body: Body) -> tuple[T, ...]:
    """The `items` of a body."""
    return tuple(read(kind, item) for item in body["items"])


def _value(name: str, value: Any) -> Any:
    inner: Any = _INNER.get(name)
    if isinstance(value, _LISTS):
        return tuple(read(inner, item) if inner else item for item in value)
    return read(inner, value) if inner and isinstance(value, dict) else value
