"""Whether a file is a LoRA that can be applied: decided at its upload, from the whole file.

    header     safetensors, tensors of 16 or 32 bits, metadata that can be read
    pairs      each layer has a lower half [rank, in, ...] and an upper half [out, rank, ...], and maybe an alpha
    ranks      the halves agree, 1 to MAX_RANK
    base       the layers are those of a model of the family it was made for (lora_bases.py)
    numbers    every one is finite

The numbers are read in pieces of 1 MiB, so that the size of a file decides how long it takes and not how much memory.
The sentence of a refusal names the layer. `Faulty` is raised at the first fault.
"""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from safetensors import SafetensorError, safe_open

from generation.catalogue import lora_bases

MAX_HEADER: Final = 10 << 20  # bytes
MAX_RANK: Final = 256
MAX_ALPHA: Final = 1e6  # beyond it no training program goes, and 16 bits do not reach
_CHUNK: Final = 1 << 20
_EXPONENTS: Final = {"F16": (np.uint16, 0x7C00), "BF16": (np.uint16, 0x7F80), "F32": (np.uint32, 0x7F800000)}
"""Of each dtype the unsigned integer of its width, and the bits that are all set in what is no finite number."""
_HALVES: Final = re.compile(
    r"(?P<layer>.+?)(?:"
    r"(?P<down>\.lora_down|\.lora_A(\.default)?|(_lora|\.lora|\.lora_linear_layer)\.down)|"
    r"(?P<up>\.lora_up|\.lora_B(\.default)?|(_lora|\.lora|\.lora_linear_layer)\.up))\.weight"
)
_OTHER_KINDS: Final = {
    "hada_": "LoHa", "lokr_": "LoKr", "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "lora_mid": "LoCon with a "
    "middle part", "oft_": "OFT", "glora": "GLoRA", "ia3": "IA3",
}  # fmt: skip


class Faulty(ValueError):
    """The file can't be used; `code` is for programs, the text says what is wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Layer:
    """Shapes of the parts of one layer's pair, and the name of its alpha."""

    down: tuple[int, ...] | None = None
    up: tuple[int, ...] | None = None
    alpha: str = ""


@dataclass(frozen=True)
class _Header:
    """Shapes and dtypes by name of tensor; `spans` are the bytes of each in the file."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    spans: Mapping[str, tuple[int, int]] = field(repr=False)
    metadata: Mapping[str, str]


def checked(path: Path, family: str) -> dict[str, Any]:
    """Its `rank` and `triggers`. Raises Faulty."""
    header = _read_header(path)
    layers = _pairs(header)
    ranks = [_rank(name, layer) for name, layer in layers.items()]
    _check_metadata(header.metadata)
    halves = {name: (layer.down or (), layer.up or ()) for name, layer in layers.items()}
    if other := lora_bases.mismatch(halves, header.metadata, family):
        raise Faulty("wrong_base", other)
    with path.open("rb") as file:
        for name in header.shapes:
            _check_finite(file, header, name)
        for name, layer in layers.items():
            if layer.alpha:
                _check_alpha(name, _scalar(file, header, layer.alpha))
    return {"rank": max(ranks), "triggers": _triggers(header.metadata)}


# ---- the header


def _read_header(path: Path) -> _Header:
    """Refuses what can't be a header before anything parses it."""
    with path.open("rb") as file:
        start = file.read(9)
        length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else 0
        if not 2 <= length <= min(MAX_HEADER, path.stat().st_size) or start[8:] != b"{":
            raise Faulty("not_safetensors", "The file is not in safetensors format.")
        file.seek(8)
        text = file.read(length)
    try:
        with safe_open(str(path), "np"):  # checks that the parts lie one behind the other and fill the file
            entries = json.loads(text)
        metadata = entries.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        dtypes = {name: entry["dtype"] for name, entry in entries.items()}
        spans = {name: (8 + length + a, 8 + length + b) for name, (a, b) in _offsets(entries)}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Faulty("not_safetensors", "The file is not in safetensors format.") from error
    if not shapes:
        raise Faulty("not_a_lora", "The file has no tensors.")
    if wrong := sorted(set(dtypes.values()) - set(_EXPONENTS)):
        message = f"The tensors must be {', '.join(_EXPONENTS)}; some are {', '.join(wrong)}."
        raise Faulty("wrong_dtype", message)
    return _Header(shapes, dtypes, spans, metadata)


