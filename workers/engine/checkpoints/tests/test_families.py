"""Checkpoints of full size, as names and shapes without numbers: each is recognised and translated whole by the
configuration that ships.
"""

from pathlib import Path

import pytest
import torch

from workers.engine.checkpoints import configurations, single_file
from workers.engine.checkpoints.files import Header
from workers.engine.checkpoints.recognition import FileKind, recognise
from workers.engine.checkpoints.tests import original_names

UNET = "model.diffusion_model."
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _without_numbers():
    with torch.device("meta"), torch.no_grad():
        yield


def state_of(name, part):
    return single_file._empty(configurations.shipped(name).components[part]).state_dict()


def prefixed(prefix, tensors):
    return {prefix + key: value for key, value in tensors.items()}


def recognised(tensors):
    header = Header(Path("x.safetensors"), {key: tuple(value.shape) for key, value in tensors.items()}, {})
    return recognise(header)


def whole(name, tensors, parts):
    """Each of these parts is translated, or Unfit is raised."""
    for part in parts:
        component = configurations.shipped(name).components[part]
        assert single_file._translated(part, component, dict(tensors)), part


def stable_diffusion(name):
    tensors = prefixed(UNET, original_names.unet_names(state_of(name, "unet")))
    tensors |= prefixed("first_stage_model.", original_names.vae_names(state_of(name, "vae")))
    text = {original_names.with_level(key): value for key, value in state_of(name, "text_encoder").items()}
    if name.startswith("sdxl"):
        second = state_of(name, "text_encoder_2")
        tensors |= prefixed("conditioner.embedders.1.model.", original_names.open_clip_names(second))
        return tensors | prefixed("conditioner.embedders.0.transformer.", text)
    if name.startswith("sd21"):
        return tensors | prefixed("cond_stage_model.model.", original_names.open_clip_names(text))
    return tensors | prefixed("cond_stage_model.transformer.", text)


@pytest.mark.parametrize("name", ["sd15", "sd15-inpaint", "sd21", "sd21-inpaint", "sdxl", "sdxl-inpaint"])
def test_stable_diffusion(name):
    tensors = stable_diffusion(name)
    found = recognised(tensors)
    assert (found.kind, found.candidates, found.has) == (FileKind.MODEL, (name,), {"denoiser", "text", "vae"})
    parts = ["unet", "vae", "text_encoder", *(["text_encoder_2"] if name.startswith("sdxl") else [])]
    whole(name, tensors, parts)


def linear(tensors, name, out, inside):
    tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.empty(out, inside), torch.empty(out)


def flux(*, guidance):
    width, tensors = 3072, {}
    for number in range(19):
        for side in ("img", "txt"):
            block = f"double_blocks.{number}.{side}"
            linear(tensors, f"{block}_mod.lin", 6 * width, width)
            linear(tensors, f"{block}_attn.qkv", 3 * width, width)
            linear(tensors, f"{block}_attn.proj", width, width)
            linear(tensors, f"{block}_mlp.0", 4 * width, width)
            linear(tensors, f"{block}_mlp.2", width, 4 * width)
            tensors |= {f"{block}_attn.norm.{one}_norm.scale": torch.empty(128) for one in ("query", "key")}
    for number in range(38):
        block = f"single_blocks.{number}"
        linear(tensors, f"{block}.linear1", 7 * width, width)
        linear(tensors, f"{block}.linear2", width, 5 * width)
        linear(tensors, f"{block}.modulation.lin", 3 * width, width)
        tensors |= {f"{block}.norm.{one}_norm.scale": torch.empty(128) for one in ("query", "key")}
    inputs = {"time_in": 256, "vector_in": 768, **({"guidance_in": 256} if guidance else {})}
    for name, size in inputs.items():
        linear(tensors, f"{name}.in_layer", width, size)
        linear(tensors, f"{name}.out_layer", width, width)
    linear(tensors, "img_in", width, 64)
    linear(tensors, "txt_in", width, 4096)
    linear(tensors, "final_layer.linear", 64, width)
    linear(tensors, "final_layer.adaLN_modulation.1", 2 * width, width)
    return tensors


