"""An ended task made again, as a new task: by a client, for whom plan and policy hold as for any request, or by an
operator.
"""

from dataclasses import replace
from typing import Final

from generation.accounts import plans
from generation.accounts.models import ApiKey, Plan, User
from generation.admission import priority
from generation.catalogue import snapshot
from generation.catalogue.kinds import ROLES
from generation.catalogue.parameters import Parameters
from generation.policy import rules, subjects
from generation.tasks.idempotency import Idempotency
from generation.tasks.inputs import InputPicture
from generation.tasks.models import Task
from generation.tasks.submit import Submission, Submitted, submit
from imagegenx_site.errors import Conflict, Fault, Forbidden, InvalidRequest
from storage.errors import StorageError
from storage.store import get_store

_OPEN: Final = "The task has not ended. Cancel it first, or wait."


def retry_task(task: Task, *, user: User, api_key: ApiKey, idempotency: Idempotency | None = None) -> Submitted:
    """A new task of the caller with the parameters of an ended one, on the model's present revision, counted like any
    other.

    What the caller's plan and policy do not allow is refused, whoever made the first task. Raises Conflict while the
    task is open or when what it needs is gone, Forbidden, InvalidRequest, TooManyRequests and Unprocessable.
    """
    if not task.terminal:
        raise Conflict(_OPEN, retry_after=1)
    parameters, plan = task.parameters, plans.plan_of(api_key)
    parameters = replace(parameters, check_images=parameters.check_images or rules.must_check(api_key))
    _check_plan(task, plan)
    _check_model(task, plan, user)
    _check_policy(task, parameters, api_key)
    submission = _again(task, parameters, priority.lowered(plan, task.priority), plan.queue_seconds)
    return submit([submission], user=user, api_key=api_key, idempotency=idempotency)


def repeat_for_owner(task: Task) -> Task:
    """The same by an operator: a new task of the same user, outside the plan's quotas, with the mark of the key's plan,
    or the one that the first task had. Raises Conflict.
    """
    if not task.terminal:
        raise Conflict(_OPEN, retry_after=1)
    plan = task.api_key.effective_plan if task.api_key else None
    mark = (plan.watermark if plan else None) or task.parameters.plan_watermark
    waited = int((task.expires_at - task.created_at).total_seconds())
    submission = _again(task, replace(task.parameters, plan_watermark=mark), task.priority, max(1, waited))
    return submit([submission], user=task.user).tasks[0]


def _check_model(task: Task, plan: Plan, user: User) -> None:
    """Raises Forbidden for a model that is kept for others."""
    known = snapshot.current()
    if task.model is None:
        return
    if task.model in known.models and task.model not in known.usable_by(plan, user.team_id).models:
        raise Forbidden(f"Your plan does not include the model {task.model.name}.")


def _again(task: Task, parameters: Parameters, new_priority: int, queue_seconds: int) -> Submission:
    if task.deleted_at is not None or (task.model and not task.model.enabled):
        raise Conflict("The task can't be made again: its text or its model is gone.")
    return Submission(
        replace(parameters, cache=False),  # a repeat asks for new pictures
        task.model,
        task.text,
        new_priority,
        callback_url=task.callback_url,
        queue_seconds=queue_seconds,
        inputs=_inputs(parameters),
    )


def _inputs(parameters: Parameters) -> tuple[InputPicture, ...]:
    """The pictures of the first task: the new one gets copies, so that deleting the first takes nothing from it."""
    found = []
    for role in ROLES:
        key = getattr(parameters, f"{role}_key")
        if not key:
            continue
        try:
            found.append(InputPicture(role, get_store("images").read(key)))
        except StorageError as error:
            raise Conflict("A picture that the task was made from is no longer stored. Send it again.") from error
    return tuple(found)


def _check_plan(task: Task, plan: Plan) -> None:
    parameters = task.parameters
    upscale = task.recipe.upscale
    sides = (parameters.width, parameters.height)
    found = plans.faults(
        plan,
        kind=parameters.kind,
        sides=sides if task.model else None,
        finished=None if task.model else plans.enlarged(sides, upscale.scale if upscale else 1),
        images=parameters.num_images,
        upscale=upscale is not None,
    )
    if found:
        raise Forbidden(" ".join(fault.message for fault in found))


def _check_policy(task: Task, parameters: Parameters, api_key: ApiKey) -> None:
    style = snapshot.current().style(parameters.style) if parameters.style else None
    found = rules.faults(api_key, subjects.of_task(parameters, task.text, style, task.model, task.kind))
    if found:
        raise InvalidRequest(list(dict.fromkeys(Fault("text", fault.code, fault.message) for fault in found)))
