"""Precisions by name: which dtype each has, and which one is lower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from workers.engine.errors import ModelUnavailable

DTYPES: Final = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
INT8: Final = "int8"  # weights of 8 bits; computed with in the dtype of "auto" (see int8.py)
_LOWER: Final = {"fp64": "fp32", "fp32": "bf16", "bf16": INT8, "fp16": INT8}


def resolved(precision: str, device: torch.device) -> str:
    """What "auto" means on this device: fp32 on a CPU, bf16 on a GPU, fp16 on a GPU too old for that."""
    if precision != "auto":
        return precision
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the weights as they are read. Raises ModelUnavailable for an unknown word."""
    name = resolved("auto" if precision == INT8 else precision, device)
    if name not in DTYPES:
        raise ModelUnavailable(f"precision {precision!r} is not one of auto, {', '.join(DTYPES)}, {INT8}")
    return DTYPES[name]


def lower(precision: str, among: Sequence[str]) -> str | None:
    """The next lower precision that is `among` those a model can be loaded in; None if there is none."""
    following = _LOWER.get(precision)
    while following is not None and following not in among:
        following = _LOWER.get(following)
    return following
