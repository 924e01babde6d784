"""What a file of weights says of itself, read without its weights: the names, shapes and types of its tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MOST_HEADER_BYTES: Final = 100 << 20  # what the safetensors library reads itself
PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
HOW_TO_CONVERT: Final = (
    "Convert it where you trust it: python -c \"import torch, safetensors.torch as s; d = torch.load('{name}', "
    "map_location='cpu', weights_only=True); d = d.get('state_dict', d); s.save_file({{k: v.contiguous().clone() for "
    "k, v in d.items() if hasattr(v, 'shape')}}, '{stem}.safetensors')\""
)

Shape = tuple[int, ...]


class Unusable(ValueError):
    """The weights cannot be used here; the text says what would be right."""


@dataclass(frozen=True)
class Header:
    """Of one .safetensors file: shape and type ("F16", "BF16", "F8_E4M3" ...) of each tensor, and its notes."""

    path: Path
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)

    def starting(self, *prefixes: str) -> Iterator[str]:
        """The names that begin with one of these."""
        return (name for name in self.shapes if name.startswith(prefixes))


def read_header(path: Path) -> Header:
    """Raises Unusable for what is no safetensors file; a pickle with the words that convert it."""
    if path.suffix.lower() in PICKLES:
        raise Unusable(
            f"{path.name} is a pickle, which can run code of its maker when it is read: only .safetensors is taken. "
            + HOW_TO_CONVERT.format(name=path.name, stem=path.stem)
        )
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            if length > MOST_HEADER_BYTES:
                raise Unusable(f"{path.name} is no safetensors file.")
            entries = json.loads(file.read(length))
        notes = entries.pop("__metadata__", None) or {}
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        dtypes = {name: entry["dtype"] for name, entry in entries.items()}
        ends = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Unusable):
            raise
        raise Unusable(f"{path.name} is no safetensors file.") from error
    if path.stat().st_size != 8 + length + ends:
        raise Unusable(f"{path.name} is incomplete: its tensors need {8 + length + ends} bytes. Download it again.")
    return Header(path, shapes, dtypes, notes)
