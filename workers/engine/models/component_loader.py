"""Weights from disk: the components of a diffusers model, in the precision in which they will run.

They stay in the machine's memory: what is made smaller (int8.py) or stays behind (offload.py) must never have been on
the device whole.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from workers.engine.errors import ModelUnavailable
from workers.engine.models.families import Family
from workers.engine.models.pipelines import parameters_of
from workers.engine.models.precision import dtype_of
from workers.engine.spec import ModelSpec

CLIP_TOKENS = 77  # what a pipeline reads that does not say how much


def _quiet() -> None:
    """Workers write log lines of their own: no progress bars, no remarks on settings that a sampler does not know."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


def load_components(spec: ModelSpec, device: torch.device) -> dict[str, Any]:
    """Everything a pipeline for that device is built from, by its name there, on the CPU. Raises ModelUnavailable with
    the reason."""
    _quiet()
    dtype = dtype_of(spec.precision, device)
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            spec.source, dtype=dtype, local_files_only=True, **_left_out(spec.source)
        )
        _merge_adapter(pipeline, spec)
        components = {**pipeline.components, **_replaced(pipeline, spec, dtype)}
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelUnavailable(f"model {spec.key} could not be loaded from {spec.source}: {error}") from error
    vae = components.get("vae")
    if vae is not None and dtype is torch.float16 and getattr(vae.config, "force_upcast", False):
        vae.to(torch.float32)  # its activations overflow in fp16; the pipelines would move it to and fro
    return components


def _left_out(source: str) -> dict[str, None]:
    """Parts that a model was saved without (SD3 without its large text encoder): diffusers needs their names."""
    index = json.loads(Path(source, "model_index.json").read_text())
    return {name: None for name, entry in index.items() if entry == [None, None]}


def _merge_adapter(pipeline: Any, spec: ModelSpec) -> None:
    """Make the LoRA file `options["adapter"]` (relative to the model's folder) part of the weights, once and for good:
    so a few-step form that ships as a LoRA is a model of its own. Raises what diffusers raises for a bad file."""
    if not (adapter := spec.options.get("adapter")):
        return
    path = Path(spec.source, adapter)
    if not path.is_file():
        raise OSError(f"its adapter {adapter} is not there")
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()


def _replaced(pipeline: Any, spec: ModelSpec, dtype: torch.dtype) -> dict[str, Any]:
    """Components that the options change: `vae` names the folder of another one, relative to the model's, `scheduler`
    has settings that differ from the saved ones (few-step forms want another spacing)."""
    changed: dict[str, Any] = {}
    if folder := spec.options.get("vae"):
        kind = type(pipeline.vae)
        changed["vae"] = kind.from_pretrained(Path(spec.source, folder), dtype=dtype, local_files_only=True)
    if settings := spec.options.get("scheduler"):
        changed["scheduler"] = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **settings)
    return changed


def own_family(spec: ModelSpec, family: Family) -> Family:
    """A family for a model that none is written for, by its model_index.json. Raises ModelUnavailable."""
    try:
        index = json.loads(Path(spec.source, "model_index.json").read_text())
        name, denoiser = str(index["_class_name"]), "transformer" if "transformer" in index else "unet"
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnavailable(f"model {spec.key}: {spec.source} has no readable model_index.json: {error}") from error
    if not hasattr(diffusers, name):
        raise ModelUnavailable(f"model {spec.key}: this version of diffusers has no {name}")
    reads = parameters_of(getattr(diffusers, name).__call__).get("max_sequence_length")
    limit = reads.default if reads is not None and isinstance(reads.default, int) else CLIP_TOKENS
    return replace(family, pipelines={"text2img": name}, denoiser=denoiser, max_tokens=limit)


def load_controlnets(spec: ModelSpec, device: torch.device) -> dict[str, torch.nn.Module]:
    """ControlNets by control type, on the CPU: `options["controlnets"]` maps the type to a folder, relative to the
    model's."""
    dtype = dtype_of(spec.precision, device)
    loaded = {}
    for control_type, folder in spec.options.get("controlnets", {}).items():
        path = Path(spec.source, folder)
        try:
            controlnet = diffusers.ControlNetModel.from_pretrained(path, dtype=dtype, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelUnavailable(f"ControlNet {control_type} of {spec.key} could not be loaded: {error}") from error
        loaded[control_type] = controlnet
    return loaded
