"""Models of every family with random weights and a few thousand parameters, saved as real ones are.

All are built from configurations with a fixed seed; texts are cut by the tokenizer of the shipped model.
"""

from pathlib import Path

import diffusers
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

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


def vae(**settings):
    """Eight pixels to a latent one, like the large ones. `settings` change its configuration."""
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4, mid_block_add_attention=False, force_upcast=False,
        **{"latent_channels": 4, "sample_size": 64, "block_out_channels": (8, 8, 16, 16), **settings},
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
DEEP = {  # four levels, attention on the lowest alone: large pictures at the cost of a few convolutions
    "block_out_channels": (8, 8, 16, 16), "down_block_types": ("DownBlock2D",) * 3 + ("CrossAttnDownBlock2D",),
    "norm_num_groups": 4,
}  # fmt: skip
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def unet(settings, in_channels=4):
    ways_up = ("CrossAttnUpBlock2D", *("UpBlock2D",) * (len(settings["block_out_channels"]) - 1))
    return diffusers.UNet2DConditionModel(
        **settings, in_channels=in_channels, up_block_types=ways_up, sample_size=8
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


def save_stable_diffusion(folder, *, in_channels=4, prediction="epsilon", with_controlnet=True, decoder=None, **levels):
    """`decoder`: settings of the VAE. `levels`: those of the UNet and the ControlNet."""
    torch.manual_seed(11)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae(**decoder or {}), text_encoder=text_encoder(), tokenizer=tokenizer(),
        unet=unet({**UNET, **levels}, in_channels),
        scheduler=diffusers.DDIMScheduler(
            **SCHEDULE, prediction_type=prediction, clip_sample=False, set_alpha_to_one=False
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    if with_controlnet:
        controlnet({**UNET, **levels}).save_pretrained(Path(folder, "controlnet-canny"))


def save_sdxl(folder, *, decoder=None, **levels):
    torch.manual_seed(12)
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=vae(**decoder or {}), text_encoder=text_encoder(), text_encoder_2=text_encoder(CLIPTextModelWithProjection),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(), unet=unet({**XL, **levels}),
        scheduler=diffusers.EulerDiscreteScheduler(**SCHEDULE), add_watermarker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    controlnet({**XL, **levels}).save_pretrained(Path(folder, "controlnet-canny"))


def byte_tokenizer(**special):
    """One token per byte: enough for models that were never trained."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(["<pad>", "<eos>", *alphabet])}
    words = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", **special)


def t5(width=WIDTH):
    config = T5Config(vocab_size=300, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return T5EncoderModel(config).eval()


def flow():
    return diffusers.FlowMatchEulerDiscreteScheduler()


def save_flux(folder):
    torch.manual_seed(13)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    diffusers.FluxPipeline(
        scheduler=flow(), vae=vae(shift_factor=0.1), text_encoder=text_encoder(), tokenizer=tokenizer(),
        text_encoder_2=t5(), tokenizer_2=byte_tokenizer(model_max_length=64), transformer=transformer.eval(),
    ).save_pretrained(folder)  # fmt: skip


def save_sd3(folder):
    torch.manual_seed(14)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=32, patch_size=1, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=2 * WIDTH, pooled_projection_dim=2 * WIDTH, out_channels=16,
    )  # fmt: skip
    diffusers.StableDiffusion3Pipeline(
        transformer=transformer.eval(), scheduler=flow(), vae=vae(shift_factor=0.1, latent_channels=16),
        text_encoder=text_encoder(CLIPTextModelWithProjection), tokenizer=tokenizer(),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection), tokenizer_2=tokenizer(),
        text_encoder_3=t5(2 * WIDTH), tokenizer_3=byte_tokenizer(model_max_length=64),
    ).save_pretrained(folder)  # fmt: skip


CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def save_z_image(folder):
    torch.manual_seed(15)
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[1024, 32, 32],
    )  # fmt: skip
    encoder = Qwen3Model(Qwen3Config(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8,
    ))  # fmt: skip
    diffusers.ZImagePipeline(
        scheduler=flow(), vae=vae(shift_factor=0.1), text_encoder=encoder.eval(),
        tokenizer=byte_tokenizer(chat_template=CHAT), transformer=transformer.eval(),
    ).save_pretrained(folder)  # fmt: skip


def save_qwen_image(folder):
    torch.manual_seed(16)
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    decoder = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "vocab_size": 300,
            "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
        },
        hidden_size=16, vocab_size=300, vision_start_token_id=5, vision_end_token_id=6, vision_token_id=7,
    ))  # fmt: skip
    diffusers.QwenImagePipeline(
        scheduler=flow(), vae=decoder.eval(), text_encoder=encoder.eval(), tokenizer=byte_tokenizer(),
        transformer=transformer.eval(),
    ).save_pretrained(folder)  # fmt: skip


def save_pixart(folder):
    """A family that is not declared anywhere, with a denoiser that has no merge rule."""
    torch.manual_seed(17)
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
        cross_attention_dim=16, sample_size=32, patch_size=2, caption_channels=WIDTH, use_additional_conditions=False,
    )  # fmt: skip
    diffusers.PixArtSigmaPipeline(
        tokenizer=byte_tokenizer(model_max_length=300), text_encoder=t5(), vae=vae(), transformer=transformer.eval(),
        scheduler=diffusers.DPMSolverMultistepScheduler(**SCHEDULE),
    ).save_pretrained(folder)  # fmt: skip


def save_few_steps(folder, sort):
    """SDXL as it is distilled: Turbo and Lightning with trailing steps, LCM with the guidance as an input."""
    torch.manual_seed(18)
    trailing = {**SCHEDULE, "timestep_spacing": "trailing"}
    schedulers = {
        "turbo": diffusers.EulerAncestralDiscreteScheduler(**trailing),
        "lightning": diffusers.EulerDiscreteScheduler(**trailing),
        "lcm": diffusers.LCMScheduler(**SCHEDULE),
    }
    settings = {**XL, "time_cond_proj_dim": 16} if sort == "lcm" else XL
    diffusers.StableDiffusionXLPipeline(
        vae=vae(), text_encoder=text_encoder(), text_encoder_2=text_encoder(CLIPTextModelWithProjection),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(), unet=unet(settings), scheduler=schedulers[sort],
        add_watermarker=False,
    ).save_pretrained(folder)  # fmt: skip
