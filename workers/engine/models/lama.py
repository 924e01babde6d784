"""Object removal in the manner of LaMa: one pass of a network that paints over the mask, no diffusion.

`source` is a TorchScript file (as LaMa is distributed) that takes a picture [B, 3, H, W] in 0..1 RGB and a mask
[B, 1, H, W] of 0 and 1 (1: paint over) and gives the whole picture back. Sides are padded to a multiple of 8 inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from workers.engine.errors import InvalidSample, ModelUnavailable
from workers.engine.interception import Phase, SharedModule, shared
from workers.engine.interface import Generated, OnStep
from workers.engine.made_picture import sized
from workers.engine.models.precision import dtype_of
from workers.engine.requests import SampleRequest
from workers.engine.spec import ModelSpec

MULTIPLE = 8


class RemovalNetwork(torch.nn.Module):
    """The scripted network under a name that has a merge rule."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] and [B, 1, H, W] -> [B, 3, H, W]."""
        return self.network(image, mask)


class RemovalModel:
    """ModelInterface for kinds "remove" and "inpaint", whose prompt it does not read; samples of one size share the
    pass."""

    precisions: ClassVar[Sequence[str]] = ("fp32",)

    def __init__(self, spec: ModelSpec, device: torch.device) -> None:
        self.spec = spec
        self.device = device
        self.heavy: dict[str, SharedModule] = {}
        self._network: torch.nn.Module | None = None

    def load(self) -> None:
        """Read the scripted network. Raises ModelUnavailable."""
        if not Path(self.spec.source).is_file():
            raise ModelUnavailable(f"model {self.spec.key}: there is no file {self.spec.source}")
        try:
            scripted = torch.jit.load(self.spec.source, map_location=self.device)
        except RuntimeError as error:
            raise ModelUnavailable(f"model {self.spec.key} could not be loaded: {error}") from error
        network = RemovalNetwork(scripted.to(dtype_of(self.spec.precision, self.device))).eval().requires_grad_(False)
        self._network, self.heavy["network"] = shared(network, Phase.DENOISE)

    def infer(self, request: SampleRequest, on_step: OnStep) -> Generated:
        """The network's whole picture; the engine takes of it what the mask covers."""
        if request.kind not in ("remove", "inpaint") or request.image is None or request.mask is None:
            raise InvalidSample(f"model {self.spec.name} removes objects: it needs a picture and a mask")
        assert self._network is not None, "infer follows load"
        picture = sized(request.image, request.width, request.height)
        mask = (sized(request.mask, request.width, request.height) > 127).astype(np.float32)
        image = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]
        padding = (0, -request.width % MULTIPLE, 0, -request.height % MULTIPLE)
        like = next(self._network.parameters())
        painted = self._network(
            functional.pad(image, padding, mode="replicate").to(like),
            functional.pad(torch.from_numpy(mask)[None, None], padding).to(like),
        )
        on_step(1, 1, None)
        result = painted[0, :, : request.height, : request.width].permute(1, 2, 0).clamp(0, 1).to("cpu", torch.float32)
        return Generated(result.numpy())

    def release(self) -> None:
        """Forget the network."""
        self._network = None
        self.heavy.clear()

    def memory_bytes(self) -> int:
        """Bytes of its parameters and buffers."""
        if self._network is None:
            return 0
        return sum(tensor.nbytes for tensor in (*self._network.parameters(), *self._network.buffers()))
