"""Who may see a task: its owner and the team."""

from collections.abc import Collection, Sequence
from uuid import UUID

from generation.accounts import rights
from generation.accounts.models import User
from generation.tasks.models import Batch, Board, Image, Task
from imagegenx_site.errors import Forbidden, NotFound
from imagegenx_site.ids import from_public, image_id, to_public


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
    team = User.objects.filter(pk=owner_id).values_list("team_id", flat=True).first()
    return rights.is_team_mate(team, user)


def may_see(task: Task | Batch | Board, user: User) -> bool:
    """Owners and their team-mates see a task, a batch or a shared board."""
    return rights.may_see(task.user, user)


def find_images(references: Collection[tuple[UUID, int]], user: User, *, change: bool) -> list[Image]:
    """The pictures of these tasks and numbers, in the order given, each with its task. Raises NotFound for the first
    that is not the caller's or a team-mate's, Forbidden for one that the caller may see and not change.
    """
    wanted = {image_id(task_id, index): (task_id, index) for task_id, index in references}
    rows = Image.objects.select_related("task__user").filter(pk__in=wanted, task__deleted_at=None)
    named = (image for image in rows if wanted[image.pk] == (image.task_id, image.index))  # ids are derived, not proof
    found = {image.pk: image for image in named if may_see(image.task, user)}
    for identifier, (task_id, index) in wanted.items():
        if identifier not in found:
            raise NotFound(f"There is no picture {index} of a task {to_public(task_id)} of yours.")
        if change and not rights.may_change(found[identifier].task.user, user):
            raise Forbidden("Your role in the team lets you see this picture, not change it.")
    return [found[identifier] for identifier in wanted]


def images_of(task_ids: Sequence[UUID]) -> dict[UUID, list[Image]]:
    """The pictures of tasks, by task, in order."""
    found: dict[UUID, list[Image]] = {task_id: [] for task_id in task_ids}
    for image in Image.objects.filter(task_id__in=task_ids).order_by("task_id", "index"):
        found[image.task_id].append(image)
    return found
