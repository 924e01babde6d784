"""Converts an ESRGAN checkpoint to the ONNX network that postprocessing/superres.py runs, and compares the two."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from postprocessing.networks import build

_SHAPES = ((1, 3, 64, 64), (3, 3, 48, 80))  # batch, channels, height, width that the two are compared on


@dataclass(frozen=True)
class Conversion:
    """`worst`: largest difference of an output value (0 to 1) between checkpoint and converted network."""

    path: Path
    kind: str
    scale: int
    parameters: int
    worst: float


def convert(source: Path, directory: Path, tolerance: float = 1e-4) -> Conversion:
    """Write `directory`/x{scale}.onnx, if it equals the checkpoint within `tolerance`. Raises ValueError."""
    network = build(read_state(source))
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f".x{network.scale}.onnx.draft"
    try:
        _export(network, draft)
        worst = compare(network, draft)
        if worst > tolerance:
            raise ValueError(f"The converted network differs by {worst:.2e}; at most {tolerance:.0e} is allowed.")
        path = draft.rename(directory / f"x{network.scale}.onnx")
    finally:
        draft.unlink(missing_ok=True)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Conversion(path, type(network).__name__, network.scale, parameters, worst)


def read_state(source: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors or .pth file, the latter read with `weights_only`: a pickle with code is refused.

    Raises ValueError.
    """
    if source.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(source)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle's, zip's and its own errors
        raise ValueError(f"{source} cannot be read as weights only: {error}") from error
    for wrapper in ("params_ema", "params", "state_dict"):
        if isinstance(content, dict) and wrapper in content:
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"{source} holds no table of tensors.")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def compare(network: nn.Module, path: Path) -> float:
    """The largest absolute difference between the outputs of torch and ONNX Runtime for random pictures."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    worst = 0.0
    for shape in _SHAPES:
        pictures = random.random(shape, np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(pictures)).numpy()
        found = session.run(None, {session.get_inputs()[0].name: pictures})[0]
        worst = max(worst, float(np.abs(found - expected).max()))
    return worst


def _export(network: nn.Module, path: Path) -> None:
    """One self-contained file for any batch size, height and width (multiples of 4)."""
    half = torch.export.Dim("half_height", min=2, max=8192), torch.export.Dim("half_width", min=2, max=8192)
    shape = {0: torch.export.Dim("batch", min=1, max=256), 2: 2 * half[0], 3: 2 * half[1]}
    example = torch.zeros(2, 3, 32, 48)
    with torch.inference_mode():
        program = torch.onnx.export(
            network, (example,), dynamo=True, dynamic_shapes=(shape,), input_names=["image"], output_names=["enlarged"]
        )
    if program is None:
        raise ValueError("torch made no ONNX program.")
    model = program.model_proto
    onnx.checker.check_model(model)
    onnx.save(model, path)
