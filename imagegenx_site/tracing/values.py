"""A span of a task, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class TaskSpan:
    """`began`, `ended`: Unix seconds. `parent`: a span id; 0: the task's root. `span_id`: 0: a new one. `error`: what
    went wrong, "" for nothing. `kind`: internal, server or client. `links`: traceparent headers.
    """

    task_id: UUID
    name: str
    began: float
    ended: float
    attributes: Attributes = field(default_factory=dict)
    error: str = ""
    parent: int = 0
    span_id: int = 0
    kind: str = "internal"
    links: tuple[str, ...] = ()


def root_of(task_id: UUID) -> int:
    """The span id of a task's root."""
    return task_id.int & (2**64 - 1)
