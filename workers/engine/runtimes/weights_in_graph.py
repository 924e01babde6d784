"""A graph with the weights of a module written into it: for programs that read a file and are bound to no tensors."""

from __future__ import annotations

from typing import Any

import torch

from workers.engine.runtimes.export import Graph


def with_weights(graph: Graph, module: torch.nn.Module) -> Any:
    """An onnx.ModelProto. Below 2 GB, which is what one message may hold."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(graph.content)
    state = module.state_dict()
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            array = state[tensor.name.removeprefix("module.")].detach().contiguous().numpy()
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model
