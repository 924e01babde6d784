"""Approving and rejecting pictures."""

from collections.abc import Sequence

from django.db import transaction

from generation.tasks.models import Image, Mark
from imagegenx_site import caches


def set_mark(images: Sequence[Image], mark: Mark) -> int:
    """Give the pictures a mark, or take it; how many had another one."""
    changed = [image for image in images if image.mark != mark]
    Image.objects.filter(pk__in=[image.pk for image in changed]).update(mark=mark)
    tasks = list({str(image.task_id) for image in changed})
    if tasks:
        transaction.on_commit(lambda: caches.tasks().invalidate(*tasks))
    return len(changed)
