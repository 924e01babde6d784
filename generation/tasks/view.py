"""A task as polls see it, answered from the cache: access, ETag, body with signed URLs.

Bodies are kept with links that begin with "/" and get the caller's address when they are given out. The estimated time
of an open task is what it was when the body was made, less the time since.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections

from generation.accounts.models import User
from generation.tasks import access, enlargement, estimates
from generation.tasks.models import Image, Status, Task
from generation.tasks.presentation import task_body
from imagegenx_site import caches
from imagegenx_site.ids import from_public, to_public

_OPEN_SECONDS: Final = 10.0
_LINKS: Final = ("query_url", "temp_url")
_OUTPUT_LINKS: Final = ("url", "thumbnail_url")


@dataclass(frozen=True)
class TaskSnapshot:
    """What a poll answers. `ended`: it will not change any more, but for its URLs. `user_id`: whose it is."""

    task_id: UUID
    user_id: int
    body: dict[str, Any]
    etag: str
    ended: bool


def view_for(public_id: str, user: User, *, base_url: str) -> TaskSnapshot:
    """The caller's task, or a team-mate's. Raises NotFound for any other id, known or not."""
    task_id = from_public(public_id)
    found = _found(task_id) if task_id else None
    if task_id is None or found is None or (found["user"] != user.pk and not access.is_team_mate(found["user"], user)):
        raise access.no_task(public_id)
    return _view(task_id, found, base_url)


def view_of(task_id: UUID, base_url: str) -> TaskSnapshot:
    """A task for somebody who is known to have access to it. Raises NotFound when it was deleted meanwhile."""
    close_old_connections()  # a stream lives longer than a connection that a restart of Postgres breaks
    found = _found(task_id)
    if found is None:
        raise access.no_task(to_public(task_id))
    return _view(task_id, found, base_url)


def _found(task_id: UUID) -> dict[str, Any] | None:
    kept = caches.tasks().get(str(task_id), lambda: _load(task_id), _lifetime)
    return None if kept is None else json.loads(kept)


def _view(task_id: UUID, found: dict[str, Any], base_url: str) -> TaskSnapshot:
    body = _with_links(found["body"], base_url, time.time() - found["made"])
    return TaskSnapshot(task_id, found["user"], body, found["etag"], found["ended"])


def _load(task_id: UUID) -> bytes | None:
    task = Task.objects.filter(pk=task_id, deleted_at=None).first()
    if task is None:
        return None
    images = access.images_of([task.id])[task.id] if task.status == Status.SUCCEEDED else []
    body = task_body(task, images, base_url="", outlook=estimates.outlook(task))
    facts = {"user": task.user_id, "made": time.time(), "ended": task.terminal, "etag": _etag(task, images)}
    return json.dumps({**facts, "body": body}).encode()


def _lifetime(kept: bytes) -> float:
    """An ended task's URLs must have most of their life before them when they are given out."""
    return settings.URL_SECONDS / 4 if json.loads(kept)["ended"] else _OPEN_SECONDS


def _with_links(body: dict[str, Any], base_url: str, age: float) -> dict[str, Any]:
    """The body with full links, for a caller who asks `age` s after it was made."""
    for name in _LINKS:
        body[name] = _full(body[name], base_url)
    for output in body["outputs"]:
        output.update({name: _full(output[name], base_url) for name in _OUTPUT_LINKS})
    if body["estimated_time"]:
        body["estimated_time"] = max(0.0, round(body["estimated_time"] - age, 2))
    return body


def _full(link: str | None, base_url: str) -> str | None:
    return base_url + link if link and link.startswith("/") else link


def _etag(task: Task, images: list[Image]) -> str:
    """Changes with the task's state and pictures, and before the signed addresses in the answer run out."""
    period = int(time.time() // (settings.URL_SECONDS / 2)) if images else 0
    pictures = hashlib.sha256("".join(image.key + image.mark for image in images).encode()).hexdigest()[:8]
    enlarging = int(enlargement.is_due(task, images))
    state = f"{task.status}-{int(task.waits)}"
    return f'W/"{state}-{task.progress}-{task.attempt}-{task.priority}-{pictures}-{enlarging}-{period}"'
