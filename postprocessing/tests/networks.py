"""Small super-resolution networks in ONNX form, built by hand, for tests of the mechanism around them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save_blur_network(path: Path, scale: int, seed: int = 0) -> None:
    """conv 5x5 -> ReLU -> conv 3x3 -> depth to space, added to the nearest-neighbour enlargement: sees 3 pixels
    around each.
    """
    random = np.random.default_rng(seed)
    first = random.normal(0, 0.08, (8, 3, 5, 5)).astype(np.float32)
    second = random.normal(0, 0.08, (3 * scale * scale, 8, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["in", "first"], ["a"], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["c"], ["detail"], blocksize=scale, mode="CRD"),
        helper.make_node("Resize", ["in", "", "scales"], ["big"], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"),
        helper.make_node("Add", ["detail", "big"], ["out"]),
    ]  # fmt: skip
    shape = ["n", 3, "h", "w"]
    graph = helper.make_graph(
        nodes,
        "blur",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3, "H", "W"])],
        [
            numpy_helper.from_array(first, "first"),
            numpy_helper.from_array(second, "second"),
            numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales"),
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
