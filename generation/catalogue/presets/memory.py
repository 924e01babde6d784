"""What the weights of a preset take, computed from their numbers: no measurement."""

from collections.abc import Mapping
from typing import Final

BYTES: Final[Mapping[str, float]] = {"fp32": 4, "bf16": 2, "int8": 1.05}
"""Of one weight. int8: some layers stay as they are, and every row has a scale."""
_KEPT: Final = ("vae", "adapter")  # never in 8 bits


def weights_bytes(parameters: Mapping[str, int], precision: str) -> int:
    """Of all components together."""
    return round(sum(count * _each(name, precision) for name, count in parameters.items()))


def largest_bytes(parameters: Mapping[str, int], precision: str) -> int:
    """Of the largest component: what the device holds with `offload`."""
    return round(max((count * _each(name, precision) for name, count in parameters.items()), default=0))


def _each(name: str, precision: str) -> float:
    return BYTES["bf16"] if precision == "int8" and name in _KEPT else BYTES[precision]


def human(count: float) -> str:
    """1_234_567_890 -> "1.2 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
