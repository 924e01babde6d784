"""LoRA files: reading every common layout into pairs by layer, checking that they fit, keeping the recent ones."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import convert_unet_state_dict_to_peft

from workers.engine.errors import InvalidSample, ModelUnavailable
from workers.engine.requests import LoraUse

_OTHER_KINDS = ("hada_w", "lokr_", "dora_scale", "lora_magnitude_vector", "lora_mid", "oft_")
_SUFFIXES = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
}
_TEXT_LAYERS = {".to_q.": ".q_proj.", ".to_k.": ".k_proj.", ".to_v.": ".v_proj.", ".to_out.0.": ".out_proj."}


@dataclass(frozen=True)
class LoraPair:
    """down [rank, in, *kernel], up [out, rank]; the file's own scale (alpha / rank) is in `up` already."""

    down: torch.Tensor
    up: torch.Tensor

    @property
    def bytes(self) -> int:
        """Memory of both halves."""
        return self.down.nbytes + self.up.nbytes


LoraWeights = Mapping[str, Mapping[str, LoraPair]]
"""Pairs by component (unet, text_encoder ...) and layer."""


class LoraCache:
    """LoRAs of one model, on its device and in its dtype; the least recently used leave beyond `limit` bytes."""

    def __init__(
        self, components: Mapping[str, Any], reader: Any, device: torch.device | None = None, limit: int = 2 << 30
    ) -> None:
        """`components`: the modules that a LoRA may touch, by name. `reader`: the diffusers pipeline class that knows
        the layouts of this family's files. `device`: where they compute, if they are not there already."""
        self._modules = {name: part for name, part in components.items() if isinstance(part, torch.nn.Module)}
        self._reader = reader
        self._device = device
        self._limit = limit
        self._kept: OrderedDict[str, LoraWeights] = OrderedDict()

    def get(self, use: LoraUse) -> LoraWeights:
        """The pairs of a LoRA. Raises InvalidSample if it does not fit this model or is of another kind, and
        ModelUnavailable if its file cannot be read or is not the one that was uploaded."""
        if use.sha256 not in self._kept:
            self._kept[use.sha256] = self._read(use)
        self._kept.move_to_end(use.sha256)
        while len(self._kept) > 1 and self.memory_bytes() > self._limit:
            self._kept.popitem(last=False)
        return self._kept[use.sha256]

    def memory_bytes(self) -> int:
        """Bytes of all LoRAs kept."""
        return sum(
            pair.bytes for weights in self._kept.values() for layers in weights.values() for pair in layers.values()
        )

    def _read(self, use: LoraUse) -> LoraWeights:
        try:
            digest = hashlib.sha256(Path(use.path).read_bytes()).hexdigest()
        except OSError as error:
            raise ModelUnavailable(f"LoRA {use.sha256[:12]} could not be read: {error}") from error
        if digest != use.sha256:
            raise ModelUnavailable(f"the file of LoRA {use.sha256[:12]} has changed: it now hashes to {digest[:12]}")
        try:
            read = self._reader.lora_state_dict(use.path, return_lora_metadata=True)
        except (ValueError, KeyError, RuntimeError, OSError) as error:
            raise InvalidSample(f"LoRA {use.sha256[:12]} cannot be understood: {error}") from error
        tensors, alphas, metadata = (read[0], (read[1] if len(read) == 3 else None) or {}, read[-1] or {})
        return self._fitted(use, _pairs(use, tensors, alphas, metadata))

    def _fitted(self, use: LoraUse, pairs: Mapping[str, LoraPair]) -> LoraWeights:
        """Pairs under their component, each checked against the layer it changes."""
        weights: dict[str, dict[str, LoraPair]] = {}
        for full_name, pair in pairs.items():
            component, _, name = full_name.partition(".")
            module = self._modules.get(component)
            if module is None:
                raise InvalidSample(f"LoRA {use.sha256[:12]} changes {component}, which this model does not have")
            name, layer = _layer(module, name)
            if not _fits(pair, layer):
                raise InvalidSample(f"LoRA {use.sha256[:12]} was made for another base model: {full_name} differs")
            assert layer is not None
            like = layer.weight
            where = {"device": self._device or like.device, "dtype": like.dtype}
            fitted = LoraPair(pair.down.to(**where), pair.up.to(**where))
            if not bool(torch.isfinite(fitted.down).all() & torch.isfinite(fitted.up).all()):
                reason = f"LoRA {use.sha256[:12]} has values in {full_name} that are no numbers in {like.dtype}"
                raise InvalidSample(reason)
            weights.setdefault(component, {})[name] = fitted
        if not weights:
            raise InvalidSample(f"LoRA {use.sha256[:12]} has no layers")
        return weights


