"""How suspended calls of one module become one call, and its output many.

A MergeRule says for a class of modules what each argument is: rows to concatenate, a value that all members must
have in common, residuals for which zeros stand in. A class without a rule, or an argument of a shape that no rule
expects, is never merged: its calls run one by one, which is slower and right.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

_digests = WeakIdKeyDictionary()
"""Contents of tensors that calls have in common, for as long as the tensors live. Nobody changes them in place."""


class Unmergeable(Exception):
    """A call has an argument that cannot be merged with anything."""


@dataclass(frozen=True)
class MergeRule:
    """`rows`: the argument whose leading dimension counts the rows. `times`: arguments widened to one number per row.
    `scales`: factors widened to [rows, 1, 1, 1]. `common`: tensors without a batch dimension, which all members must
    have alike. `zeros`: residuals that some members may lack. `listed`: Python lists with one entry per row; of those
    in `loose` the entries may differ in shape. `padded`: a text argument that may differ in length, and its mask.
    `listed_output`: its output has such lists too. `ignored`: arguments the module does not use. `refused`: arguments
    that must be None or False, else the call runs alone.
    """

    rows: str
    times: frozenset[str] = frozenset()
    scales: frozenset[str] = frozenset()
    common: frozenset[str] = frozenset()
    zeros: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()
    loose: frozenset[str] = frozenset()
    padded: tuple[str, str] | None = None
    listed_output: bool = False
    ignored: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()

    @functools.cached_property
    def _free(self) -> frozenset[str]:
        """Arguments that may differ in form between the members."""
        return self.times | self.scales | self.zeros | self.ignored | self.loose

    def count_rows(self, arguments: Mapping[str, Any]) -> int:
        """How many rows a call brings to a forward pass: the length of its leading dimension."""
        return len(arguments[self.rows])

    def key(self, arguments: Mapping[str, Any]) -> Hashable:
        """Equal keys may share a forward pass. Raises Unmergeable for what this rule does not expect."""
        rows = self.count_rows(arguments)
        parts = []
        for name in sorted(arguments):
            value = arguments[name]
            if name in self.refused and value is not None and value is not False:
                raise Unmergeable(name)
            if value is None or name in self._free:
                continue
            parts.append((name, self._key_of(name, value, rows)))
        return tuple(parts)

    def _key_of(self, name: str, value: Any, rows: int) -> Hashable:
        if self.padded and name in self.padded:
            return tuple(value.shape[2:]) if name == self.padded[0] else None
        if name in self.common:
            return _digest(value)
        if name in self.listed:
            return _whole(value[0])
        return _shape(value, rows)

    def merge(self, calls: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> dict[str, Any]:
        """One set of arguments for all calls, in their order. All calls have the same key. `rows`: of each call."""
        merged: dict[str, Any] = {}
        for name in dict.fromkeys(name for call in calls for name in call):
            if name not in self.ignored:
                merged[name] = self._merged(name, [call.get(name) for call in calls], rows, calls[0][self.rows])
        if self.padded:
            text, mask = self.padded
            merged[text], merged[mask] = _pad([call[text] for call in calls], [call.get(mask) for call in calls])
        return merged

    def _merged(self, name: str, values: list[Any], rows: Sequence[int], like: Any) -> Any:
        if self.padded and name in self.padded:
            return None
        if name in self.times:
            return _widen(values, rows)
        if name in self.scales:
            parts = [like.new_full((count, 1, 1, 1), value) for value, count in zip(values, rows, strict=True)]
            return torch.cat(parts)
        if name in self.zeros:
            return _concatenate(_with_zeros(values, rows))
        if name in self.common:
            return values[0]
        if name in self.listed or name in self.loose:
            return [item for value in values for item in value]
        return _concatenate(values)


def split(output: Any, rows: Sequence[int], *, listed: bool = False) -> list[Any]:
    """The output of a merged call, cut back into one output per member. `listed`: lists in it have an entry per row,
    otherwise (residuals of a ControlNet) an entry per layer."""
    if isinstance(output, torch.Tensor):
        return list(torch.split(output, list(rows)))
    if isinstance(output, Mapping):  # a model output of diffusers
        cut = {name: split(value, rows, listed=listed) for name, value in output.items()}
        return [type(output)(**{name: parts[i] for name, parts in cut.items()}) for i in range(len(rows))]
    if listed and isinstance(output, list):
        entries = iter(output)
        return [[next(entries) for _ in range(count)] for count in rows]
    if isinstance(output, list | tuple):
        cut_items = (split(value, rows, listed=listed) for value in output)
        return [type(output)(parts) for parts in zip(*cut_items, strict=True)]
    if output is None:
        return [None] * len(rows)
    raise Unmergeable(type(output).__name__)


def _shape(value: Any, rows: int) -> Hashable:
    """What two values must have in common to be concatenated (or, for plain values, to be one)."""
    if isinstance(value, torch.Tensor):
        if value.ndim == 0 or value.shape[0] != rows:
            raise Unmergeable("a tensor without a row for each sample")
        return (tuple(value.shape[1:]), value.dtype)
    if isinstance(value, Mapping):
        return tuple((name, _shape(value[name], rows)) for name in sorted(value) if value[name] is not None)
    if isinstance(value, list | tuple):
        return tuple(_shape(item, rows) for item in value)
    if isinstance(value, Hashable):
        return value
    raise Unmergeable(type(value).__name__)


def _digest(value: Any) -> Hashable:
    """The content of a small tensor that is passed once for all; read once, as reading waits for a GPU."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    if value not in _digests:
        _digests[value] = (tuple(value.shape), value.dtype, value.detach().cpu().float().numpy().tobytes())
    return _digests[value]


