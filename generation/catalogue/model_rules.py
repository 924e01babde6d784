"""What may stand in a model's row: families with the kinds that they do, options with their forms, sources.

The engine's own tables (workers/engine/models) are behind torch, which the web process does not have; a test holds the
two together.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from generation.catalogue.kinds import BY_FAMILY
from generation.catalogue.samplers import NAMES

FAMILIES: Final = BY_FAMILY
REMOTE: Final = "remote-openai"
RUNTIMES: Final = ("auto", "onnx", "onnx-int8", "eager")
SPEED: Final = ("attention", "channels_last", "compile", "offload", "vae_slicing", "vae_tiling")
_OF_ALL: Final[Mapping[str, type | tuple[type, ...]]] = {"style_prompts": bool, "languages": list, "vocabulary": str}
_OF_DIFFUSERS: Final[Mapping[str, type | tuple[type, ...]]] = {
    **_OF_ALL, "adapter": str, "controlnets": dict, "int8": dict, "preprocessors": dict, "runtime": str,
    "scheduler": dict, "speed": dict, "vae": str,
}  # fmt: skip
_OF_REMOTE: Final[Mapping[str, type | tuple[type, ...]]] = {
    **_OF_ALL, "api_key_env": str, "concurrency": int, "model": str, "response_format": str, "sizes": list,
    "timeout_s": (int, float),
}  # fmt: skip
# Of an environment that also has SECRET_KEY and the passwords of Postgres and Redis: its value goes to a stranger.
_KEY_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]*_API_KEY")
_OPTIONS: Final = {"lama": _OF_ALL, REMOTE: _OF_REMOTE}
_WORDS: Final[Mapping[Any, str]] = {
    bool: "true or false",
    list: "a list",
    str: "a text",
    dict: "an object",
    int: "a number",
}


def option_faults(family: str, options: Any) -> Iterator[str]:
    """What is wrong with a row's options."""
    if not isinstance(options, dict):
        yield 'Options are an object, for example {"speed": {"offload": true}}.'
        return
    known = _OPTIONS.get(family, _OF_DIFFUSERS)
    for name, value in options.items():
        if name not in known:
            yield f"There is no option {name!r} of {family}. Known: {', '.join(sorted(known))}."
        elif not isinstance(value, known[name]):
            kind = known[name]
            yield f"{name} is {_WORDS.get(kind, 'a number')}."
        elif name == "api_key_env" and not _KEY_VARIABLE.fullmatch(str(value)):
            yield "api_key_env is the name of a variable that ends in _API_KEY, such as OPENAI_API_KEY."
        elif name == "vocabulary" and value != Path(str(value)).name:
            yield "vocabulary is the name of a file in the model's folder."
    runtime = options.get("runtime", RUNTIMES[0])
    if isinstance(runtime, str) and runtime not in RUNTIMES:
        yield f"There is no runtime {runtime!r}. Known: {', '.join(RUNTIMES)}."
    speed = options.get("speed")
    for name in speed if isinstance(speed, dict) else ():
        if name not in SPEED:
            yield f"There is no speed setting {name!r}. Known: {', '.join(SPEED)}."


def kind_faults(family: str, kinds: Any) -> Iterator[str]:
    """Kinds that the family cannot do."""
    able = FAMILIES.get(family, ())
    if not isinstance(kinds, list) or not kinds:
        yield "Choose at least one kind of task."
    elif wrong := [str(kind) for kind in kinds if kind not in able]:
        yield f"Models of {family} cannot do {', '.join(wrong)}. They can do {', '.join(able)}."


def sampler_faults(sampler: str) -> Iterator[str]:
    if sampler not in NAMES:
        yield f"There is no sampler {sampler!r}. Known: {', '.join(NAMES)}."


def source_faults(family: str, source: str, place: Path) -> Iterator[str]:
    """What is wrong with where a model is said to lie, as far as this process can see `place`."""
    if family == REMOTE:
        if not source.startswith(("http://", "https://")):
            yield "A remote model has an address, for example https://api.openai.com/v1."
        return
    if "://" in source or source.startswith("~"):
        yield "Only remote models have an address, and ~ is nobody here. Name a folder below MODELS_DIR."
        return
    if family != "lama" and source.lower().endswith((".safetensors", ".ckpt", ".pt", ".bin", ".gguf")):
        yield f"A single file is brought into shape first: manage.py models import {source}"
        return
    if place.exists():
        return
    if source.count("/") == 1 and not place.parent.exists():
        yield f"There is no folder {source} below MODELS_DIR. A hub's models are fetched: manage.py models presets"
    else:
        yield f"There is nothing at {source} below MODELS_DIR."


def side_faults(low: int, high: int, width: int, height: int) -> Iterator[str]:
    """Sides in pixels that do not go together."""
    if any(side % 8 for side in (low, high, width, height)):
        yield "Sides are multiples of 8 pixels."
    if not low <= min(width, height) <= max(width, height) <= high:
        yield f"The default size {width}x{height} is not between {low} and {high} pixels."
