"""Submission: from checked requests to rows, and their tickets once the rows are committed."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from generation.accounts.models import ApiKey, Plan, User
from generation.accounts.plans import plan_of
from generation.admission import quotas, surge
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import Parameters
from generation.catalogue.request_warnings import submission_warnings
from generation.policy import rules
from generation.queue import client as queue_client
from generation.tasks import estimates, move_log, open_tasks, stages, states
from generation.tasks.enqueue import entry_of
from generation.tasks.idempotency import Idempotency
from generation.tasks.inputs import InputPicture
from generation.tasks.models import Batch, Task
from imagegenx_site.errors import Allowance, Busy
from imagegenx_site.ids import moment_of, uuid7
from imagegenx_site.row_statements import insert
from storage.errors import StorageError
from storage.keys import input_key
from storage.store import get_store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """A request that has passed every check: what to make, on which model (None: a picture is only processed), how
    urgent, and which address to call. `warnings`: what of it does not count.
    """

    parameters: Parameters
    model: ImageModel | None
    text: str
    priority: int
    callback_url: str = ""
    queue_seconds: int = 300
    inputs: tuple[InputPicture, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submitted:
    """What a request made: its tasks, their batch, whether they are new, what is left of the plan's quotas, and the
    first task's place in the queue and probable end (None: not known here).
    """

    tasks: tuple[Task, ...]
    batch: Batch | None = None
    new: bool = True
    allowances: tuple[Allowance, ...] = ()
    outlook: estimates.Outlook | None = None


def submit(
    submissions: Sequence[Submission],
    *,
    user: User,
    api_key: ApiKey | None = None,
    idempotency: Idempotency | None = None,
    batch_size: int | None = None,
) -> Submitted:
    """Write the rows of a request, then, once they are committed, enqueue them.

    1 a repeat with the same idempotency key answers what the first one made; 2 in a surge free plans are turned away,
    3 the plan's quotas are counted, 4 input pictures stored, 5 all rows written in one transaction. When 4 or 5 fails,
    3 is taken back. With a `batch_size` (0: no limit) they are a batch.
    Raises Unprocessable when the key was used for another body, Conflict while the first is under way,
    TooManyRequests, Busy in a surge and when the store does not take the pictures.
    """
    if idempotency and (first := idempotency.first()):
        return Submitted(*first, new=False)
    batch = Batch(user=user, size=len(submissions), batch_size=batch_size) if batch_size is not None else None
    ids = sorted(uuid7() for _ in submissions)  # in the order of a batch's texts also within one ms
    tasks = [_new_row(*one, user, api_key, batch) for one in zip(ids, submissions, strict=True)]
    admission = _admit(submissions, tasks, user, api_key)
    try:
        _store_inputs(submissions, tasks)
        places = _write(tasks, batch, idempotency)
    except BaseException as error:
        quotas.give_back(admission)
        if isinstance(error, IntegrityError) and idempotency and (first := idempotency.first()):
            return Submitted(*first, new=False)
        raise
    outlook = estimates.outlook_from(tasks[0], places[0] if places else None)
    return Submitted(tuple(tasks), batch, allowances=admission.allowances, outlook=outlook)


def surge_control(plan: Plan, model: ImageModel | None = None) -> surge.SurgeControl:
    """What the present backlog means for a request under this plan."""
    waiting_s = 0.0 if plan.paid else estimates.seconds_waiting()
    config = surge.SurgeConfig(settings.SURGE_LOWER_S, settings.SURGE_REFUSE_S, settings.SURGE_SIDE)
    return surge.SurgeControl(waiting_s, paid=plan.paid, least_side=model.min_side if model else 0, config=config)


def _admit(
    submissions: Sequence[Submission], tasks: Sequence[Task], user: User, api_key: ApiKey | None
) -> quotas.Admission:
    """Count the tasks for the plan. Raises Busy in a surge, TooManyRequests above a quota."""
    if api_key is None:  # our own work: commands, the admin's repeat, tests
        return quotas.Admission()
    plan = plan_of(api_key)
    retry_after = surge_control(plan).retry_after
    if retry_after:
        message = "More work waits than can be done soon. Try again later, or use a paid plan."
        raise Busy(message, retry_after=retry_after)
    return quotas.admit(
        user,
        plan,
        [task.id for task in tasks],
        images=sum(one.parameters.num_images for one in submissions),
        megapixel_steps=sum(task.cost for task in tasks),
        look_up=open_tasks.look_up,
    )


def _store_inputs(submissions: Sequence[Submission], tasks: Sequence[Task]) -> None:
    """Put the pictures into the store and their keys into the rows."""
    for submission, task in zip(submissions, tasks, strict=True):
        for picture in submission.inputs:
            sha256 = hashlib.sha256(picture.data).hexdigest()
            key = input_key(task.id, picture.role, sha256, "image/png")
            try:
                get_store("images").put(key, picture.data, "image/png")
            except StorageError as error:
                _log.error("input picture not stored", extra={"task_id": str(task.id), "error": str(error)})
                raise Busy("The picture could not be stored. Try again in a moment.", retry_after=5) from error
            stored: dict[str, Any] = {f"{picture.role}_key": key}
            task.parameters = replace(task.parameters, **stored)


def _write(
    tasks: Sequence[Task], batch: Batch | None, idempotency: Idempotency | None
) -> list[queue_client.QueuePosition]:
    """The rows in one transaction, then their tickets. A single row needs no more than its own INSERT. Answers the
    places in the buffer; none when Redis is away, or when the caller's transaction is still open.
    """
    places: list[queue_client.QueuePosition] = []
    if batch or idempotency:
        with transaction.atomic():
            if idempotency:
                idempotency.save(batch.id if batch else tasks[0].id)
            if batch:
                batch.save(force_insert=True)
            insert(tasks)
    else:
        insert(tasks)
    to_engine = [task for task in tasks if task.model_id is not None]
    if to_engine:
        transaction.on_commit(lambda: places.extend(queue_client.enqueue(list(map(entry_of, to_engine))) or ()))
    for task in tasks:
        if task.model_id is None:
            transaction.on_commit(lambda task=task: stages.send_stages(task.id, task.priority))  # type: ignore[misc]
    transaction.on_commit(lambda: move_log.submitted(list(tasks)))
    return places


def _new_row(task_id: UUID, submission: Submission, user: User, api_key: ApiKey | None, batch: Batch | None) -> Task:
    parameters, model = _for_plan(submission.parameters, api_key), submission.model
    created = moment_of(task_id)
    task = Task(
        id=task_id,
        user=user,
        api_key=api_key,
        batch=batch,
        kind=parameters.kind,
        priority=submission.priority,
        model=model,
        model_key=model.key if model else "",
        style=parameters.style,
        text=submission.text,
        width=parameters.width,
        height=parameters.height,
        batch_key=str(parameters.batch_key(model.key)) if model else "",
        cost=parameters.cost,
        callback_url=submission.callback_url,
        warnings=[
            *submission.warnings,
            *submission_warnings(parameters, model),
            *(one.warning for one in submission.inputs if one.warning),
        ],
        created_at=created,
        expires_at=created + timedelta(seconds=submission.queue_seconds),
    )
    task.parameters = parameters
    states.first_state(task)
    return task


def _for_plan(parameters: Parameters, api_key: ApiKey | None) -> Parameters:
    """With what plan, policy and operator want of every picture: added here, so that no endpoint can leave it out.

    Previews bring what the engine draws, without a mark and unseen by the checker: such pictures have none. Work
    without a key keeps the mark that it came with.
    """
    block = dict(parameters.postprocess)
    if settings.C2PA_ALWAYS and block.get("provenance") is None and block.get("metadata") != "none":
        block["provenance"] = True
    mark = (plan_of(api_key).watermark if api_key else parameters.plan_watermark) or {}
    preview = parameters.preview and not mark and not rules.is_checked(parameters.check_images)
    return replace(parameters, postprocess=block, plan_watermark=mark, preview=preview)