def _offsets(entries: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, entry in entries.items():
        start, end = entry["data_offsets"]
        yield name, (start, end)


def _check_metadata(metadata: Mapping[str, str]) -> None:
    """The scales that PEFT's configuration in a file names are numbers."""
    try:
        adapter = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        alphas = {name: value for name, value in adapter.items() if name.endswith("lora_alpha") and value is not None}
        for name, patterns in adapter.items():
            if name.endswith("alpha_pattern"):
                alphas |= patterns or {}
        numbers = {name: float(value) for name, value in alphas.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Faulty("wrong_metadata", "Its training configuration (lora_adapter_metadata) can't be read.") from error
    for name, alpha in numbers.items():
        _check_alpha(name, alpha)


def _triggers(metadata: Mapping[str, str]) -> list[str]:
    """The words that call the LoRA, as the usual training programs note them."""
    try:
        frequency = json.loads(metadata.get("ss_tag_frequency", "{}"))
        words = [word for tags in frequency.values() for word in tags]
    except (ValueError, AttributeError, TypeError, RecursionError):
        words = []
    words += metadata.get("modelspec.trigger_phrase", "").split(",")
    printable = ("".join(filter(str.isprintable, str(word))).strip()[:60] for word in words)
    return list(dict.fromkeys(filter(None, printable)))[:20]


# ---- pairs and ranks


def _pairs(header: _Header) -> dict[str, _Layer]:
    """The parts of each layer. Raises Faulty for a part that is none of a LoRA's, and for one without the other."""
    layers: dict[str, _Layer] = {}
    for name in header.shapes:
        kind = next((kind for sign, kind in _OTHER_KINDS.items() if sign in name), None)
        if kind:
            message = f"This is a {kind} ({_short(name)}); only plain LoRAs, of two matrices a layer, are supported."
            raise Faulty("unsupported_kind", message)
        if name.endswith(".alpha"):
            layers.setdefault(_plain(name.removesuffix(".alpha")), _Layer()).alpha = name
            continue
        found = _HALVES.fullmatch(name)
        if not found:
            raise Faulty("not_a_lora", f"The file has a tensor that is not part of a LoRA: {_short(name)}.")
        layer = layers.setdefault(_plain(found["layer"]), _Layer())
        half = "down" if found["down"] else "up"
        if getattr(layer, half) is not None:
            raise Faulty("not_a_lora", f"The layer {_short(found['layer'])} has two {half} halves.")
        setattr(layer, half, header.shapes[name])
    for name, parts in layers.items():
        missing = [half for half in ("down", "up") if getattr(parts, half) is None]
        if missing:
            message = f"The layer {_short(name)} lacks its {' and its '.join(missing)} half: the file is incomplete."
            raise Faulty("incomplete", message)
    return layers


def _plain(layer: str) -> str:
    """One name for the layer, whichever part of the pair it was read from."""
    return layer.replace(".processor.", ".").removesuffix(".processor")


def _rank(name: str, layer: _Layer) -> int:
    """The rank on which both halves agree. Raises Faulty."""
    down, up = layer.down or (), layer.up or ()
    kernel = up[2:]
    if len(down) not in (2, 4) or len(up) not in (2, 4) or any(side != 1 for side in kernel):
        raise Faulty("wrong_shape", f"The layer {_short(name)} has halves of shape {list(down)} and {list(up)}, which "
                     "are not those of a linear layer or a convolution.")  # fmt: skip
    if down[0] != up[1]:
        raise Faulty("wrong_rank", f"The halves of the layer {_short(name)} differ in rank: {down[0]} and {up[1]}.")
    if not 1 <= down[0] <= MAX_RANK:
        raise Faulty("wrong_rank", f"The layer {_short(name)} has rank {down[0]}; it must be from 1 to {MAX_RANK}.")
    if 0 in (*down, *up):
        raise Faulty("wrong_shape", f"The layer {_short(name)} has halves without numbers: {list(down)}, {list(up)}.")
    return down[0]


# ---- numbers


def _check_finite(file: BinaryIO, header: _Header, name: str) -> None:
    integers, exponent = _EXPONENTS[header.dtypes[name]]
    start, end = header.spans[name]
    file.seek(start)
    while start < end:
        part = np.frombuffer(file.read(min(_CHUNK, end - start)), integers)
        if not part.size:
            raise Faulty("not_safetensors", "The file ends before its tensors do.")
        if bool(((part & exponent) == exponent).any()):
            raise Faulty("not_finite", f"The tensor {_short(name)} has values that are not numbers (NaN or infinity).")
        start += part.nbytes


def _scalar(file: BinaryIO, header: _Header, name: str) -> float:
    """The one number of a tensor. Raises Faulty."""
    start, end = header.spans[name]
    if math.prod(header.shapes[name]) != 1:
        raise Faulty("wrong_shape", f"{_short(name)} must be one number; its shape is {list(header.shapes[name])}.")
    file.seek(start)
    data = file.read(end - start)
    match header.dtypes[name]:
        case "F32":
            return float(np.frombuffer(data, np.float32)[0])
        case "F16":
            return float(np.frombuffer(data, np.float16)[0])
        case _:  # the upper half of an F32
            return float(np.frombuffer(b"\0\0" + data, np.float32)[0])


def _check_alpha(name: str, alpha: float) -> None:
    if not math.isfinite(alpha) or abs(alpha) > MAX_ALPHA:
        raise Faulty("wrong_alpha", f"The alpha of {_short(name)} is {alpha:g}, which is no usable scale.")


def _short(name: str) -> str:
    """A tensor's name in a message; a file may name it anything."""
    return ascii(name)[1:-1][:120]
