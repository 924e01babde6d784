"""A model's graphs, made by a command: `manage.py convert` (workers/management/commands/convert.py)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch

from generation.catalogue.parameters import Parameters
from generation.catalogue.samplers import AUTO
from workers.engine.errors import ModelUnavailable
from workers.engine.models.component_loader import load_components
from workers.engine.models.diffusers_model import DiffusersModel
from workers.engine.models.families import FAMILIES
from workers.engine.models.registry import make_model
from workers.engine.requests import SampleId, SampleRequest
from workers.engine.runtimes.export import ExportError
from workers.engine.runtimes.form_values import Feeds
from workers.engine.runtimes.graph_folder import GraphFolder, int8_digest
from workers.engine.runtimes.hosting import HostedModule, ModulePart, compared, hosted_by_onnx, hosted_in_int8, parts_of
from workers.engine.runtimes.int8_graph import quantised
from workers.engine.runtimes.measured_choice import ONNX
from workers.engine.spec import ModelSpec

CPU: Final = torch.device("cpu")
MOST_CALLS: Final = 64  # of the denoiser that calibrate: each is run once more, with every output noted
CALIBRATION_STEPS: Final = 8
CALIBRATION_SIDE: Final = 256  # pixels


@dataclass(frozen=True)
class ConvertedPart:
    """`difference` to torch as a part of the largest output; `eager`, `onnx`: seconds of a pass by rows."""

    name: str
    problem: str = ""
    difference: float = 0.0
    eager: Mapping[int, float] = field(default_factory=dict)
    onnx: Mapping[int, float] = field(default_factory=dict)

    def line(self) -> str:
        """For a terminal."""
        if self.problem:
            return f"{self.name:16} stays with torch: {self.problem}"
        times = ", ".join(
            f"{rows} rows {1000 * self.eager[rows]:.0f} -> {1000 * self.onnx[rows]:.0f} ms" for rows in self.eager
        )
        return f"{self.name:16} differs by {self.difference:.1e}; {times}"


@torch.no_grad()
def convert_to_int8(spec: ModelSpec, prompts: Sequence[str], threads: int) -> ConvertedPart:
    """The denoiser's graph in 8 bits, calibrated by pictures of these prompts. Raises ModelUnavailable."""
    runtime = replace(spec.runtime, threads=threads)
    model = make_model(replace(spec, precision="fp32", options={**spec.options, "runtime": ONNX}, runtime=runtime), CPU)
    model.load()
    name = FAMILIES[spec.family].denoiser
    if not isinstance(model, DiffusersModel) or name not in model.hosted:
        raise ModelUnavailable(f"the {name} of {spec.key} has no graph to quantise")
    module, folder = model.heavy[name].module, GraphFolder(spec.source)
    part = ModulePart(name, module, module, is_denoiser=True)
    calls = _calls(model, model.hosted[name], prompts)
    graph = folder.find(part.digest) or folder.make(name, module, model.hosted[name].form, part.digest)
    try:
        made = quantised(graph, part.module, calls)
    except (ExportError, ImportError) as error:
        return ConvertedPart(f"{name}, int8", str(error))
    notes = {"prompts": len(prompts), "calls": len(calls)}
    folder.keep(f"{name}-int8", type(module).__name__, int8_digest(part.digest, part.module), made, notes)
    hosted = hosted_in_int8(part, folder, threads)
    if hosted is None:
        return ConvertedPart(f"{name}, int8", "its graph could not be written")
    times = compared(hosted, part.sizes, threads)
    return ConvertedPart(f"{name}, int8", "", 0.0, times.eager, times.onnx)


def _calls(model: DiffusersModel, hosted: HostedModule, prompts: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """The denoiser's inputs while pictures of these prompts are made: MOST_CALLS of them, from all steps."""
    every = max(1, len(prompts) * CALIBRATION_STEPS // MOST_CALLS)
    found: list[dict[str, np.ndarray]] = []
    run, seen = hosted.session.run, itertools.count()

    def noted(feeds: Feeds, outputs: Sequence[str]) -> list[torch.Tensor]:
        if next(seen) % every == 0:
            found.append({name: tensor.contiguous().numpy().copy() for name, tensor in feeds.items()})
        return run(feeds, outputs)

    hosted.session.run = noted  # type: ignore[method-assign]
    try:
        for number, text in enumerate(prompts):
            asked = Parameters(
                "text2img", text, "", CALIBRATION_SIDE, CALIBRATION_SIDE, CALIBRATION_STEPS, 4.0, AUTO, 7
            )
            model.infer(SampleRequest(SampleId("calibration", number), asked, model.spec.key, 3), lambda *_: None)
    finally:
        hosted.session.run = run  # type: ignore[method-assign]
    return found


@torch.no_grad()
def convert(spec: ModelSpec, anew: bool, threads: int) -> list[ConvertedPart]:
    """Make the graphs that are not there or not current (`anew`: all), and time them. Raises ModelUnavailable."""
    family = FAMILIES.get(spec.family)
    if family is None:
        raise ModelUnavailable(f"models of the family {spec.family} have no graphs")
    components = load_components(spec, CPU)
    for component in components.values():
        if isinstance(component, torch.nn.Module):
            component.eval().requires_grad_(False)
    if family.denoiser not in components:
        raise ModelUnavailable(f"model {spec.key} has no {family.denoiser}")
    folder = GraphFolder(spec.source)
    return [_converted(part, folder, anew, threads) for part in parts_of(components, family.denoiser)]


def _converted(part: ModulePart, folder: GraphFolder, anew: bool, threads: int) -> ConvertedPart:
    try:
        if anew:
            folder.remove(part.digest)
        hosted = hosted_by_onnx(part, folder, threads)
    except (ExportError, ImportError) as error:
        return ConvertedPart(part.name, str(error))
    times = compared(hosted, part.sizes, threads)
    graph = folder.find(part.digest)
    return ConvertedPart(part.name, "", graph.difference if graph else 0.0, times.eager, times.onnx)
