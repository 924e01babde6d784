"""LoRAs by row: every sample of a forward pass may have its own set of LoRAs with its own weights.

A set is one low-rank pair per layer: the pairs of its LoRAs side by side, their weights and scales multiplied in. For a
batch the pairs of all rows are stacked, padded with zeros to the largest rank, and a hook on each touched layer adds
`up(down(x))` row by row with two batched products. The weights of the model are never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from workers.engine.models.lora_files import LoraCache, LoraPair
from workers.engine.requests import LoraUse

LoraSet = tuple[LoraUse, ...]


@dataclass(frozen=True)
class RowPairs:
    """The low-rank pairs of one layer for each row: down [rows, rank, in, *kernel], up [rows, out, rank].

    One row stands for all, when every row has the same set.
    """

    down: torch.Tensor
    up: torch.Tensor

    def added(self, layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """What the rows' LoRAs add to the output of `layer` for the input `x`."""
        rows = x.shape[0]
        down, up = self.down.expand(rows, *self.down.shape[1:]), self.up.expand(rows, *self.up.shape[1:])
        if isinstance(layer, torch.nn.Conv2d):
            return _convolved(layer, x, down, up)
        tokens = x.reshape(rows, -1, x.shape[-1])
        return torch.bmm(torch.bmm(tokens, down.mT), up.mT).reshape(*x.shape[:-1], up.shape[1])


def _convolved(layer: torch.nn.Conv2d, x: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """A convolution with another kernel for each row is a grouped one over the rows side by side."""
    rows, rank = down.shape[:2]
    wide = x.reshape(1, -1, *x.shape[2:])
    kernels = down.reshape(-1, *down.shape[2:])
    narrow = functional.conv2d(wide, kernels, None, layer.stride, layer.padding, layer.dilation, groups=rows)
    height, width = narrow.shape[2:]
    return torch.bmm(up, narrow.reshape(rows, rank, -1)).reshape(rows, -1, height, width)


class RowLoras:
    """The hooks on one module (a denoiser or a text encoder) and the batch they are set up for."""

    def __init__(self, module: torch.nn.Module, component: str, cache: LoraCache) -> None:
        self._module = module
        self._component = component
        self._cache = cache
        self._compiled = getattr(module, "_compiled_call_impl", None)
        self._rows: list[LoraSet] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def set_rows(self, members: Sequence[tuple[LoraSet, int]]) -> None:
        """Make ready for a forward pass of these members: LoRA set and number of rows of each, in their order."""
        rows = [loras for loras, count in members for _ in range(count)]
        if not any(rows):
            rows = []
        if rows == self._rows:
            return
        self._remove_hooks()
        self._module._compiled_call_impl = None if rows else self._compiled  # compiled code does not see new hooks
        for name, pairs in self._pairs(rows).items():
            layer = self._module.get_submodule(name)
            self._handles.append(layer.register_forward_hook(_adding(pairs)))
        self._rows = rows

    @contextmanager
    def all_rows(self, loras: LoraSet) -> Iterator[None]:
        """One set for whatever number of rows, for the length of the block."""
        self.set_rows([(loras, 1)])
        try:
            yield
        finally:
            self.set_rows([])

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._rows = []

    def _pairs(self, rows: Sequence[LoraSet]) -> dict[str, RowPairs]:
        """Stacked pairs by layer, for the layers that any row's LoRAs touch."""
        sets = {loras: self._merged(loras) for loras in set(rows)}
        layers = sorted({name for pairs in sets.values() for name in pairs})
        return {name: _stacked([sets[loras].get(name) for loras in rows]) for name in layers}

    def _merged(self, loras: LoraSet) -> dict[str, LoraPair]:
        """One pair per layer for a set: ranks side by side, the weights of the LoRAs in the upper halves."""
        by_layer: dict[str, list[LoraPair]] = {}
        for use in loras:
            for name, pair in self._cache.get(use).get(self._component, {}).items():
                by_layer.setdefault(name, []).append(LoraPair(pair.down, pair.up * use.weight))
        return {
            name: LoraPair(torch.cat([pair.down for pair in pairs]), torch.cat([pair.up for pair in pairs], dim=1))
            for name, pairs in by_layer.items()
        }


def _adding(pairs: RowPairs) -> Callable[..., torch.Tensor]:
    def hook(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + pairs.added(layer, inputs[0])

    return hook


def _stacked(pairs: Sequence[LoraPair | None]) -> RowPairs:
    """Rows' pairs padded to the largest rank; zeros for rows without."""
    pattern = next(pair for pair in pairs if pair is not None)
    rank = max(len(pair.down) for pair in pairs if pair is not None)
    down = pattern.down.new_zeros(len(pairs), rank, *pattern.down.shape[1:])
    up = pattern.up.new_zeros(len(pairs), pattern.up.shape[0], rank)
    for row, pair in enumerate(pairs):
        if pair is not None:
            down[row, : len(pair.down)] = pair.down
            up[row, :, : len(pair.down)] = pair.up
    return RowPairs(down, up)
