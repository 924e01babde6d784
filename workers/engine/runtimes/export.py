"""A module of torch to a graph of ONNX without weights.

By torch's tracing exporter: 2 s of CPU for the UNet of the shipped model where the newer one (dynamo=True) takes 58,
with the same speed of the graph and the same equality; and it keeps the names of the weights, by which they are bound.
"""

from __future__ import annotations

import io
import logging
import time
import warnings
from dataclasses import dataclass
from typing import Any, Final

import torch

from workers.engine.runtimes.form_values import Feeds, Size
from workers.engine.runtimes.graph_forms import GraphForm

logger = logging.getLogger(__name__)

OPSET: Final = 20
CHECKED: Final = (Size(3, 24, 40, 77), Size(1, 9, 13, 77))  # other rows and sizes than those of the export
TOLERANCE: Final = 1e-3  # of the largest output: beyond it a graph computes something else than torch
_WEIGHTS: Final = "weights"  # what the graph calls the file that it does not have
_PREFIX: Final = "module."


class ExportError(Exception):
    """A module has no usable graph; the text says why."""


@dataclass(frozen=True)
class Graph:
    """`content`: ONNX without weights. `weights`: their names, as in the module's state. `difference`: the largest one
    to torch as a part of the largest output, at sizes that were not exported with."""

    content: bytes
    weights: tuple[str, ...]
    difference: float
    seconds: float


class _AsGraph(torch.nn.Module):
    """The module with tensors only in its signature."""

    def __init__(self, module: torch.nn.Module, form: GraphForm, names: list[str]) -> None:
        super().__init__()
        self.module = module
        self._form, self._names = form, names

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._form.forward(self.module, dict(zip(self._names, tensors, strict=True)))


@torch.no_grad()
def export_graph(module: Any, form: GraphForm) -> Graph:
    """The graph of a module with float32 weights on the CPU, compared with torch. Raises ExportError."""
    began = time.monotonic()
    try:
        content, weights = _without_weights(_exported(module, form), set(form.inputs(module, Size())))
        difference = max(_difference(content, weights, module, form, size) for size in CHECKED)
    except ImportError as error:
        raise ExportError(f"{error.name} is not installed") from error
    except Exception as error:  # the exporter and ONNX Runtime raise classes of many kinds, some made in C++
        raise ExportError(str(error).split("\n")[0][:300]) from error
    if difference > TOLERANCE:
        raise ExportError(f"its graph differs from torch by {difference:.1e} of the largest output")
    return Graph(content, weights, difference, time.monotonic() - began)


def _exported(module: Any, form: GraphForm) -> bytes:
    examples = form.inputs(module, Size())
    written = io.BytesIO()
    with warnings.catch_warnings():  # the tracer warns of each branch in Python, and that it is the older one
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _AsGraph(module, form, list(examples)).eval(),
            tuple(example.tensor for example in examples.values()),
            written,
            dynamo=False,
            export_params=False,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=form.outputs(module),
            dynamic_axes={name: dict(example.dynamic) for name, example in examples.items()},
        )
    return written.getvalue()


def _without_weights(content: bytes, inputs: set[str]) -> tuple[bytes, tuple[str, ...]]:
    """The exporter makes inputs of the weights. They become tensors whose data are elsewhere, to be bound at load; and
    notes on where in torch's source a node comes from go."""
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    weights = [value for value in graph.input if value.name not in inputs]
    kept = [value for value in graph.input if value.name in inputs]
    del graph.input[:], graph.value_info[:]
    graph.input.extend(kept)
    for value in weights:
        kind = value.type.tensor_type
        tensor = graph.initializer.add(
            name=value.name, data_type=kind.elem_type, data_location=onnx.TensorProto.EXTERNAL
        )
        tensor.dims.extend(dim.dim_value for dim in kind.shape.dim)
        for key, text in (("location", _WEIGHTS), ("offset", "0"), ("length", str(_bytes_of(tensor)))):
            tensor.external_data.add(key=key, value=text)
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    return model.SerializeToString(deterministic=True), tuple(value.name.removeprefix(_PREFIX) for value in weights)


def _bytes_of(tensor: Any) -> int:
    import numpy as np
    from onnx import helper

    return int(np.prod(list(tensor.dims), dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _difference(content: bytes, weights: tuple[str, ...], module: Any, form: GraphForm, size: Size) -> float:
    from workers.engine.runtimes.onnx_session import OnnxSession

    feeds: Feeds = {name: example.tensor for name, example in form.inputs(module, size).items()}
    expected = form.forward(module, feeds)
    found = OnnxSession(content, weights, module, threads=1).run(feeds, form.outputs(module))
    return max(
        float((one - other).abs().max() / one.abs().max().clamp(min=1e-6))
        for one, other in zip(expected, found, strict=True)
    )
