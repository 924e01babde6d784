"""Models of every family with random weights and a few thousand parameters, saved as real ones are.

All are built from configurations with a fixed seed; texts are cut by the tokenizer of the shipped model.
"""

import shutil
from pathlib import Path

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

MINI = Path(__file__).resolve().parents[3] / "fixtures" / "models" / "mini"
WIDTH = 32  # of the text encoders


def tokenizer():
    return CLIPTokenizer.from_pretrained(MINI / "tokenizer")


def text_encoder(kind=CLIPTextModel):
    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=WIDTH, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip
    return kind(config).eval()


def vae(latent_channels=4):
    """Eight pixels to a latent one, like the large ones."""
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=latent_channels, norm_num_groups=4, sample_size=64,
        mid_block_add_attention=False, force_upcast=False,
    ).eval()  # fmt: skip


UNET = {
    "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "cross_attention_dim": WIDTH,
}  # fmt: skip
XL = {
    **UNET, "cross_attention_dim": 2 * WIDTH, "transformer_layers_per_block": (1, 2), "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
}  # fmt: skip
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def unet(settings, in_channels=4):
    return diffusers.UNet2DConditionModel(
        **settings, in_channels=in_channels, up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), sample_size=8
    ).eval()


def controlnet(settings):
    """Untrained ControlNets add nothing, because their last layers are zero; these are made to add something."""
    module = diffusers.ControlNetModel(**settings, conditioning_embedding_out_channels=(8, 8, 16, 16)).eval()
    for layer in (
        *module.controlnet_down_blocks,
        module.controlnet_mid_block,
        module.controlnet_cond_embedding.conv_out,
    ):
        torch.nn.init.normal_(layer.weight, std=0.2)
    return module


def save_stable_diffusion(folder, *, in_channels=4, prediction="epsilon", with_controlnet=True):
    torch.manual_seed(11)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=text_encoder(), tokenizer=tokenizer(), unet=unet(UNET, in_channels),
        scheduler=diffusers.DDIMScheduler(
            **SCHEDULE, prediction_type=prediction, clip_sample=False, set_alpha_to_one=False
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    if with_controlnet:
        controlnet(UNET).save_pretrained(Path(folder, "controlnet-canny"))


def save_sdxl(folder):
    torch.manual_seed(12)
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=vae(), text_encoder=text_encoder(), text_encoder_2=text_encoder(CLIPTextModelWithProjection),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(), unet=unet(XL),
        scheduler=diffusers.EulerDiscreteScheduler(**SCHEDULE), add_watermarker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    controlnet(XL).save_pretrained(Path(folder, "controlnet-canny"))


def copy_of(folder, target):
    """A model's folder under another path."""
    return shutil.copytree(folder, target)
