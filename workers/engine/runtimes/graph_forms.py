"""How the call of a module becomes named tensors of a graph, and its output becomes what the pipeline expects.

One form for each class of module that can be exported. A call with anything that its form does not know is not served:
torch then runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPTextModelOutput

from workers.engine.runtimes.form_values import Example, Feeds, Size, is_float32, others_given
from workers.engine.runtimes.transformer_forms import Sd3Form


class GraphForm(Protocol):
    """`outputs` of the graph of a module are named in their order."""

    def fits(self, module: Any) -> bool:
        """Whether this module, by its configuration, is of this form."""
        ...

    def inputs(self, module: Any, size: Size) -> dict[str, Example]:
        """Random inputs of a size, in the order of the graph's."""
        ...

    def outputs(self, module: Any) -> list[str]: ...

    def forward(self, module: Any, feeds: Feeds) -> tuple[torch.Tensor, ...]:
        """What the graph computes, by torch. Every input is given."""
        ...

    def feeds(self, module: Any, call: Mapping[str, Any]) -> Feeds | None:
        """The inputs for a call with these named arguments; None: the graph cannot serve it."""
        ...

    def wanted(self, module: Any, call: Mapping[str, Any]) -> list[str]:
        """Outputs that the call needs."""
        ...

    def packed(self, outputs: Sequence[torch.Tensor], call: Mapping[str, Any]) -> Any:
        """The wanted outputs in the form in which the module returns them."""
        ...


class UNetForm:
    """UNet2DConditionModel of Stable Diffusion and SDXL. Residuals of ControlNets are inputs that may be broadcast: a
    call without any feeds one zero for each, which costs nothing that could be measured (mini, 1 to 8 rows).
    """

    _SERVED = frozenset(
        {"sample", "timestep", "encoder_hidden_states", "timestep_cond", "added_cond_kwargs", "return_dict",
         "down_block_additional_residuals", "mid_block_additional_residual"}
    )  # fmt: skip

    def fits(self, module: Any) -> bool:
        config = module.config
        plain = config.class_embed_type is None and config.encoder_hid_dim_type is None
        return plain and config.addition_embed_type in (None, "text_time") and type(config.cross_attention_dim) is int

    def inputs(self, module: Any, size: Size) -> dict[str, Example]:
        config, rows = module.config, {0: "rows"}
        latent = torch.randn(size.rows, config.in_channels, size.height, size.width)
        found = {
            "sample": Example(latent, {0: "rows", 2: "height", 3: "width"}),
            "timestep": Example(torch.linspace(1, 900, size.rows), rows),
            "encoder_hidden_states": Example(
                torch.randn(size.rows, size.tokens, config.cross_attention_dim), {0: "rows", 1: "tokens"}
            ),
        }
        if config.addition_embed_type:
            width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            found["text_embeds"] = Example(torch.randn(size.rows, width), rows)
            found["time_ids"] = Example(torch.full((size.rows, 6), 64.0), rows)
        if config.time_cond_proj_dim:
            found["timestep_cond"] = Example(torch.randn(size.rows, config.time_cond_proj_dim), rows)
        for number, shape in enumerate(_residual_shapes(module, size)):
            name = f"residual_{number}"
            sides = {dim: f"{name}_{dim}" for dim in range(4)}
            found[name] = Example(torch.randn(size.rows, *shape), sides)
        return found

    def outputs(self, module: Any) -> list[str]:
        return ["noise"]

    def forward(self, module: Any, feeds: Feeds) -> tuple[torch.Tensor, ...]:
        residuals = tuple(value for name, value in feeds.items() if name.startswith("residual_"))
        added = {name: feeds[name] for name in ("text_embeds", "time_ids") if name in feeds}
        return module(
            feeds["sample"], feeds["timestep"], feeds["encoder_hidden_states"],
            timestep_cond=feeds.get("timestep_cond"), added_cond_kwargs=added or None,
            down_block_additional_residuals=residuals[:-1], mid_block_additional_residual=residuals[-1],
            return_dict=False,
        )  # fmt: skip

    def feeds(self, module: Any, call: Mapping[str, Any]) -> Feeds | None:
        if others_given(call, self._SERVED):
            return None
        config, sample, text = module.config, call.get("sample"), call.get("encoder_hidden_states")
        if not is_float32(sample) or not is_float32(text):
            return None
        times = torch.as_tensor(call["timestep"], dtype=torch.float32).expand(len(sample))
        feeds = {"sample": sample, "timestep": times, "encoder_hidden_states": text}
        added = call.get("added_cond_kwargs") or {}
        if config.addition_embed_type:
            if set(added) != {"text_embeds", "time_ids"}:
                return None
            feeds |= {name: added[name].float() for name in ("text_embeds", "time_ids")}
        if config.time_cond_proj_dim:
            if call.get("timestep_cond") is None:
                return None
            feeds["timestep_cond"] = call["timestep_cond"].float()
        down, middle = call.get("down_block_additional_residuals"), call.get("mid_block_additional_residual")
        if (down is None) != (middle is None):
            return None
        residuals = [torch.zeros(1, 1, 1, 1)] * _residual_count(module) if down is None else [*down, middle]
        if any(one.shape[0] not in (1, len(sample)) for one in residuals):
            return None
        return feeds | {f"residual_{number}": one for number, one in enumerate(residuals)}

    def wanted(self, module: Any, call: Mapping[str, Any]) -> list[str]:
        return ["noise"]

    def packed(self, outputs: Sequence[torch.Tensor], call: Mapping[str, Any]) -> Any:
        if call.get("return_dict", True):
            return UNet2DConditionOutput(sample=outputs[0])
        return (outputs[0],)