def _whole(item: Any) -> Hashable:
    """What two list entries must have in common: tensors their shape, anything else its content."""
    return (tuple(item.shape), item.dtype) if isinstance(item, torch.Tensor) else repr(item)


def _pad(texts: Sequence[torch.Tensor], masks: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, Any]:
    """Texts [rows, length, width] padded on the right to one length, and their mask; none where none is needed."""
    longest = max(text.shape[1] for text in texts)
    if all(mask is None and text.shape[1] == longest for text, mask in zip(texts, masks, strict=True)):
        return torch.cat(list(texts)), None
    kind = next((mask.dtype for mask in masks if mask is not None), torch.bool)
    padded, filled = [], []
    for text, mask in zip(texts, masks, strict=True):
        mask = text.new_ones(text.shape[:2], dtype=kind) if mask is None else mask
        missing = longest - text.shape[1]
        padded.append(torch.nn.functional.pad(text, (0, 0, 0, missing)))
        filled.append(torch.nn.functional.pad(mask, (0, missing)))
    return torch.cat(padded), torch.cat(filled)


def _widen(values: Sequence[Any], rows: Sequence[int]) -> torch.Tensor:
    """Timesteps as one number per row. Integers become float32, in which the models compute with them anyway."""
    times = [torch.as_tensor(value) for value in values]
    device = next((time.device for time in times if time.device.type != "cpu"), times[0].device)
    if len({time.dtype for time in times}) > 1:  # else one conversion for all is cheaper
        times = [time if time.is_floating_point() else time.float() for time in times]
    wide = torch.cat([time.to(device).expand(count) for time, count in zip(times, rows, strict=True)])
    return wide if wide.is_floating_point() else wide.float()


def _concatenate(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(list(values))
    if isinstance(first, Mapping):
        return {name: _concatenate([value[name] for value in values]) for name in first}
    if isinstance(first, list | tuple):
        return type(first)(_concatenate(items) for items in zip(*values, strict=True))
    return first


def _with_zeros(values: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    """Residuals for all members: zeros for those that have none, shaped like those of a member that has some."""
    pattern = next((value for value in values if value is not None), None)
    if pattern is None:
        return [None] * len(rows)

    def zeros(like: Any, count: int) -> Any:
        if isinstance(like, torch.Tensor):
            return like.new_zeros((count, *like.shape[1:]))
        return type(like)(zeros(item, count) for item in like)

    return [zeros(pattern, count) if value is None else value for value, count in zip(values, rows, strict=True)]


_UNET = MergeRule(
    rows="sample",
    times=frozenset({"timestep"}),
    zeros=frozenset({"down_block_additional_residuals", "mid_block_additional_residual"}),
    refused=frozenset({"down_intrablock_additional_residuals", "class_labels"}),
)
_CONTROLNET = MergeRule(
    rows="sample",
    times=frozenset({"timestep"}),
    scales=frozenset({"conditioning_scale"}),
    refused=frozenset({"class_labels", "guess_mode"}),
)
_DECODE = MergeRule(rows="z", ignored=frozenset({"generator"}))

_TIME = frozenset({"timestep"})
_FLUX = MergeRule(
    rows="hidden_states",
    times=_TIME,
    common=frozenset({"img_ids", "txt_ids"}),
    refused=frozenset({"controlnet_block_samples", "controlnet_single_block_samples"}),
)
_SD3 = MergeRule(rows="hidden_states", times=_TIME, refused=frozenset({"block_controlnet_hidden_states"}))
_QWEN = MergeRule(
    rows="hidden_states",
    times=_TIME,
    listed=frozenset({"img_shapes"}),
    padded=("encoder_hidden_states", "encoder_hidden_states_mask"),
    refused=frozenset({"controlnet_block_samples"}),
)
_Z_IMAGE = MergeRule(
    rows="x",
    times=frozenset({"t"}),
    listed=frozenset({"x"}),
    loose=frozenset({"cap_feats"}),
    listed_output=True,
    refused=frozenset({"controlnet_block_samples", "siglip_feats", "image_noise_mask"}),
)

_RULES: dict[tuple[str, str], MergeRule] = {
    ("UNet2DConditionModel", "forward"): _UNET,
    ("ControlNetModel", "forward"): _CONTROLNET,
    ("FluxTransformer2DModel", "forward"): _FLUX,
    ("SD3Transformer2DModel", "forward"): _SD3,
    ("QwenImageTransformer2DModel", "forward"): _QWEN,
    ("ZImageTransformer2DModel", "forward"): _Z_IMAGE,
    ("AutoencoderKL", "decode"): _DECODE,
    ("AutoencoderKLQwenImage", "decode"): _DECODE,
    ("RemovalNetwork", "forward"): MergeRule(rows="image"),
    ("AutoencoderTiny", "decode"): MergeRule(rows="x", ignored=frozenset({"generator"})),
}


def rule_for(module: torch.nn.Module, method: str) -> MergeRule | None:
    """The rule of a module's class, or None: then its calls are never merged."""
    return _RULES.get((type(module).__name__, method))
