"""Weights of 8 bits: a quarter of the memory of fp32, half of bf16. Each weight is turned back when it is used.

Every output row of a layer has a scale of its own. The scale is chosen by calibration: a few pictures are made with the
unchanged model, the mean square of each input channel is noted, and of several scales that cut off the largest weights
more or less the one is taken that changes the layer's output least. A layer whose output would change by more than
`WORST` stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

import numpy as np
import torch
from torch.nn.utils import parametrize

from generation.catalogue.parameters import Parameters
from generation.catalogue.samplers import AUTO
from workers.engine.errors import EngineError
from workers.engine.models.families import Family
from workers.engine.requests import SampleId, SampleRequest
from workers.engine.spec import ModelSpec

logger = logging.getLogger(__name__)

LEAST_WEIGHTS: Final = 4096  # of a layer: smaller ones are not worth it
RATIOS: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)  # of the largest weight of a row, to be the largest that is kept
WORST: Final = 0.03  # relative change of a layer's output, root mean square
LARGEST: Final = 127
MOST_CALIBRATED: Final = 4_000_000_000  # weights of a model; SDXL is below, and larger ones take minutes

PROMPTS: Final = ("a red circle on a white background", "a photograph of a cat in a garden", "")  # for the calibration
STEPS, SIDE = 3, 256  # of its pictures

Layer: TypeAlias = torch.nn.Linear | torch.nn.Conv2d


def calibration_samples(spec: ModelSpec, family: Family) -> list[SampleRequest]:
    """What the calibration draws: `options["int8"]["prompts"]` of the model, else a few of ours."""
    prompts = spec.options.get("int8", {}).get("prompts", PROMPTS)
    kind = next(iter(family.pipelines))  # text2img, but for models that only inpaint
    grey, everywhere = np.full((SIDE, SIDE, 3), 127, np.uint8), np.full((SIDE, SIDE), 255, np.uint8)
    return [
        SampleRequest(
            sample_id=SampleId("calibration", number), model=spec.key, priority=3,
            parameters=Parameters(kind, prompt, "", SIDE, SIDE, STEPS, cfg_scale=5.0, sampler=AUTO, seed=0),
            image=grey, mask=everywhere,
        )
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip


@contextmanager
def in_fp32(modules: Sequence[torch.nn.Module]) -> Iterator[bool]:
    """These modules in the precision in which a CPU is fast, for the length of the block. False: they are too large
    for that and stay as they are."""
    if sum(part.numel() for module in modules for part in module.parameters()) > MOST_CALIBRATED:
        logger.warning("8-bit weights are not calibrated: the model is too large to make pictures on the CPU")
        yield False
        return
    before = [next((part.dtype for part in module.parameters()), torch.float32) for module in modules]
    for module, dtype in zip(modules, before, strict=True):
        if dtype in (torch.float16, torch.bfloat16):
            module.float()
    yield True
    for module, dtype in zip(modules, before, strict=True):
        module.to(dtype)


def quantise(modules: Mapping[str, torch.nn.Module], make_pictures: Callable[[], object]) -> list[str]:
    """Turn the weights of these modules into 8 bits, calibrated by what `make_pictures` sends through them.

    Returns the names of the layers that were left as they are. When the calibration fails, the scales are those of the
    largest weights, with one log line.
    """
    layers = {f"{module}.{name}": layer for module, part in modules.items() for name, layer in _layers(part)}
    with _watched(layers) as squares:
        try:
            make_pictures()
        except (EngineError, RuntimeError, ValueError, TypeError) as error:
            logger.warning("8-bit weights are not calibrated: %s", str(error).split("\n")[0])
    left = []
    for name, layer in layers.items():
        weight = layer.weight.detach()
        quantised, scale, change = _best(weight, squares.get(name))
        if change > WORST:
            left.append(name)
            continue
        parametrize.register_parametrization(layer, "weight", _Int8(quantised, scale), unsafe=True)
        layer.requires_grad_(False)
    return left


class _Int8(torch.nn.Module):
    """The weight of a layer, kept as int8 [out, in, ...] and one scale [out, 1, ...] a row."""

    def __init__(self, quantised: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self._kept = (quantised, scale)

    def forward(self, quantised: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return quantised.to(scale.dtype) * scale

    def right_inverse(self, _weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is kept instead of the weight: asked for once, at registration."""
        kept, self._kept = self._kept, ()  # type: ignore[assignment]
        return kept


def _layers(module: torch.nn.Module) -> Iterator[tuple[str, Layer]]:
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and layer.weight.numel() >= LEAST_WEIGHTS:
            yield name, layer


@contextmanager
def _watched(layers: Mapping[str, Layer]) -> Iterator[dict[str, torch.Tensor]]:
    """The mean square of each input channel of the layers, float32 [in], gathered while the block runs."""
    sums: dict[str, torch.Tensor] = {}
    calls: dict[str, int] = {}

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            squares = inputs[0].detach().float().square()
            others = (0, 2, 3) if isinstance(layer, torch.nn.Conv2d) else tuple(range(squares.ndim - 1))
            sums[name] = sums.get(name, 0) + squares.mean(dim=others)
            calls[name] = calls.get(name, 0) + 1

        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    means: dict[str, torch.Tensor] = {}
    try:
        yield means
    finally:
        for handle in handles:
            handle.remove()
        means |= {name: total / calls[name] for name, total in sums.items()}


def _best(weight: torch.Tensor, squares: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, float]:
    """int8 weights, their scales, and by how much (relative, root mean square) the layer's output changes."""
    rows = weight.float().flatten(1)
    spread = rows.shape[1] // weight.shape[1]  # numbers of a kernel for each input channel
    importance = torch.ones_like(rows[0]) if squares is None else squares.to(rows).repeat_interleave(spread)
    largest = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)
    scales = torch.stack([largest * ratio / LARGEST for ratio in RATIOS])
    errors = torch.stack([((_rounded(rows, scale) * scale - rows).square() * importance).sum(1) for scale in scales])
    chosen = errors.argmin(dim=0)
    scale = scales[chosen, torch.arange(len(rows), device=rows.device)]
    whole = (rows.square() * importance).sum()
    change = float((errors.amin(dim=0).sum() / whole.clamp(min=1e-30)).sqrt())
    quantised = _rounded(rows, scale).to(torch.int8).reshape(weight.shape)
    return quantised, scale.to(weight.dtype).reshape(-1, *[1] * (weight.ndim - 1)), change


def _rounded(rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (rows / scale).round().clamp(-LARGEST, LARGEST)
