"""Passes of single modules by runtime and rows, in one process and in turns: `python -m deploy.bench.models.parts`."""

import copy
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch

from deploy.bench.models.variants import CHANNELS_LAST, EAGER, ONNX, ONNX_INT8, OPENVINO, here
from workers.engine.models.component_loader import load_components
from workers.engine.models.families import FAMILIES
from workers.engine.runtimes.export import Graph
from workers.engine.runtimes.form_values import Size
from workers.engine.runtimes.graph_folder import GraphFolder
from workers.engine.runtimes.hosting import HostedModule, ModulePart, hosted_by_onnx, hosted_in_int8, parts_of
from workers.engine.runtimes.weights_in_graph import with_weights
from workers.engine.spec import ModelSpec

ROWS: Final = (1, 2, 4, 8, 16)
SIDE: Final = 32  # latents: pictures of 256 pixels
PASSES: Final = 6
PAUSE_S: Final = 0.02  # after each pass: torch's threads wait for the next one by spinning
Pass = Callable[[], object]


def measure_parts(spec: ModelSpec, threads: int, rows: Sequence[int] = ROWS, passes: int = PASSES) -> dict[str, Any]:
    """{part: {rows: {runtime: {"ms", "cpu_ms"}}}}: of the quickest pass each, wall time and CPU time of the process."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(threads)
    components = load_components(spec, torch.device("cpu"))
    for component in components.values():
        if isinstance(component, torch.nn.Module):
            component.eval().requires_grad_(False)
    found: dict[str, Any] = {}
    for part in parts_of(components, FAMILIES[spec.family].denoiser):
        folder = GraphFolder(spec.source)
        hosted = hosted_by_onnx(part, folder, threads)
        ways = _Ways(part, hosted, folder, threads)
        found[part.name] = {count: _quickest(ways.of(Size(count, SIDE, SIDE)), passes) for count in rows}
    return found


class _Ways:
    """The same pass of a module by each runtime."""

    def __init__(self, part: ModulePart, hosted: HostedModule, folder: GraphFolder, threads: int) -> None:
        graph = folder.find(part.digest)
        self._hosted = hosted
        self._laid_out = HostedModule(
            ModulePart(part.name, copy.deepcopy(part.module).to(memory_format=torch.channels_last), part.component),
            hosted.form,
            hosted.session,
        )
        wanted = OPENVINO in here() and graph is not None
        self._int8 = hosted_in_int8(part, folder, threads) if part.is_denoiser else None
        self._openvino = _openvino(graph, hosted, part, threads) if wanted and graph else None

    def of(self, size: Size) -> dict[str, Pass]:
        eager, onnx = self._hosted.ways(size)
        ways = {EAGER: eager, CHANNELS_LAST: self._laid_out.ways(size)[0], ONNX: onnx}
        if self._int8 is not None:
            ways[ONNX_INT8] = self._int8.ways(size)[1]
        if self._openvino is not None:
            ways[OPENVINO] = self._openvino(size)
        return ways


def _quickest(ways: Mapping[str, Pass], passes: int) -> dict[str, dict[str, float]]:
    best = {name: [float("inf"), float("inf")] for name in ways}
    for number in range(passes + 1):  # the first one does not count
        for name, run in ways.items():
            time.sleep(PAUSE_S)
            began, cpu = time.perf_counter(), time.process_time()
            run()
            taken = time.perf_counter() - began, time.process_time() - cpu
            if number:
                best[name] = [min(pair) for pair in zip(best[name], taken, strict=True)]
    return {name: {"ms": round(1000 * wall, 1), "cpu_ms": round(1000 * cpu, 1)} for name, (wall, cpu) in best.items()}


def _openvino(graph: Graph, hosted: HostedModule, part: ModulePart, threads: int) -> Callable[[Size], Pass]:
    """OpenVINO with the same graph, its weights written into it."""
    import openvino

    core = openvino.Core()
    model = core.read_model(with_weights(graph, part.module).SerializeToString())
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                                                 "INFERENCE_PRECISION_HINT": "f32"})  # fmt: skip

    def way(size: Size) -> Pass:
        feeds = {name: one.tensor.numpy() for name, one in hosted.form.inputs(part.module, size).items()}
        return lambda: compiled(feeds)

    return way


def rates(found: Mapping[str, Any]) -> Iterator[tuple[str, int, dict[str, float]]]:
    """(part, rows, how many times quicker than eager by runtime)."""
    for part, by_rows in found.items():
        for rows, by_runtime in by_rows.items():
            eager = by_runtime[EAGER]["cpu_ms"]
            yield part, int(rows), {name: round(eager / one["cpu_ms"], 2) for name, one in by_runtime.items()}


if __name__ == "__main__":
    case = json.loads(sys.argv[1])
    spec = ModelSpec(case["name"], "1", case["family"], case["source"], "fp32", case["options"])
    print(json.dumps(measure_parts(spec, case["threads"], case["rows"], case["passes"])))
