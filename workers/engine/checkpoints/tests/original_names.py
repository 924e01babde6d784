"""Single-file checkpoints for tests: the tensors of a folder in diffusers' format under the first releases' names."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
HEAD = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip


def write(folder: Path, path: Path, *, xl: bool = False, **notes: str) -> Path:
    """A checkpoint of SD 1.5's form, or of SDXL's."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    tensors = {f"model.diffusion_model.{key}": value for key, value in unet_names(unet).items()}
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    tensors |= {f"first_stage_model.{key}": value for key, value in vae_names(vae).items()}
    text = load_file(folder / "text_encoder" / "model.safetensors")
    first = "conditioner.embedders.0.transformer." if xl else "cond_stage_model.transformer."
    tensors |= {first + with_level(key): value for key, value in text.items()}
    if xl:
        second = load_file(folder / "text_encoder_2" / "model.safetensors")
        tensors |= {f"conditioner.embedders.1.model.{key}": value for key, value in open_clip_names(second).items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata={"format": "pt", **notes})
    return path


def with_level(key: str) -> str:
    return key if key.startswith("text_model.") else f"text_model.{key}"


def unet_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    layers = 1 + max(int(found[1]) for key in tensors if (found := re.match(r"down_blocks\.0\.resnets\.(\d+)", key)))
    attends = {key.split(".attentions")[0] for key in tensors if key.startswith("up_blocks") and ".attentions." in key}
    return {unet_name(key, layers, attends): value for key, value in tensors.items()}


def unet_name(key: str, layers: int, attends: set[str]) -> str:
    for theirs, old in HEAD.items():
        if key.startswith(theirs + "."):
            return key.replace(theirs, old, 1)
    side, rest = key.split(".", 1)
    if side == "mid_block":
        part, number, inner = rest.split(".", 2)
        place = {("resnets", "0"): 0, ("attentions", "0"): 1, ("resnets", "1"): 2}[part, number]
        return f"middle_block.{place}.{resnet(inner) if part == 'resnets' else inner}"
    block, part, number, inner = rest.split(".", 3)
    down = side == "down_blocks"
    start = (1 if down else 0) + int(block) * (layers + (1 if down else 2)) - (0 if down else int(block))
    base = f"{'input' if down else 'output'}_blocks."
    if part == "downsamplers":
        return f"{base}{start + layers}.0.{inner.replace('conv', 'op', 1)}"
    if part == "upsamplers":
        return f"{base}{start + layers}.{2 if f'up_blocks.{block}' in attends else 1}.{inner}"
    return f"{base}{start + int(number)}.{'0.' + resnet(inner) if part == 'resnets' else '1.' + inner}"


def resnet(inner: str) -> str:
    for theirs, old in RESNET.items():
        if inner.startswith(theirs):
            return inner.replace(theirs, old, 1)
    return inner


def vae_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    levels = 1 + max(int(found[1]) for key in tensors if (found := re.search(r"up_blocks\.(\d+)", key)))
    renamed = {}
    for key, value in tensors.items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", key)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0" in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            name = name.replace("to_out.0", "proj_out")
            name = re.sub(r"to_([qkv])\.", r"\1.", name)
            value = value[:, :, None, None] if value.ndim == 2 else value
        renamed[name] = value
    return renamed


def open_clip_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, value in tensors.items():
        name = key.removeprefix("text_model.")
        name = name.replace("embeddings.token_embedding.weight", "token_embedding.weight")
        name = name.replace("embeddings.position_embedding.weight", "positional_embedding")
        name = name.replace("final_layer_norm", "ln_final").replace("encoder.layers", "transformer.resblocks")
        name = name.replace("layer_norm1", "ln_1").replace("layer_norm2", "ln_2").replace("self_attn", "attn")
        name = name.replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")
        if name == "text_projection.weight":
            name, value = "text_projection", value.T
        if found := re.match(r"(.*\.attn)\.q_proj\.(weight|bias)", name):
            others = [tensors[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            renamed[f"{found[1]}.in_proj_{found[2]}"] = torch.cat(others)
        elif not re.search(r"[kv]_proj", name):
            renamed[name] = value
    return renamed
