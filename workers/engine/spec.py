"""Which model: a plain description, made from its row and configuration entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class RuntimeConfig:
    """What runs the heavy modules of models whose options do not say (runtimes/). `threads`: of a forward pass; 0: one
    for each core. `decoder_threads`: of a decoder's pass, 1 where pictures are decoded beside the steps; 0: as many.
    `choices`: the file that keeps what was measured here for "auto"."""

    default: str = "eager"
    threads: int = 0
    decoder_threads: int = 0
    choices: Path | None = None


@dataclass(frozen=True)
class ModelSpec:
    """`family` names an entry of models/families.py (or lama, remote); `source` is a directory, a file or an
    address, as the family needs it; `precision` is auto or one of precision.py; `options` are the family's.
    """

    name: str
    revision: str
    family: str
    source: str
    precision: str = "auto"
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def key(self) -> str:
        """How samples name the model: "name@revision"."""
        return f"{self.name}@{self.revision}"
