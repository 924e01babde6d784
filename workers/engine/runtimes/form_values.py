"""What the forms of graphs (graph_forms.py) are about: sizes of examples, inputs, calls."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch

Feeds = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Size:
    """Of an example: rows, latent height and width, tokens."""

    rows: int = 2
    height: int = 37  # odd: the graph of a UNet then serves every size, not only those that it halves evenly
    width: int = 35
    tokens: int = 77


@dataclass(frozen=True)
class Example:
    """An input of a graph with the names of its dynamic dimensions."""

    tensor: torch.Tensor
    dynamic: Mapping[int, str]


def is_float32(value: Any) -> TypeGuard[torch.Tensor]:
    """Whether a graph can take it: its numbers are of that kind, on the CPU."""
    return isinstance(value, torch.Tensor) and value.dtype is torch.float32 and value.device.type == "cpu"


def others_given(call: Mapping[str, Any], served: Collection[str]) -> bool:
    """Whether a call has arguments beside those served; none, or an empty object, is as good as not given."""
    return any(value is not None and value != {} for name, value in call.items() if name not in served)
