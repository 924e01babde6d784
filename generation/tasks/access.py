"""Who may see a task: its owner and the team."""

from collections.abc import Sequence
from uuid import UUID

from generation.accounts.models import User
from generation.tasks.models import Batch, Image, Task
from imagegenx_site.errors import NotFound
from imagegenx_site.ids import from_public


def find_task(public_id: str, user: User) -> Task:
    """The caller's task, or a team-mate's. Raises NotFound for any other id: the answer doesn't tell whether it
    exists.
    """
    task_id = from_public(public_id)
    rows = Task.objects.select_related("user").filter(deleted_at=None)
    task = rows.filter(pk=task_id).first() if task_id else None
    if task is None or not may_see(task, user):
        raise no_task(public_id)
    return task


def no_task(public_id: str) -> NotFound:
    """The error for an id that is unknown, or belongs to another user."""
    return NotFound(f"There is no task {public_id[:60]} of yours. Task ids look like img0198… and have 35 characters.")


def is_team_mate(owner_id: int, user: User) -> bool:
    """Whether the owner of a task belongs to the caller's team."""
    return user.team_id is not None and User.objects.filter(pk=owner_id, team_id=user.team_id).exists()


def may_see(task: Task | Batch, user: User) -> bool:
    """Owners and their team-mates see a task or a batch."""
    same_team = user.team_id is not None and task.user.team_id == user.team_id
    return task.user_id == user.pk or same_team


def images_of(task_ids: Sequence[UUID]) -> dict[UUID, list[Image]]:
    """The pictures of tasks, by task, in order."""
    found: dict[UUID, list[Image]] = {task_id: [] for task_id in task_ids}
    for image in Image.objects.filter(task_id__in=task_ids).order_by("task_id", "index"):
        found[image.task_id].append(image)
    return found
