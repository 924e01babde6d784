"""Control pictures drawn from photos by networks of their own: depth and poses.

`options["preprocessors"]` of a model maps the control type to a folder, relative to the model's:

| type     | folder                                                        | needs                                    |
|----------|---------------------------------------------------------------|------------------------------------------|
| depth    | a Depth Anything model in transformers' format                | nothing more                             |
| openpose | the annotators of ControlNet (body_pose_model.pth and others) | the package controlnet-aux (GPU extra)   |

They run on the CPU in a thread of their own, while the engine steps on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch

from workers.engine.errors import InvalidSample, ModelUnavailable
from workers.engine.spec import ModelSpec

DEPTH_SIDE: Final = 518  # pixels of the shorter side that Depth Anything was trained with
DEPTH_STEP: Final = 14  # its patches
MEAN = np.array((0.485, 0.456, 0.406), np.float32)  # of ImageNet, as it was trained
DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)

Draw = Callable[[np.ndarray], np.ndarray]
"""uint8 [H, W, 3] RGB photo -> uint8 [H, W, 3] RGB control picture."""


class Preprocessors:
    """The preprocessors of one model, each loaded at its first use. Methods may be called from any thread."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._folders: Mapping[str, str] = spec.options.get("preprocessors", {})
        self._loaded: dict[str, Draw] = {}
        self._lock = threading.Lock()

    def draw(self, control_type: str, photo: np.ndarray) -> np.ndarray:
        """The control picture of a photo. Raises InvalidSample where this installation has no preprocessor for it, and
        ModelUnavailable when its weights cannot be read."""
        with self._lock:
            if control_type not in self._loaded:
                self._loaded[control_type] = self._load(control_type)
            return self._loaded[control_type](photo)

    def _load(self, control_type: str) -> Draw:
        loaders = {"depth": depth_of, "openpose": poses_of}
        if control_type not in self._folders or control_type not in loaders:
            raise InvalidSample(
                f"the control picture looks like a photo, and model {self._spec.name} has no preprocessor for "
                f"{control_type} here; send a ready {control_type} picture, or say control_ready: true if it is one"
            )
        folder = Path(self._spec.source, self._folders[control_type])
        try:
            return loaders[control_type](folder)
        except InvalidSample:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            message = f"the {control_type} preprocessor of {self._spec.key} could not be loaded: {error}"
            raise ModelUnavailable(message) from error


def depth_of(folder: Path) -> Draw:
    """Light is near, as ControlNet's depth pictures are."""
    from transformers import DepthAnythingForDepthEstimation

    network = DepthAnythingForDepthEstimation.from_pretrained(folder, local_files_only=True).eval()

    def draw(photo: np.ndarray) -> np.ndarray:
        height, width = photo.shape[:2]
        scale = DEPTH_SIDE / min(height, width)
        size = tuple(max(DEPTH_STEP, round(side * scale / DEPTH_STEP) * DEPTH_STEP) for side in (width, height))
        sized = cv2.resize(photo, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        normal = torch.from_numpy((sized - MEAN) / DEVIATION).permute(2, 0, 1)[None]
        with torch.no_grad():
            nearness = network(normal).predicted_depth[0].numpy()
        span = max(float(nearness.max() - nearness.min()), 1e-6)
        grey = ((nearness - nearness.min()) / span * 255).round().astype(np.uint8)
        return np.repeat(cv2.resize(grey, (width, height), interpolation=cv2.INTER_CUBIC)[:, :, None], 3, axis=2)

    return draw


def poses_of(folder: Path) -> Draw:
    """Coloured limbs on black. Raises InvalidSample without the package."""
    try:
        import controlnet_aux  # type: ignore[import-not-found]
    except ImportError as error:
        raise InvalidSample(
            "poses are drawn by the package controlnet-aux, which is not installed here (deploy/requirements-gpu.txt); "
            "send a ready openpose picture"
        ) from error
    detector: Any = controlnet_aux.OpenposeDetector.from_pretrained(str(folder))

    def draw(photo: np.ndarray) -> np.ndarray:
        height, width = photo.shape[:2]
        side = min(height, width)
        drawn = detector(photo, detect_resolution=min(512, side), image_resolution=side, output_type="np")
        return np.ascontiguousarray(cv2.resize(drawn, (width, height)))

    return draw
