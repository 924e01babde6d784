"""Which models a worker loads at its start: those of GPU_PRELOAD, or, if that is "auto", the most used ones."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db.models import Count
from django.utils import timezone

from generation.catalogue import snapshot
from generation.catalogue.kinds import TEXT_TO_IMAGE
from generation.catalogue.models import ImageModel
from generation.tasks.models import Task

AUTO: Final = "auto"
LOOKED_AT: Final = timedelta(hours=6)  # of tasks; long ones would read many partitions at every start


def is_auto() -> bool:
    return list(settings.GPU_PRELOAD) == [AUTO]


def wanted_models() -> Iterable[ImageModel]:
    """The most used first, then the default. Models that this worker does not serve, or that failed, are left out."""
    if not is_auto():
        return ImageModel.objects.filter(name__in=settings.GPU_PRELOAD, enabled=True)
    since = timezone.now() - LOOKED_AT
    drawn = Task.objects.filter(created_at__gte=since, model__isnull=False)
    used = drawn.values("model_id").annotate(count=Count("id")).order_by("-count")
    ids = [entry["model_id"] for entry in used[:10]]
    rows = ImageModel.objects.in_bulk(ids)
    default = snapshot.current().default_model(TEXT_TO_IMAGE)
    found = dict.fromkeys([*(rows[pk] for pk in ids if pk in rows), *([default] if default else [])])
    return [model for model in found if model.enabled and model.loads is not False and _served(model)]


def _served(model: ImageModel) -> bool:
    return not settings.GPU_MODELS or model.name in settings.GPU_MODELS
