"""The step that comes after delivery: a larger version of pictures whose first version the client already has."""

from collections.abc import Sequence

from generation.tasks.models import OWNER_GIVEN_UP, Image, Status, Task


def is_due(task: Task, images: Sequence[Image]) -> bool:
    """Whether a succeeded task still gets larger pictures in place of those it has."""
    return task.status == Status.SUCCEEDED and task.stage_owner != OWNER_GIVEN_UP and bool(not_enlarged(task, images))


def not_enlarged(task: Task, images: Sequence[Image]) -> list[Image]:
    """Those pictures that an enlargement after delivery has not replaced yet."""
    if not task.parameters.postprocess.get("upscale") or not task.recipe.late:
        return []
    return [image for image in images if (image.width, image.height) == (task.width, task.height)]
