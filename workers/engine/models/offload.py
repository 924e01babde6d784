"""Models that are larger than their device: the modules wait in the machine's memory, and one at a time is on the
device to compute. `options["speed"]["offload"]` asks for it.

A change costs the copy of a module, so samples that are at different modules (one reads its prompt, one takes steps)
slow each other down. What is on the device is the largest module at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module  # type: ignore[import-untyped]
from accelerate.utils import send_to_device  # type: ignore[import-untyped]

CPU = torch.device("cpu")


class OneOnDevice:
    """The modules of one model, of which one is on the device. Until `use` all stay where they are."""

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        """Before anything else wraps them: their shallow copies must carry the same hook."""
        self._device: torch.device | None = None
        self._present: torch.nn.Module | None = None
        for module in modules:
            add_hook_to_module(module, _Visit(self, module))

    def use(self, device: torch.device) -> None:
        """From now on whatever is called comes to this device first."""
        self._device = device

    def bring(self, module: torch.nn.Module, *inputs: Any) -> tuple[Any, ...]:
        """The module is on the device, and its inputs with it."""
        if self._device is None:
            return inputs
        if self._present is not module:
            if self._present is not None:
                self._present.to(CPU)
            self._present = module
            module.to(self._device)
        return tuple(send_to_device(value, self._device) for value in inputs)


class _Visit(ModelHook):
    """Runs before the forward of its module, and before what diffusers decorates like it (a VAE's decode)."""

    def __init__(self, place: OneOnDevice, module: torch.nn.Module) -> None:
        self._place, self._module = place, module

    def pre_forward(self, _module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return self._place.bring(self._module, args, kwargs)
