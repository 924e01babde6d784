"""Stock pipelines, one object for each sample, without building each from its parts.

A pipeline's constructor patches the configuration of its scheduler and leaves state on the object, so no two samples
may share one. Building one takes several milliseconds of the engine's thread, so one of each sort is built and then
copied: the modules stay the same, the scheduler is copied with all that it holds.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch


class PipelineMaker:
    """Pipelines of one loaded model, on its device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._patterns: dict[Hashable, Any] = {}

    def make(self, pipeline_class: Any, sort: Hashable, components: Callable[[], Mapping[str, Any]]) -> Any:
        """A pipeline of its own for one sample. `sort`: equal values mean equal `components`, which are asked for when
        one of that sort is made for the first time."""
        key = (pipeline_class, sort)
        if key not in self._patterns:
            self._patterns[key] = _build(_on_device(pipeline_class, self._device), components())
        pattern = self._patterns[key]
        pipeline = copy.copy(pattern)
        pipeline.__dict__["scheduler"] = copy.deepcopy(pattern.scheduler)
        return pipeline

    def clear(self) -> None:
        """Forget the modules that the patterns hold."""
        self._patterns.clear()


@functools.cache
def parameters_of(function: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function of diffusers, looked up once: there are dozens, at each request."""
    return inspect.signature(function).parameters


@functools.cache
def _on_device(pipeline_class: Any, device: torch.device) -> Any:
    """The class with a known device. The stock one looks through every module for it at each call."""
    known = property(lambda self: device)
    names = {"__doc__": pipeline_class.__doc__, "__module__": pipeline_class.__module__}
    return type(pipeline_class.__name__, (pipeline_class,), {**names, "device": known, "_execution_device": known})


def _build(pipeline_class: Any, components: Mapping[str, Any]) -> Any:
    """A pipeline from those components that its constructor takes; what a model lacks is None."""
    arguments = {}
    accepted = parameters_of(pipeline_class.__init__)
    for name, parameter in accepted.items():
        if name in components:
            arguments[name] = components[name]
        elif name != "self" and parameter.default is inspect.Parameter.empty:
            arguments[name] = None
    for name in ("requires_safety_checker", "add_watermarker"):
        if name in accepted:
            arguments[name] = False
    pipeline = pipeline_class(**arguments)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
