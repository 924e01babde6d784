"""Whether models could be loaded, as the worker that tried says: in the model's row, and an alert for operators.

Customers read a sentence without paths; the reason is for the log, the admin and the alert.
"""

import logging
import re
from typing import Final

from django.db import Error
from django.utils import timezone

from generation.catalogue.models import ImageModel
from generation.telemetry import alerts
from workers.engine.errors import EngineError, ModelUnavailable

logger = logging.getLogger(__name__)
_PATH: Final = re.compile(r"(?<![\w:/])(?:~|\.{1,2})?/(?:[^\s'\"/:,;]+/)*[^\s'\":,;]+")
_noted: set[str] = set()  # fingerprints that this process has noted as loaded


def note_loaded(model: ImageModel) -> None:
    """A picture was made by it. Best effort; once a process."""
    current = model.fingerprint
    if current in _noted:
        return
    try:
        rows = ImageModel.objects.filter(pk=model.pk).exclude(tried=current, problem="")
        rows.update(tried=current, tried_at=timezone.now(), problem="")
        alerts.clear_model(model.name)
        _noted.add(current)
    except Error as error:
        logger.error("that %s was loaded is not noted: %s", model.key, error)


def note_failed(model: ImageModel, error: Exception) -> None:
    """It could not be loaded. Best effort; the log has it in any case."""
    logger.error("%s", error, extra={"model": model.key})
    _noted.discard(model.fingerprint)
    try:
        row = ImageModel.objects.filter(pk=model.pk)
        row.update(tried=model.fingerprint, tried_at=timezone.now(), problem=str(error))
        alerts.raise_for_model(model.name, str(error))
    except Error as fault:
        logger.error("that %s cannot be loaded is not noted: %s", model.key, fault)


def note_failed_key(key: str, error: Exception) -> None:
    """The same of a model that an operator asked for, by `name@revision`."""
    name, _, revision = key.partition("@")
    model = ImageModel.objects.filter(name=name, revision=revision).first()
    if model is not None:
        note_failed(model, error)


def for_customers(error: BaseException, model: ImageModel) -> str:
    """What a customer reads about a failed inference: nothing of this machine's folders."""
    if isinstance(error, ModelUnavailable):
        return f"The model {model.name} cannot be loaded; the operator has been told."
    text = str(error) or type(error).__name__
    return text if isinstance(error, EngineError) and "/" not in text else _PATH.sub("(a path)", text)
