"""The content policy's look at pictures that the GPU has made, before anything of them leaves the raw store.

A deployment names one class in IMAGE_CHECKER; which tasks it looks at, IMAGE_CHECK and the profiles say. It runs in the
CPU workers, in the stage after generation. A picture that it refuses ends its task: failed, with `policy_` and the
checker's reason as the code, written down without a word of the request.

A checker that is not there or breaks lets nothing through: the stage is tried again, and at last the task fails.
"""

from collections.abc import Sequence
from functools import cache
from typing import Protocol, cast

import numpy as np
from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from generation.catalogue.parameters import Parameters
from generation.policy import rules
from generation.policy.models import PolicyRefusal
from generation.tasks import states
from generation.tasks.models import Task


class ImageChecker(Protocol):
    """What the class that IMAGE_CHECKER names has to offer. It is made once in each process, without arguments."""

    def check(self, pictures: Sequence[np.ndarray]) -> Sequence[str]:
        """One word for each picture (uint8 [H, W, 3] RGB): "" if it may be given out, else the reason as a slug."""


class PictureRefused(Exception):
    """A picture of the task may not be given out. `reason` is the checker's word."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"picture {index}: {reason}")
        self.reason = reason


def check(parameters: Parameters, pictures: Sequence[np.ndarray]) -> None:
    """Ask the checker, where one is to look at this task. Raises PictureRefused."""
    if not rules.is_checked(parameters.check_images):
        return
    verdicts = _checker(settings.IMAGE_CHECKER).check(pictures)
    if len(verdicts) != len(pictures):
        raise ValueError(f"{settings.IMAGE_CHECKER} answered {len(verdicts)} words for {len(pictures)} pictures")
    for index, reason in enumerate(verdicts):
        if reason:
            raise PictureRefused(index, reason)


def refuse(task: Task, refused: PictureRefused) -> bool:
    """End the task, and write the refusal down. Answers whether this call ended it."""
    code = f"policy_{refused.reason}"[:50]
    with transaction.atomic():
        ended = states.fail(task.id, code=code, message="The content policy does not allow the picture.")
        if ended and task.api_key_id is not None:
            facts = {"reason": code, "rule": "checker", "kind": task.kind}
            PolicyRefusal.objects.create(user_id=task.user_id, api_key_id=task.api_key_id, **facts)
    return ended


@cache
def _checker(path: str) -> ImageChecker:
    return cast(ImageChecker, import_string(path)())
