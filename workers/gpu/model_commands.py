"""The control message `model` (generation/queue/model_memory.py): a model enters or leaves a worker's memory by hand.

Celery's thread takes the command and looks up the row; the engine's thread carries it out between two steps. A model
leaves with its last sample, and comes back when a task asks for it.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from celery.worker import control
from django.conf import settings
from django.db import Error, close_old_connections

from generation.catalogue.models import ImageModel
from generation.queue.model_memory import COMMAND
from workers.engine.errors import EngineError
from workers.engine.spec import ModelSpec
from workers.gpu.interfaces import PoolLike
from workers.gpu.samples import spec_of

ACTIONS: Final = ("load", "unload")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelCommand:
    """What is to be done with which model."""

    load: bool
    spec: ModelSpec


class ModelCommands:
    """Those that wait for the engine's thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._waiting: deque[ModelCommand] = deque()
        self._wake = wake

    def put(self, command: ModelCommand) -> None:
        """From any thread."""
        self._waiting.append(command)
        self._wake()

    def carry_out(self, pool: PoolLike) -> None:
        """In the engine's thread."""
        for command in self._take():
            logger.info("model %s: %s, by hand", command.spec.key, "load" if command.load else "unload")
            pool.ensure(command.spec)
            try:
                (pool.request if command.load else pool.retire)(command.spec.key)
            except EngineError as error:  # a family that is none: the row was checked, but not by this program
                logger.error("model %s is not loaded: %s", command.spec.key, error)

    def _take(self) -> Iterator[ModelCommand]:
        while self._waiting:
            yield self._waiting.popleft()


commands: ModelCommands | None = None  # of this process, once it has an engine


@control.control_command(name=COMMAND, args=[("action", str), ("name", str)], signature="<load|unload> <name>")
def model(state: Any, action: str, name: str) -> dict[str, str]:
    """Load a model into this worker's memory, or drop it."""
    if commands is None or action not in ACTIONS:
        return {"error": f"the action is one of {', '.join(ACTIONS)}, of a GPU worker that runs"}
    if settings.GPU_MODELS and name not in settings.GPU_MODELS:
        return {"error": f"this worker serves {', '.join(settings.GPU_MODELS)} only"}
    try:
        close_old_connections()
        row = ImageModel.objects.filter(name=name).first()
    except Error as error:
        return {"error": f"Postgres is out of reach: {error}"}
    if row is None or not (row.enabled or action == "unload"):
        return {"error": f"there is no enabled model {name}"}
    commands.put(ModelCommand(action == "load", spec_of(row)))
    return {"ok": f"{row.key}: {action}"}
