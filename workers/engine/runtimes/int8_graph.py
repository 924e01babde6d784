"""A graph with weights and activations of 8 bits, calibrated by calls that the model itself made.

Static quantisation by ONNX Runtime's own tool, as pairs of QuantizeLinear and DequantizeLinear: weights by output
channel, activations by tensor. What would lose too much stays as it is: time embeddings, first and last convolution,
shortcuts (NVIDIA's recipes for diffusion models keep the same), and products of two activations. With them quantised,
too, the shipped model's pictures lose 10 dB more. Weights use 7 bits: on processors without VNNI sums of 8-bit products
overflow.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from workers.engine.runtimes.export import ExportError, Graph
from workers.engine.runtimes.weights_in_graph import with_weights

KEPT: Final = re.compile(r"time_emb|add_embedding|conv_in|conv_out|conv_shortcut")
QUANTISED: Final = ("Conv", "MatMul", "Gemm")
Call = Mapping[str, np.ndarray]


def quantised(graph: Graph, module: torch.nn.Module, calls: Sequence[Call]) -> Graph:
    """The graph in 8 bits, its weights in it. `calls`: inputs by name. Raises ExportError."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared, written = Path(folder, "prepared.onnx"), Path(folder, "quantised.onnx")
        try:
            quant_pre_process(with_weights(graph, module), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(written),
                _reader(calls),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(_sensitive(onnx.load(prepared))),
                calibrate_method=CalibrationMethod.MinMax,
            )
        except Exception as error:  # of many kinds, some made in C++
            raise ExportError(str(error).split("\n")[0][:300]) from error
        return Graph(written.read_bytes(), (), graph.difference, graph.seconds)


def _sensitive(model: Any) -> Iterator[str]:
    """Names of the nodes that are not quantised."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in QUANTISED and (KEPT.search(node.name) or not weights & set(node.input)):
            yield node.name


def _reader(calls: Sequence[Call]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Calls(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(calls)

        def get_next(self) -> dict[str, np.ndarray] | None:
            found = next(self._left, None)
            return None if found is None else dict(found)

    return Calls()
