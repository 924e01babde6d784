"""A LoRA is looked at as a whole at its upload: what could not be applied is refused with a sentence that says why."""

import json
import math
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as site_settings
from django.core.management import call_command
from django.test import Client
from safetensors.numpy import load_file, save, save_file

from generation.accounts.models import User
from generation.catalogue import lora_check
from generation.catalogue.models import ImageModel, Lora
from generation.catalogue.tests.test_loras import LAYER, WIDTH, codes, lora_tensors, upload

A, B = f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"
KOHYA = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture(autouse=True)
def shipped(seeded: None) -> None:
    call_command("seed", verbosity=0)


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    return client_of(owner)


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float16)


def changed(**tensors: Any) -> bytes:
    """A good LoRA with other tensors: `a` and `b` are its halves, None takes one away, others are added by name."""
    named = lora_tensors() | {{"a": A, "b": B}.get(name, name): value for name, value in tensors.items()}
    return save({name: value for name, value in named.items() if value is not None})


def spoiled(half: str, value: float, dtype: Any = np.float16) -> bytes:
    tensors = {name: tensor.astype(dtype) for name, tensor in lora_tensors().items()}
    tensors[half][-1, -1] = value
    return save(tensors)


def bf16(value: int) -> bytes:
    """A LoRA in bf16 whose last number has these bits."""
    size = 2 * 4 * WIDTH
    header = {
        A: {"dtype": "BF16", "shape": [4, WIDTH], "data_offsets": [0, size]},
        B: {"dtype": "BF16", "shape": [WIDTH, 4], "data_offsets": [size, 2 * size]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\x80\x3f" * (2 * 4 * WIDTH - 1) + struct.pack("<H", value)


def with_alpha(value: Any, name: str = f"{LAYER}.alpha") -> bytes:
    return save({**lora_tensors(), name: np.asarray(value, np.float32)})


def with_metadata(**adapter: Any) -> bytes:
    return save(lora_tensors(), {"lora_adapter_metadata": json.dumps(adapter)})


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (changed(b=None), "incomplete", f"{LAYER} lacks its up half"),
        (changed(a=None), "incomplete", "lacks its down half"),
        (with_alpha(4.0, "unet.elsewhere.alpha"), "incomplete", "unet.elsewhere lacks its down and its up half"),
        (changed(b=ones(WIDTH, 2)), "wrong_rank", "differ in rank: 4 and 2"),
        (changed(a=ones(0, WIDTH), b=ones(WIDTH, 0)), "wrong_rank", "has rank 0"),
        (changed(a=ones(257, WIDTH), b=ones(WIDTH, 257)), "wrong_rank", "rank 257; it must be from 1 to 256"),
        (changed(a=ones(4)), "wrong_shape", "of shape [4]"),
        (changed(b=ones(WIDTH)), "wrong_shape", "not those of a linear layer"),
        (changed(a=ones(4, WIDTH, 1)), "wrong_shape", "not those of a linear layer"),
        (changed(b=ones(WIDTH, 4, 3, 3)), "wrong_shape", "not those of a linear layer"),
        (changed(a=ones(4, 768)), "wrong_base", "[192, 192] in the model"),
        (changed(b=ones(320, 4)), "wrong_base", "made for another base than sd15"),
        (changed(**{"unet.nowhere.lora_A.weight": ones(4, 8), "unet.nowhere.lora_B.weight": ones(8, 4)}),
         "wrong_base", "no layer unet.nowhere"),
        (spoiled(A, math.nan), "not_finite", f"{LAYER}.lora_A.weight has values that are not numbers"),
        (spoiled(B, math.inf), "not_finite", "lora_B"),
        (spoiled(B, -math.inf, np.float32), "not_finite", "lora_B"),
        (bf16(0x7F80), "not_finite", "lora_B"),
        (bf16(0xFFC0), "not_finite", "lora_B"),
        (with_alpha(math.nan), "not_finite", "alpha has values that are not numbers"),
        (with_alpha(1e30), "wrong_alpha", "1e+30"),
        (with_alpha([1.0, 2.0]), "wrong_shape", "must be one number"),
        (with_metadata(**{"unet.lora_alpha": math.inf}), "wrong_alpha", "inf"),
        (with_metadata(**{"unet.alpha_pattern": {"x": "no"}}), "wrong_metadata", "can't be read"),
        (with_metadata(**{"unet.alpha_pattern": {"x": math.nan}}), "wrong_alpha", "nan"),
        (changed(**{f"{LAYER}.hada_w1_a": ones(4, 4)}), "unsupported_kind", "LoHa"),
        (changed(**{f"{LAYER}.lokr_w1": ones(4, 4)}), "unsupported_kind", "LoKr"),
        (changed(**{f"{LAYER}.dora_scale": ones(4)}), "unsupported_kind", "DoRA"),
        (changed(**{f"{LAYER}.lora_B.bias": ones(4)}), "not_a_lora", "lora_B.bias"),
        (changed(**{"mlp.down.weight": ones(4, 4)}), "not_a_lora", "mlp.down.weight"),
        (save(lora_tensors(), {"ss_base_model_version": "sdxl_base_v1-0"}), "wrong_base", "made for sdxl, not sd15"),
        (save(lora_tensors(), {"modelspec.architecture": "flux-1-dev/lora"}), "wrong_base", "made for flux"),
    ],
)  # fmt: skip
def test_what_could_not_be_applied_is_refused(client: Client, data: bytes, code: str, said: str) -> None:
    response = upload(client, data)
    assert (response.status_code, codes(response)) == (400, {"file": code})
    (fault,) = response.json()["data"]["errors"]
    assert said in fault["message"]
    assert not Lora.objects.exclude(owner=None).exists()
    assert list(Path(site_settings.LORA_ROOT).iterdir()) == []


