"""What models take in memory, where they are, and how an operator has a worker load or drop one."""

from functools import partial
from typing import Any, Final

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from generation.catalogue.models import ImageModel, ModelPreset
from generation.catalogue.presets import registry
from generation.catalogue.presets.memory import BYTES, human, weights_bytes
from generation.queue import model_memory
from generation.queue.model_memory import Action

_WORDS: Final[dict[Action, str]] = {"load": "Load into the memory of", "unload": "Drop from the memory of"}
_MOST_WORKERS: Final = 20  # that have actions of their own


def places(model: ImageModel) -> str:
    """The workers that have it, with what it takes there."""
    try:
        held = model_memory.held()
    except RedisError:
        return "not known: Redis is unreachable"
    found = [(worker.node, worker.models[model.key]) for worker in held if model.key in worker.models]
    return ", ".join(f"{node} ({human(size)}, {precision})" for node, (size, precision) in found) or "no worker"


def needs(model: ImageModel) -> str:
    """By precision: as a worker measured it, else computed from the numbers of weights of its preset."""
    measured: dict[str, dict[str, Any]] = model.measured_memory
    preset = ModelPreset.objects.filter(name=model.name).first()
    weights = registry.loaded_weights(preset) if preset else {}
    lines = [_measured(precision, one, model.revision) for precision, one in measured.items()]
    if weights:
        rest = [name for name in BYTES if name not in measured]
        lines += [f"{name}: {human(weights_bytes(weights, name))}, computed" for name in rest]
    return "; ".join(lines) or "not measured yet: no worker has loaded it"


def _measured(precision: str, one: dict[str, Any], revision: str) -> str:
    older = "" if one["revision"] == revision else f", of revision {one['revision']}"
    return f"{precision}: {human(one['bytes'])}, measured on {one['device']}{older}"


def actions() -> dict[str, Any]:
    """For the list of models: a pair for each worker that lives."""
    try:
        nodes = [worker.node for worker in model_memory.held()][:_MOST_WORKERS]
    except RedisError:
        return {}
    return {
        f"{action}:{node}": (partial(_ask, node, action), f"{action}:{node}", f"{_WORDS[action]} {node}")
        for node in nodes
        for action in _WORDS
    }


def _ask(node: str, action: Action, admin: Any, request: HttpRequest, queryset: QuerySet[ImageModel]) -> None:
    for model in queryset:
        try:
            model_memory.ask(node, action, model.name)
        except (OperationalError, RedisError) as error:
            admin.message_user(request, f"{node} is not reached: {error}", messages.ERROR)
            return
        admin.message_user(request, f"{node} is asked to {action} {model.name}; this list says when it has.")
