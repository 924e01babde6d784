"""What clients do with tasks, in the order a task meets it: submit, look, cancel.

Views and commands parse and answer; the rules are here.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from redis.exceptions import RedisError

from generation import estimates, lifecycle, tickets
from generation.errors import Conflict, Fault, InvalidRequest, NotFound, Unprocessable
from generation.models import ApiKey, IdempotencyKey, Image, ImageModel, Plan, Task, User
from generation.parameters import Parameters
from generation.uuid7 import from_public, moment_of, uuid7

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """A request that has passed every check: what to make, on which model, how urgent, and whom to tell."""

    parameters: Parameters
    model: ImageModel
    text: str
    priority: int
    callback_url: str = ""
    queue_seconds: int = 300


@dataclass(frozen=True)
class Idempotency:
    """The client's key for one request on one route, and the fingerprint of the body it was sent with."""

    key: str
    route: str
    fingerprint: str

    @classmethod
    def of(cls, key: str, route: str, body: Mapping[str, Any]) -> "Idempotency":
        """The fingerprint is SHA-256 of the body in canonical JSON."""
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return cls(key, route, hashlib.sha256(canonical.encode()).hexdigest())


def submit_task(
    submission: Submission, *, user: User, api_key: ApiKey | None = None, idempotency: Idempotency | None = None
) -> tuple[Task, bool]:
    """Make the row, then, once it is committed, its buffer entry and ticket. Answers the task and whether it is new.

    A repeat with the same idempotency key answers the first one's task.
    Raises Unprocessable when the key was used for another body, Conflict while the first is under way.
    """
    task = _new_row(submission, user, api_key)
    try:
        with transaction.atomic():
            if idempotency and api_key:
                fields = {"key": idempotency.key, "route": idempotency.route, "fingerprint": idempotency.fingerprint}
                IdempotencyKey.objects.create(api_key=api_key, task_id=task.id, **fields)
            task.save(force_insert=True)
            transaction.on_commit(lambda: enqueue(task))
    except IntegrityError:
        if idempotency and api_key:
            return _replayed(idempotency, api_key), False
        raise
    return task, True


def _new_row(submission: Submission, user: User, api_key: ApiKey | None) -> Task:
    parameters, model = submission.parameters, submission.model
    task_id = uuid7()
    created = moment_of(task_id)
    return Task(
        id=task_id,
        user=user,
        api_key=api_key,
        kind=parameters.kind,
        priority=submission.priority,
        model=model,
        model_key=model.key,
        style=parameters.style,
        text=submission.text,
        params=parameters.to_json(),
        width=parameters.width,
        height=parameters.height,
        batch_key=parameters.batch_key(model.key),
        cost=parameters.cost,
        callback_url=submission.callback_url,
        history=[{"at": created.isoformat(timespec="milliseconds"), "to": "queued"}],
        created_at=created,
        expires_at=created + timedelta(seconds=submission.queue_seconds),
    )


def _replayed(idempotency: Idempotency, api_key: ApiKey) -> Task:
    """The task that the first request with this key made."""
    first = IdempotencyKey.objects.filter(api_key=api_key, route=idempotency.route, key=idempotency.key).first()
    task = Task.objects.filter(pk=first.task_id).first() if first else None
    if first is None or task is None:
        raise Conflict(
            "The first request with this Idempotency-Key is still under way. Try again in a second.", retry_after=1
        )
    if first.fingerprint != idempotency.fingerprint:
        raise Unprocessable("This Idempotency-Key was used for another request body. Use a new key for a new request.")
    return task


def enqueue(task: Task) -> None:
    """Make a committed, queued row known to the workers; also what the reconciler does for rows that Redis forgot."""
    tickets.enqueue(
        task.id,
        priority=task.priority,
        batch_key=task.batch_key,
        user_id=task.user_id,
        weight=task.cost * 1e6,
        created_ms=int(task.created_at.timestamp() * 1000),
        expires_ms=int(task.expires_at.timestamp() * 1000),
        model=task.model_key,
        samples=int(task.params.get("num_images", 1)),
    )


def find_task(public_id: str, user: User) -> Task:
    """The caller's task, or a team-mate's. Raises NotFound for any other id: the answer doesn't tell whether it exists."""
    task_id = from_public(public_id)
    task = Task.objects.select_related("user").filter(pk=task_id).first() if task_id else None
    if task is None or not may_see(task, user):
        raise NotFound(
            f"There is no task {public_id[:60]} of yours. Task ids look like img0198… and have 35 characters."
        )
    return task


def may_see(task: Task, user: User) -> bool:
    """Owners and their team-mates see a task."""
    same_team = user.team_id is not None and task.user.team_id == user.team_id
    return task.user_id == user.pk or same_team


def images_of(task_ids: Sequence[UUID]) -> dict[UUID, list[Image]]:
    """The pictures of tasks, by task, in order."""
    found: dict[UUID, list[Image]] = {task_id: [] for task_id in task_ids}
    for image in Image.objects.filter(task_id__in=task_ids).order_by("task_id", "index"):
        found[image.task_id].append(image)
    return found


def estimated_time(task: Task) -> float:
    """Seconds until the task will probably end."""
    return estimates.seconds_left(task)


def cancel_task(task: Task) -> Task:
    """Ask for the end of a task: a waiting one ends at once, a running one at its next step, an ended one stays as it is."""
    lifecycle.request_cancel(task.id)
    try:
        tickets.cancel(task.id)
    except RedisError as error:
        _log.warning("cancel of %s stays with the reconciler: %s", task.id, error)
    task.refresh_from_db()
    return task


def plan_of(api_key: ApiKey) -> Plan:
    """The plan that binds a key. Raises InvalidRequest when an operator has bound neither the key nor its team to one."""
    plan = api_key.effective_plan
    if plan is None:
        raise InvalidRequest(
            [Fault("key", "no_plan", "This key has no plan. Ask the operator to bind it or its team to one.")]
        )
    return plan
