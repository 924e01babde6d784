"""How parked calls of one module become one call, and its output many.

A MergeRule says for a class of modules what each argument is: rows to concatenate, a value that all members must have
in common, residuals for which zeros stand in. A class without a rule, or an argument of a shape that no rule expects,
is never merged: its calls run one by one, which is slower and right.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


class Unmergeable(Exception):
    """A call has an argument that cannot be merged with anything."""


@dataclass(frozen=True)
class MergeRule:
    """`rows`: the argument whose leading dimension counts the rows. `times`: arguments widened to one number per row.
    `scales`: factors widened to [rows, 1, 1, 1]. `common`: tensors without a batch dimension, which all members must
    have alike. `zeros`: residuals that some members may lack. `ignored`: arguments the module does not use.
    `refused`: arguments that must be None or False, else the call runs alone.
    """

    rows: str
    times: frozenset[str] = frozenset()
    scales: frozenset[str] = frozenset()
    common: frozenset[str] = frozenset()
    zeros: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()

    @property
    def _free(self) -> frozenset[str]:
        """Arguments that may differ in form between the members."""
        return self.times | self.scales | self.zeros | self.ignored

    def count_rows(self, arguments: Mapping[str, Any]) -> int:
        """How many rows a call brings: the length of its batch."""
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
            parts.append((name, _digest(value) if name in self.common else _shape(value, rows)))
        return tuple(parts)

    def merge(self, calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One set of arguments for all calls, in their order. All calls have the same key."""
        rows = [self.count_rows(call) for call in calls]
        merged: dict[str, Any] = {}
        for name in dict.fromkeys(name for call in calls for name in call):
            values = [call.get(name) for call in calls]
            if name in self.ignored:
                continue
            if name in self.times:
                merged[name] = _widen(values, rows)
            elif name in self.scales:
                like = calls[0][self.rows]
                parts = [like.new_full((count, 1, 1, 1), value) for value, count in zip(values, rows, strict=True)]
                merged[name] = torch.cat(parts)
            elif name in self.zeros:
                merged[name] = _concatenate(_with_zeros(values, rows))
            elif name in self.common:
                merged[name] = values[0]
            else:
                merged[name] = _concatenate(values)
        return merged


def split(output: Any, rows: Sequence[int]) -> list[Any]:
    """The output of a merged call, cut back into one output per member."""
    if isinstance(output, torch.Tensor):
        return list(torch.split(output, list(rows)))
    if isinstance(output, Mapping):  # a model output of diffusers
        cut = {name: split(value, rows) for name, value in output.items()}
        return [type(output)(**{name: parts[i] for name, parts in cut.items()}) for i in range(len(rows))]
    if isinstance(output, list | tuple):
        return [type(output)(parts) for parts in zip(*(split(value, rows) for value in output), strict=True)]
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
    """The content of a small tensor that is passed once for all."""
    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), value.dtype, value.detach().cpu().float().numpy().tobytes())
    return repr(value)


def _widen(values: Sequence[Any], rows: Sequence[int]) -> torch.Tensor:
    """Timesteps as one number per row. Integers become float32, in which the models compute with them anyway."""
    parts = []
    for value, count in zip(values, rows, strict=True):
        time = torch.as_tensor(value)
        time = time if time.is_floating_point() else time.float()
        parts.append(time.reshape(-1).expand(count) if time.numel() == 1 else time)
    device = next((part.device for part in parts if part.device.type != "cpu"), parts[0].device)
    return torch.cat([part.to(device) for part in parts])


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

_RULES: dict[tuple[str, str], MergeRule] = {
    ("UNet2DConditionModel", "forward"): _UNET,
    ("ControlNetModel", "forward"): _CONTROLNET,
    ("AutoencoderKL", "decode"): _DECODE,
}


def rule_for(module: torch.nn.Module, method: str) -> MergeRule | None:
    """The rule of a module's class, or None: then its calls are never merged."""
    return _RULES.get((type(module).__name__, method))
