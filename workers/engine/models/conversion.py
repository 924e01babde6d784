"""A model's graphs, made by a command: `manage.py convert` (workers/management/commands/convert.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from workers.engine.errors import ModelUnavailable
from workers.engine.models.component_loader import load_components
from workers.engine.models.families import FAMILIES
from workers.engine.runtimes.export import ExportError
from workers.engine.runtimes.graph_folder import GraphFolder
from workers.engine.runtimes.hosting import Part, compared, hosted_by_onnx, parts_of
from workers.engine.spec import ModelSpec

CPU = torch.device("cpu")


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


def _converted(part: Part, folder: GraphFolder, anew: bool, threads: int) -> ConvertedPart:
    try:
        if anew:
            folder.remove(part.digest)
        hosted = hosted_by_onnx(part, folder, threads)
    except (ExportError, ImportError) as error:
        return ConvertedPart(part.name, str(error))
    times = compared(hosted, part.sizes, threads)
    graph = folder.find(part.digest)
    return ConvertedPart(part.name, "", graph.difference if graph else 0.0, times.eager, times.onnx)