def of_layer(names: tuple[str, str], down: Any = None, up: Any = None) -> bytes:
    down, up = ones(4, WIDTH) if down is None else down, ones(WIDTH, 4) if up is None else up
    return save(dict(zip(names, (down, up), strict=True)))


OUT = LAYER.replace("to_q", "to_out")
SELF = "text_encoder.text_model.encoder.layers.0.self_attn"
TEXT = "text_model_encoder_layers_0_self_attn_q_proj"


@pytest.mark.parametrize(
    "data",
    [
        of_layer((A, B)),
        of_layer((f"{LAYER}.lora_A.default.weight", f"{LAYER}.lora_B.default.weight")),
        of_layer((f"{LAYER}.lora.down.weight", f"{LAYER}.lora.up.weight")),
        of_layer((f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight")),
        of_layer((f"{LAYER.removesuffix('.to_q')}.processor.to_q_lora.down.weight",
                  f"{LAYER.removesuffix('.to_q')}.processor.to_q_lora.up.weight")),
        of_layer((f"lora_te_{TEXT}.lora_down.weight", f"lora_te_{TEXT}.lora_up.weight"), ones(4, 128), ones(128, 4)),
        of_layer((f"{SELF}.to_q.lora_A.weight", f"{SELF}.to_q.lora_B.weight"), ones(4, 128), ones(128, 4)),
        of_layer((f"{OUT}.0.lora_A.weight", f"{OUT}.0.lora_B.weight")),
        of_layer((f"{OUT}.lora_A.weight", f"{OUT}.lora_B.weight")),
        of_layer(("unet.conv_in.lora_A.weight", "unet.conv_in.lora_B.weight"), ones(4, 4, 3, 3), ones(32, 4, 1, 1)),
        with_alpha(2.0), with_alpha([2.0]), with_alpha(0.0),
        save(lora_tensors(), {"ss_base_model_version": "sd_v1"}),
        with_metadata(**{"unet.lora_alpha": 8, "unet.alpha_pattern": {"x": 2}, "unet.r": 4}),
        bf16(0x3F80),
    ],
)  # fmt: skip
def test_every_spelling_of_a_good_one_is_taken(client: Client, data: bytes) -> None:
    assert upload(client, data).status_code == 201


@pytest.mark.parametrize("lora", ["outline", "turbo"])
def test_those_that_ship_pass_and_miss_nothing(lora: str, tmp_path: Path) -> None:
    path = Path(site_settings.BASE_DIR, "fixtures", "models", "lora", f"{lora}.safetensors")
    assert lora_check.checked(path, "sd15")["rank"] > 0
    tensors = load_file(path)
    last = sorted(name for name in tensors if "lora_B" in name)[-1]
    save_file({name: tensor for name, tensor in tensors.items() if name != last}, tmp_path / "half")
    with pytest.raises(lora_check.Faulty, match="lacks its up half"):
        lora_check.checked(tmp_path / "half", "sd15")


def test_a_family_with_several_models_takes_what_fits_one_and_without_weights_the_width_counts(client: Client) -> None:
    ImageModel.objects.create(name="far", title="Far", family="sd15", source="elsewhere", kinds=["text2img"])
    assert upload(client, save(lora_tensors())).status_code == 201
    name = LAYER.replace("attn1.to_q", "attn2.to_k")
    of_xl = {f"{name}.lora_A.weight": ones(4, 2048), f"{name}.lora_B.weight": ones(640, 4)}
    ImageModel.objects.update(source="nowhere")
    refused = upload(client, save(of_xl))
    assert codes(refused) == {"file": "wrong_base"}
    assert "width 2048; models of sd15 have 768" in refused.json()["data"]["errors"][0]["message"]


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    save_file({f"unet.l{n}.lora_{half}.weight": np.zeros(shape, np.float32) for n in range(8)
               for half, shape in (("A", (64, 32_768)), ("B", (32_768, 64)))}, path)  # fmt: skip
    tracemalloc.start()
    try:
        lora_check.checked(path, "another-family")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 128 << 20
    assert peak < 8 << 20
