"""From one stage to the next in the same process. A message starts a visit: its stage, and those that
generation/tasks/stages.py says follow at once. Each has its lease, its tries and its failures, as if it had come by a
message of its own; the lease is taken by the statement that makes the move before it.
"""

from collections.abc import Callable
from importlib import import_module

from django.conf import settings

from generation.tasks import stages, states
from generation.tasks.models import Task
from generation.tasks.stages import Stage
from workers.stages import lease


def leave(stage: Stage, task: Task, mark: Callable[..., bool]) -> None:
    """The move that ends a stage: with the lease of the next one, if that follows at once and no cancel was asked for;
    else by `mark`. `task` says afterwards whether it has moved (`status`) and is still held (`stage_owner`).
    """
    if stages.follows_at_once(stage) and states.pass_on(task.id, stage, task.stage_owner, settings.STAGE_SECONDS):
        task.status, task.stage_attempts = stage.target, 1
    elif mark(task.id, owner=task.stage_owner):
        task.status, task.stage_owner = stage.target, ""


def go_on(stage: Stage, task: Task, *, chained: bool = True) -> None:
    """What comes after `stage` for a task that has left it: the next stage here and now, or its message, unless the
    task is `chained`: the message that it came with brings the next one.
    """
    if task.status != stage.target:
        return
    following = stages.follows_at_once(stage)
    if following is None:
        if not chained:
            stages.send_stages(task.id, task.priority, stage.target)
        return
    held = task if task.stage_owner else lease.take(following, str(task.id))
    if held is not None:
        import_module(f"workers.stages.{following.name}").work(held)