class DecoderForm:
    """The decoder of an AutoencoderKL, behind its first 1x1 convolution: tiling and slicing stay with the VAE."""

    def fits(self, module: Any) -> bool:
        return hasattr(module, "conv_in") and module.conv_in.weight.ndim == 4

    def inputs(self, module: Any, size: Size) -> dict[str, Example]:
        latent = torch.randn(size.rows, module.conv_in.in_channels, size.height, size.width)
        return {"sample": Example(latent, {0: "rows", 2: "height", 3: "width"})}

    def outputs(self, module: Any) -> list[str]:
        return ["picture"]

    def forward(self, module: Any, feeds: Feeds) -> tuple[torch.Tensor, ...]:
        return (module(feeds["sample"]),)

    def feeds(self, module: Any, call: Mapping[str, Any]) -> Feeds | None:
        served = call.get("latent_embeds") is None and is_float32(call.get("sample"))
        return {"sample": call["sample"]} if served else None

    def wanted(self, module: Any, call: Mapping[str, Any]) -> list[str]:
        return ["picture"]

    def packed(self, outputs: Sequence[torch.Tensor], call: Mapping[str, Any]) -> Any:
        return outputs[0]


class ClipForm:
    """CLIPTextModel, and the one with a projection: the last and every hidden layer, and the pooled output."""

    _PLAIN = ("attention_mask", "position_ids", "output_attentions")

    def fits(self, module: Any) -> bool:
        return True

    def inputs(self, module: Any, size: Size) -> dict[str, Example]:
        words = torch.randint(0, module.config.vocab_size, (size.rows, min(size.tokens, 77)))
        words[:, -1] = module.config.eos_token_id
        return {"input_ids": Example(words, {0: "rows", 1: "tokens"})}

    def outputs(self, module: Any) -> list[str]:
        return ["last", "pooled", *(f"hidden_{layer}" for layer in range(module.config.num_hidden_layers + 1))]

    def forward(self, module: Any, feeds: Feeds) -> tuple[torch.Tensor, ...]:
        found = module(feeds["input_ids"], output_hidden_states=True)
        pooled = found.text_embeds if hasattr(found, "text_embeds") else found.pooler_output
        return (found.last_hidden_state, pooled, *found.hidden_states)

    def feeds(self, module: Any, call: Mapping[str, Any]) -> Feeds | None:
        words = call.get("input_ids")
        known = {"input_ids", "output_hidden_states", "return_dict", *self._PLAIN}
        asked = any(call.get(name) is not None and call[name] is not False for name in self._PLAIN)
        if not set(call) <= known or asked or call.get("return_dict") is False or words is None:
            return None
        return {"input_ids": words.long()} if words.device.type == "cpu" else None

    def wanted(self, module: Any, call: Mapping[str, Any]) -> list[str]:
        return self.outputs(module) if call.get("output_hidden_states") else ["last", "pooled"]

    def packed(self, outputs: Sequence[torch.Tensor], call: Mapping[str, Any]) -> Any:
        last, pooled, *hidden = outputs
        layers = tuple(hidden) or None
        return BaseModelOutputWithPooling(last_hidden_state=last, pooler_output=pooled, hidden_states=layers)


class ProjectedClipForm(ClipForm):
    """CLIPTextModelWithProjection."""

    def packed(self, outputs: Sequence[torch.Tensor], call: Mapping[str, Any]) -> Any:
        last, pooled, *hidden = outputs
        return CLIPTextModelOutput(text_embeds=pooled, last_hidden_state=last, hidden_states=tuple(hidden) or None)


_FORMS: Mapping[str, GraphForm] = {
    "UNet2DConditionModel": UNetForm(),
    "SD3Transformer2DModel": Sd3Form(),
    "Decoder": DecoderForm(),
    "CLIPTextModel": ClipForm(),
    "CLIPTextModelWithProjection": ProjectedClipForm(),
}


def form_of(module: Any) -> GraphForm | None:
    """The form of a module's class, if there is one and its configuration fits."""
    form = _FORMS.get(type(module).__name__)
    return form if form is not None and form.fits(module) else None


def _residual_count(unet: Any) -> int:
    return 2 + sum(len(block.resnets) + len(block.downsamplers or ()) for block in unet.down_blocks)


def _residual_shapes(unet: Any, size: Size) -> list[tuple[int, int, int]]:
    """Channels, height and width of what a ControlNet adds: after the first convolution, each layer on the way down
    and each halving, and in the middle."""
    height, width = size.height, size.width
    shapes = [(unet.conv_in.out_channels, height, width)]
    for block in unet.down_blocks:
        shapes += [(layer.out_channels, height, width) for layer in block.resnets]
        if block.downsamplers:
            height, width = -(-height // 2), -(-width // 2)
            shapes.append((block.resnets[-1].out_channels, height, width))
    return [*shapes, (unet.mid_block.resnets[-1].out_channels, height, width)]
