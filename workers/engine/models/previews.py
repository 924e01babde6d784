"""A small picture of what is being made, decoded from the latents of a step that is not the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

LONGEST = 32  # latent pixels of the longer side: 256 picture pixels with the usual VAE


def preview(latents: torch.Tensor | None, decode: Callable[..., Any], config: Any) -> np.ndarray | None:
    """uint8 [h, w, 3] RGB, or None for latents that are no plain picture (the packed ones of FLUX and Qwen-Image).

    `decode` and `config` are the VAE's. The latents are shrunk first, so a preview costs a small decode at any size.
    """
    if latents is None or latents.ndim != 4:
        return None
    scale = LONGEST / max(latents.shape[2:])
    if scale < 1:
        latents = functional.interpolate(latents, scale_factor=scale, mode="area")
    unscaled = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    picture = decode(unscaled[:1], return_dict=False)[0][0]
    return ((picture / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).to("cpu", torch.uint8).numpy()
