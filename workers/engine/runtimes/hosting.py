"""Puts the heavy modules of a loaded model onto their runtime.

A hosted module stays what it is: class, configuration, weights and submodules are torch's. Only its call goes to the
session. So merge rules, ControlNets and LoRAs see no difference, and while a row of a batch has a LoRA torch runs that
batch (lora.py takes the call away and gives it back). A call that a graph cannot serve runs in torch, too.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import torch

from workers.engine.runtimes.export import ExportError
from workers.engine.runtimes.form_values import Feeds, Size
from workers.engine.runtimes.graph_folder import GraphFolder, int8_digest, source_digest
from workers.engine.runtimes.graph_forms import GraphForm, form_of
from workers.engine.runtimes.measured_choice import (
    AUTO,
    EAGER,
    ONNX,
    ONNX_INT8,
    RUNTIMES,
    Comparison,
    KeptChoices,
    machine,
    quickest,
)
from workers.engine.runtimes.onnx_session import OnnxSession
from workers.engine.spec import ModelSpec
from workers.engine.threads import engine_threads

logger = logging.getLogger(__name__)

DENOISER_ROWS: Final = (1, 4)  # of the passes by which `auto` chooses; of other parts one row
DENOISER_SIDE: Final = 32  # latents
OTHER_SIDE: Final = 16


@dataclass(frozen=True)
class ModulePart:
    """A module that may be hosted. `component`: the configured one that it is, or is a part of."""

    name: str
    module: Any
    component: Any
    is_denoiser: bool = False

    @property
    def is_decoder(self) -> bool:
        return self.name == "vae_decoder"

    @property
    def sizes(self) -> Sequence[Size]:
        """Of the passes by which `auto` chooses."""
        if self.is_denoiser:
            return [Size(rows, DENOISER_SIDE, DENOISER_SIDE) for rows in DENOISER_ROWS]
        return [Size(1, OTHER_SIDE, OTHER_SIDE)]

    @property
    def digest(self) -> str:
        """Of all that its graph depends on."""
        config = self.component.config
        return source_digest(self.module, config if isinstance(config, Mapping) else config.to_dict())


class HostedModule:
    """A module whose calls go to a session. `calls` were served by it, `fallbacks` by torch."""

    def __init__(self, part: ModulePart, form: GraphForm, session: OnnxSession) -> None:
        self.name = part.name
        self.session = session
        self.calls = self.fallbacks = 0
        self._module, self.form = part.module, form
        self._names = list(inspect.signature(part.module.forward).parameters)
        self._plain = part.module._call_impl
        self._failed = False

    def take_over(self) -> None:
        """From now on calls of the module come here. `_compiled_call_impl` is where torch.compile puts itself, too."""
        self._module._compiled_call_impl = self

    def ways(self, size: Size) -> tuple[Callable[[], object], Callable[[], object]]:
        """A pass of that size by torch, and the same one by the session, as measurements call them."""
        feeds = {name: example.tensor for name, example in self.form.inputs(self._module, size).items()}
        outputs = self.form.outputs(self._module)
        return (lambda: self._by_torch(feeds)), (lambda: self.session.run(feeds, outputs))

    def _by_torch(self, feeds: Feeds) -> object:
        """Also while a session has the module."""
        taken = self._module._compiled_call_impl
        self._module._compiled_call_impl = None
        try:
            return self.form.forward(self._module, feeds)
        finally:
            self._module._compiled_call_impl = taken

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = {**dict(zip(self._names, args, strict=False)), **kwargs}
        feeds = self.form.feeds(self._module, call)
        if feeds is not None:
            try:
                outputs = self.session.run(feeds, self.form.wanted(self._module, call))
            except Exception as error:  # classes of its own, made in C++
                if not self._failed:
                    logger.warning("%s: torch runs what ONNX Runtime could not: %s", self.name, error)
                self._failed = True
            else:
                self.calls += 1
                return self.form.packed(outputs, call)
        self.fallbacks += 1
        return self._plain(*args, **kwargs)


def parts_of(components: Mapping[str, Any], denoiser: str) -> Iterator[ModulePart]:
    """Those that have a form for a graph."""
    parts = [ModulePart(denoiser, components[denoiser], components[denoiser], is_denoiser=True)]
    texts = {name: one for name, one in components.items() if name.startswith("text_encoder") and one is not None}
    parts += [ModulePart(name, one, one) for name, one in texts.items()]
    if hasattr(components.get("vae"), "decoder"):
        parts.append(ModulePart("vae_decoder", components["vae"].decoder, components["vae"]))
    return (part for part in parts if form_of(part.module) is not None)


def host(
    components: Mapping[str, Any], denoiser: str, spec: ModelSpec, device: torch.device
) -> dict[str, HostedModule]:
    """Put the parts of a loaded model onto the runtime that `options["runtime"]`, or else the worker's default, names.
    What cannot be, stays with torch, with one log line. Returns the hosted ones by name."""
    wanted = spec.options.get("runtime", spec.runtime.default)
    if wanted not in RUNTIMES:
        logger.warning("runtime %s of %s is unknown; known: %s", wanted, spec.key, ", ".join(RUNTIMES))
        return {}
    folder = GraphFolder(spec.source)
    if wanted == EAGER or (wanted == AUTO and not folder.entries()):
        return {}
    if reason := _obstacle(spec, components, denoiser, device):
        if wanted in (ONNX, ONNX_INT8):
            logger.warning("runtime %s of %s is left out: %s", wanted, spec.key, reason)
        return {}
    threads = spec.runtime.threads or engine_threads(device)
    choices = KeptChoices(spec.runtime.choices)
    hosted = {}
    for part in parts_of(components, denoiser):
        try:
            count = (part.is_decoder and spec.runtime.decoder_threads) or threads
            one = _hosted(part, folder, count, choices if wanted == AUTO else None)
            if wanted == ONNX_INT8 and part.is_denoiser:
                one = hosted_in_int8(part, folder, threads) or one
        except (ExportError, ImportError) as error:
            logger.warning("%s of %s stays with torch: %s", part.name, spec.key, error)
            continue
        if one is not None:
            one.take_over()
            hosted[part.name] = one
    logger.info("model %s: ONNX Runtime runs %s", spec.key, ", ".join(hosted) or "nothing")
    return hosted


def _obstacle(spec: ModelSpec, components: Mapping[str, Any], denoiser: str, device: torch.device) -> str:
    if device.type != "cpu":
        return "graphs are run on a CPU only"
    dtype = next(components[denoiser].parameters()).dtype
    if dtype is not torch.float32 or spec.precision == "int8":
        return f"the weights are of {'8 bits' if spec.precision == 'int8' else dtype}, graphs are of float32"
    if components[denoiser]._compiled_call_impl is not None:
        return "the speed setting compile was asked for"
    return "" if find_spec("onnxruntime") else "onnxruntime is not installed"


def _hosted(part: ModulePart, folder: GraphFolder, threads: int, choices: KeptChoices | None) -> HostedModule | None:
    """The part with its session; None: torch is as quick. With `choices` that is looked up, or measured."""
    import onnxruntime

    key = f"{part.name} {part.digest[:12]}, onnxruntime {onnxruntime.__version__}, {machine(threads)}"
    kept = choices.runtime(key) if choices is not None else ONNX
    if kept == EAGER:
        return None
    hosted = hosted_by_onnx(part, folder, threads)
    if choices is not None and kept is None:
        comparison = compared(hosted, part.sizes, threads)
        choices.put(key, comparison.as_entry())
        logger.info("%s: %s", key, comparison.as_entry())
        if comparison.winner == EAGER:
            return None
    return hosted


def hosted_by_onnx(part: ModulePart, folder: GraphFolder, threads: int) -> HostedModule:
    """The part with its session; its graph is made where there is none. Raises ExportError."""
    form = form_of(part.module)
    assert form is not None, "parts have a form"
    graph = folder.find(part.digest) or folder.make(part.name, part.module, form, part.digest)
    return HostedModule(part, form, OnnxSession(graph.content, graph.weights, part.module, threads))


def hosted_in_int8(part: ModulePart, folder: GraphFolder, threads: int) -> HostedModule | None:
    """The part with the session of its 8-bit graph, which only a command makes (conversion.py)."""
    form, graph = form_of(part.module), folder.find(int8_digest(part.digest, part.module))
    if form is None or graph is None:
        logger.warning("%s has no 8-bit graph of these weights; make it: manage.py convert", part.name)
        return None
    return HostedModule(part, form, OnnxSession(graph.content, graph.weights, part.module, threads))


@torch.no_grad()
def compared(hosted: HostedModule, sizes: Sequence[Size], threads: int) -> Comparison:
    """Times of torch and of the session in the calling thread, with as many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    times = {}
    try:
        for size in sizes:
            eager, onnx = hosted.ways(size)
            times[size.rows] = quickest({EAGER: eager, ONNX: onnx})
    finally:
        torch.set_num_threads(before)
    return Comparison(
        {rows: one[EAGER] for rows, one in times.items()}, {rows: one[ONNX] for rows, one in times.items()}
    )