def _pairs(
    use: LoraUse, tensors: Mapping[str, torch.Tensor], alphas: Mapping[str, float], metadata: Mapping[str, Any]
) -> dict[str, LoraPair]:
    """Pairs by full layer name ("unet.mid_block...") from the state dict that diffusers has brought into one order."""
    other = next((kind for kind in _OTHER_KINDS for name in tensors if kind in name), None)
    if other is not None:
        raise InvalidSample(
            f"LoRA {use.sha256[:12]} is not a plain low-rank one (it has {other!r}); it is not supported"
        )
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in convert_unet_state_dict_to_peft(dict(tensors)).items():
        layer, half = _layer_and_half(name)
        if half is None:
            raise InvalidSample(f"LoRA {use.sha256[:12]} has a part that is not understood: {name}")
        halves.setdefault(layer, {})[half] = tensor
    plain = {name.removesuffix(".alpha"): float(alpha) for name, alpha in alphas.items()}
    alphas = {_layer_and_half(name)[0]: alpha for name, alpha in convert_unet_state_dict_to_peft(plain).items()}
    return {layer: _pair(use, layer, half, alphas, metadata) for layer, half in halves.items()}


def _pair(
    use: LoraUse,
    layer: str,
    half: Mapping[str, torch.Tensor],
    alphas: Mapping[str, float],
    metadata: Mapping[str, Any],
) -> LoraPair:
    """The two halves of one layer. Uploads were checked for this already (generation/catalogue/lora_check.py); a file
    that an operator put there was not."""
    down, up = half.get("down"), half.get("up")
    if down is None or up is None:
        raise InvalidSample(f"LoRA {use.sha256[:12]} is incomplete: {layer} has only one of its two halves")
    plain = down.ndim in (2, 4) and up.ndim in (2, 4) and all(side == 1 for side in up.shape[2:])
    if not plain or not 0 < len(down) == up.shape[1]:
        shapes = f"{list(down.shape)} and {list(up.shape)}"
        raise InvalidSample(f"LoRA {use.sha256[:12]}: the halves of {layer} do not belong together: {shapes}")
    return LoraPair(down, _flat(up).float() * _scale(layer, len(down), alphas, metadata))


def _layer_and_half(name: str) -> tuple[str, str | None]:
    """The layer that a tensor belongs to and which half of the pair it is, None if neither."""
    name = name.replace(".processor.", ".")
    if name.startswith("text_encoder"):
        for theirs, ours in _TEXT_LAYERS.items():
            name = name.replace(theirs, ours)
    suffix = next((ending for ending in _SUFFIXES if name.endswith(ending)), None)
    return (name, None) if suffix is None else (name.removesuffix(suffix), _SUFFIXES[suffix])


def _scale(layer: str, rank: int, alphas: Mapping[str, float], metadata: Mapping[str, Any]) -> float:
    """alpha / rank, from the layer's own alpha or the training configuration in the file; 1 if it has neither."""
    component, _, name = layer.partition(".")
    alpha = alphas.get(layer)
    if alpha is None:
        patterns = metadata.get(f"{component}.alpha_pattern") or {}
        alpha = patterns.get(name, metadata.get(f"{component}.lora_alpha"))
    return 1.0 if alpha is None else float(alpha) / rank


def _flat(up: torch.Tensor) -> torch.Tensor:
    """[out, rank, 1, 1] of a convolution -> [out, rank]."""
    return up.reshape(up.shape[0], up.shape[1])


def _layer(module: torch.nn.Module, name: str) -> tuple[str, torch.nn.Module | None]:
    """The layer and its name; releases of the text encoders differ in whether they have a "text_model" around."""
    for candidate in (name, name.removeprefix("text_model."), f"text_model.{name}"):
        try:
            return candidate, module.get_submodule(candidate)
        except AttributeError:
            continue
    return name, None


def _fits(pair: LoraPair, layer: torch.nn.Module | None) -> bool:
    if not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
        return False
    shape = layer.weight.shape
    return pair.down.shape[1:] == shape[1:] and pair.up.shape[0] == shape[0]