@pytest.mark.parametrize(("name", "guidance"), [("flux-dev", True), ("flux-schnell", False)])
def test_flux_as_its_maker_gives_it_and_with_all_parts_in_one(name, guidance):
    tensors = flux(guidance=guidance)
    found = recognised(tensors)
    assert (found.candidates, found.has) == ((name,), {"denoiser"})
    whole(name, tensors, ["transformer"])

    everything = prefixed(UNET, tensors) | prefixed("vae.", original_names.vae_names(state_of(name, "vae")))
    clip = {original_names.with_level(key): value for key, value in state_of(name, "text_encoder").items()}
    everything |= prefixed("text_encoders.clip_l.transformer.", clip)
    t5 = state_of(name, "text_encoder_2")
    t5.pop("encoder.embed_tokens.weight", None)
    everything |= prefixed("text_encoders.t5xxl.transformer.", t5)
    assert recognised(everything).has == {"denoiser", "text", "vae"}
    whole(name, everything, ["transformer", "vae", "text_encoder", "text_encoder_2"])


def sd3(*, layers, width, positions, norms, dual):
    tensors = {"pos_embed": torch.empty(1, positions**2, width), "x_embedder.proj.weight": torch.empty(width, 16, 2, 2),
               "x_embedder.proj.bias": torch.empty(width)}  # fmt: skip
    linear(tensors, "context_embedder", width, 4096)
    for name, size in (("t_embedder", 256), ("y_embedder", 2048)):
        linear(tensors, f"{name}.mlp.0", width, size)
        linear(tensors, f"{name}.mlp.2", width, width)
    for number in range(layers):
        for side in ("x_block", "context_block"):
            block, last = f"joint_blocks.{number}.{side}", side == "context_block" and number == layers - 1
            both = side == "x_block" and number in dual
            linear(tensors, f"{block}.adaLN_modulation.1", (2 if last else 9 if both else 6) * width, width)
            for attention in ("attn", *(["attn2"] if both else [])):
                linear(tensors, f"{block}.{attention}.qkv", 3 * width, width)
                if not last:
                    linear(tensors, f"{block}.{attention}.proj", width, width)
                if norms:
                    tensors |= {f"{block}.{attention}.ln_{one}.weight": torch.empty(64) for one in "qk"}
            if not last:
                linear(tensors, f"{block}.mlp.fc1", 4 * width, width)
                linear(tensors, f"{block}.mlp.fc2", width, 4 * width)
    linear(tensors, "final_layer.linear", 64, width)
    linear(tensors, "final_layer.adaLN_modulation.1", 2 * width, width)
    return prefixed(UNET, tensors)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("sd3-medium", {"layers": 24, "width": 1536, "positions": 192, "norms": False, "dual": ()}),
        ("sd35-medium", {"layers": 24, "width": 1536, "positions": 384, "norms": True, "dual": range(13)}),
        ("sd35-large", {"layers": 38, "width": 2432, "positions": 192, "norms": True, "dual": ()}),
    ],
)
def test_sd3(name, form):
    tensors = sd3(**form)
    assert recognised(tensors).candidates == (name,)
    whole(name, tensors, ["transformer"])


@pytest.mark.parametrize("prefix", ["", UNET])
def test_z_image(prefix):
    tensors = {}
    own = state_of("z-image", "transformer")
    for key, value in own.items():
        name = key.replace("all_final_layer.2-1", "final_layer").replace("all_x_embedder.2-1", "x_embedder")
        name = name.replace(".norm_q.", ".q_norm.").replace(".norm_k.", ".k_norm.").replace(".to_out.0.", ".out.")
        if ".to_q." in name:
            qkv = [own[key.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")]
            tensors[name.replace("to_q", "qkv")] = torch.cat(qkv)
        elif ".to_k." not in name and ".to_v." not in name:
            tensors[name] = value
    assert recognised(prefixed(prefix, tensors)).candidates == ("z-image",)
    whole("z-image", prefixed(prefix, tensors), ["transformer"])


@pytest.mark.parametrize("prefix", ["", UNET])
def test_qwen_image(prefix):
    tensors = prefixed(prefix, state_of("qwen-image", "transformer"))
    assert recognised(tensors).candidates == ("qwen-image",)
    whole("qwen-image", tensors, ["transformer"])
