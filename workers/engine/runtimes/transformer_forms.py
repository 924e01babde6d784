"""Forms of transformers: graph_forms.py says what a form is. The tracing exporter fails on those of FLUX (the sizes of
the example stay in its graph), Qwen-Image and Z-Image (complex numbers, lists), so they have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from workers.engine.runtimes.form_values import Example, Feeds, Size, is_float32, others_given


class Sd3Form:
    """SD3Transformer2DModel: latents as a picture."""

    _TENSORS = ("hidden_states", "encoder_hidden_states", "pooled_projections")

    def fits(self, module: Any) -> bool:
        return True

    def inputs(self, module: Any, size: Size) -> dict[str, Example]:
        config, rows = module.config, size.rows
        height, width = (side // config.patch_size * config.patch_size for side in (size.height, size.width))
        latent = torch.randn(rows, config.in_channels, height, width)
        return {
            "hidden_states": Example(latent, {0: "rows", 2: "height", 3: "width"}),
            "encoder_hidden_states": Example(
                torch.randn(rows, size.tokens, config.joint_attention_dim), {0: "rows", 1: "tokens"}
            ),
            "pooled_projections": Example(torch.randn(rows, config.pooled_projection_dim), {0: "rows"}),
            "timestep": Example(torch.linspace(1, 900, rows), {0: "rows"}),
        }

    def forward(self, module: Any, feeds: Feeds) -> tuple[torch.Tensor, ...]:
        return module(**feeds, return_dict=False)

    def feeds(self, module: Any, call: Mapping[str, Any]) -> Feeds | None:
        if others_given(call, {*self._TENSORS, "timestep", "return_dict"}):
            return None
        feeds = {name: call.get(name) for name in self._TENSORS}
        if not all(is_float32(value) for value in feeds.values()):
            return None
        rows = len(call["hidden_states"])
        return {**feeds, "timestep": torch.as_tensor(call["timestep"], dtype=torch.float32).expand(rows)}

    def outputs(self, module: Any) -> list[str]:
        return ["velocity"]

    def wanted(self, module: Any, call: Mapping[str, Any]) -> list[str]:
        return ["velocity"]

    def packed(self, outputs: Sequence[torch.Tensor], call: Mapping[str, Any]) -> Any:
        if call.get("return_dict", True):
            return Transformer2DModelOutput(sample=outputs[0])
        return (outputs[0],)
