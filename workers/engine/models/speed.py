"""Speed settings of a model: one entry each in `options["speed"]`, each falling back with one log line.

| entry           | meaning                                                          | seen to work on           |
|-----------------|------------------------------------------------------------------|---------------------------|
| `attention`     | "sdpa" (default), "xformers", or a backend name of diffusers     | CPU: sdpa and the fallback |
| `channels_last` | true: convolutions in channels-last memory                       | CPU                       |
| `compile`       | true, or the arguments of torch.compile; set GPU_ROW_BUCKETS     | CPU, backend "eager"      |
| `vae_slicing`   | true: decode the pictures of a batch one after the other         | CPU                       |
| `vae_tiling`    | false: never; default: from 1536 pixels                          | CPU                       |

`offload` is done by offload.py, as it is no matter of speed; a CPU leaves it out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

logger = logging.getLogger(__name__)

TILE_FROM = 1536  # pixels of the longer side


def apply_speed(
    components: Mapping[str, Any], denoiser: str, settings: Mapping[str, Any], device: torch.device
) -> None:
    """Prepare freshly loaded components, which will go to `device`. What this machine cannot do is left out."""
    appliers: dict[str, Callable[[Any], None]] = {
        "attention": lambda choice: _attention(components[denoiser], choice),
        "channels_last": lambda _: _channels_last(components, denoiser),
        "compile": lambda choice: _compile(components[denoiser], choice),
        "vae_slicing": lambda _: components["vae"].enable_slicing(),
        "vae_tiling": lambda _: None,  # decided for each sample by its size
        "offload": lambda _: _offload(device),
    }
    for name, choice in settings.items():
        if name not in appliers:
            logger.warning("speed setting %s is unknown; known: %s", name, ", ".join(appliers))
        elif choice:
            try:
                appliers[name](choice)
            except (ImportError, RuntimeError, ValueError, TypeError, AttributeError) as error:
                _left_out(name, choice, error)


def wants_tiles(settings: Mapping[str, Any], width: int, height: int) -> bool:
    """Whether a picture is decoded in tiles: its activations would else take many gigabytes."""
    return settings.get("vae_tiling", True) and max(width, height) >= TILE_FROM


def _attention(denoiser: Any, choice: str) -> None:
    if choice == "sdpa":
        return  # what diffusers does by itself
    if choice == "xformers":
        denoiser.enable_xformers_memory_efficient_attention()
    else:
        denoiser.set_attention_backend(choice)


def _offload(device: torch.device) -> None:
    """The model does it itself, with all of its modules (offload.py)."""
    if device.type == "cpu":
        raise ValueError("a CPU has no memory of its own that could be kept free")


def _channels_last(components: Mapping[str, Any], denoiser: str) -> None:
    for name in (denoiser, "vae"):
        components[name].to(memory_format=torch.channels_last)


def _compile(denoiser: torch.nn.Module, choice: Any) -> None:
    """The compiler starts at the first call: where it fails then (no C++ compiler, no Triton), and for good, the
    uncompiled code runs."""
    denoiser.compile(**(dict(choice) if isinstance(choice, Mapping) else {}))
    compiled, plain = denoiser._compiled_call_impl, denoiser._call_impl
    broken = False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal broken
        if not broken:
            try:
                return compiled(*args, **kwargs)
            except TorchDynamoException as error:
                broken = True
                _left_out("compile", choice, getattr(error, "inner_exception", error))
        return plain(*args, **kwargs)

    denoiser._compiled_call_impl = call


def _left_out(name: str, choice: Any, error: Exception) -> None:
    logger.warning("speed setting %s=%s is left out: %s", name, choice, str(error).split("\n")[0])
