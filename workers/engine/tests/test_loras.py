"""Samples with different LoRA sets share their steps, each equal to PEFT alone; text encoders take part."""

import hashlib
from dataclasses import replace

import diffusers
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from workers.engine import InvalidSample, LoraUse, ModelSpec, ModelUnavailable, Progress
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import run_to_end, sample, worst
from workers.engine.tests.stock import Stock
from workers.engine.tests.test_equality_gate import engine_for

EQUAL = 1e-4
LAYERS = {
    "attention": ["to_q", "to_k", "to_v", "to_out.0"],
    "convolutions": ["conv1", "conv2", "proj_in", "time_emb_proj", "to_q"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "sd"
    tiny_models.save_stable_diffusion(folder, with_controlnet=False)
    return folder


@pytest.fixture(scope="module")
def loras(folder, tmp_path_factory):
    """Files as trainers write them: other ranks, alphas, layers, with and without the text encoder."""
    target = tmp_path_factory.mktemp("loras")
    return {
        "a": made(folder, target / "a", "attention", rank=4, alpha=4, seed=1),
        "b": made(folder, target / "b", "convolutions", rank=2, alpha=6, seed=2),
        "c": made(folder, target / "c", "attention", rank=8, alpha=2, seed=3, text=True),
    }


def made(folder, target, layers, *, rank, alpha, seed, text=False):
    torch.manual_seed(seed)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    parts = {"unet": (pipeline.unet, LAYERS[layers])}
    if text:
        encoders = [name for name in pipeline.components if name.startswith("text_encoder")]
        parts |= {name: (getattr(pipeline, name), ["q_proj", "v_proj"]) for name in encoders}
    saved = {}
    for name, (module, targets) in parts.items():
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, init_lora_weights=False)
        module.add_adapter(config)
        saved[f"{name}_lora_layers"] = get_peft_model_state_dict(module)
        saved[f"{name}_lora_adapter_metadata"] = module.peft_config["default"].to_dict()
    pipeline.save_lora_weights(target, **saved)
    return target / "pytorch_lora_weights.safetensors"


def use(path, weight):
    return LoraUse(hashlib.sha256(path.read_bytes()).hexdigest(), str(path), weight)


class PeftAlone(Stock):
    """The stock pipeline with LoRAs as diffusers and PEFT apply them."""

    def pipeline(self, request):
        self.loaded.unload_lora_weights()
        names = [f"l{number}" for number, _ in enumerate(request.loras)]
        for name, lora in zip(names, request.loras, strict=True):
            self.loaded.load_lora_weights(lora.path, adapter_name=name)
        if names:
            self.loaded.set_adapters(names, [lora.weight for lora in request.loras])
        return super().pipeline(request)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, up: tensors.pop(up), "only one of its two halves"),
        (lambda tensors, up: tensors.update({up: tensors[up][:, :1]}), "do not belong together"),
        (lambda tensors, up: tensors.update({up: tensors[up][:, 0].clone()}), "do not belong together"),
        (lambda tensors, up: tensors.update({up: tensors[up] * float("nan")}), "no numbers"),
    ],
)
def test_a_file_that_nobody_checked_is_refused_with_its_layer(folder, loras, tmp_path, change, said):
    tensors = load_file(loras["a"])
    up = next(name for name in tensors if name.endswith("lora_B.weight"))
    change(tensors, up)
    path = tmp_path / "changed.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    request = sample(model="m@1", loras=(use(path, 1.0),), seed=1)
    error = run_to_end(engine_for(ModelSpec("m", "1", "sd15", str(folder))), [request]).errors[request.sample_id]
    assert isinstance(error, InvalidSample)
    assert said in str(error)
    assert up.removesuffix(".lora_B.weight") in str(error)


def test_eight_samples_with_eight_sets_share_their_steps_and_equal_peft(folder, loras):
    a, b, c = loras["a"], loras["b"], loras["c"]
    sets = [
        (use(a, 1.0),), (use(b, 0.7),), (), (use(c, 0.5),), (use(a, 0.6), use(b, 0.4)),
        (use(c, 1.2), use(b, 0.3), use(a, 2.0)), (use(a, 0.0),), (use(b, 1.5),),
    ]  # fmt: skip
    requests = [
        sample(model="sd@1", loras=uses, steps=3 + number % 2, seed=number, cfg_scale=[1.0, 5.0][number % 2])
        for number, uses in enumerate(sets)
    ]
    engine = engine_for(ModelSpec("sd", "1", "sd15", str(folder)))
    for request in requests:
        engine.admit(request)
    first = [event.sample_id for event in engine.step() if isinstance(event, Progress)]
    assert len(first) == 8, "one forward pass for all eight sets"
    run = run_to_end(engine)
    reference = PeftAlone(folder)
    found = [worst(run.images[request.sample_id], reference(request)) for request in requests]
    plain = [worst(run.images[request.sample_id], Stock(folder)(request)) for request in requests]
    print("worst difference to PEFT:", max(found), "; what the LoRAs change:", [f"{value:.2g}" for value in plain])
    assert max(found) <= EQUAL
    assert sorted(range(8), key=lambda number: plain[number])[:2] in ([2, 6], [6, 2])
    assert sorted(plain)[2] > 20 * EQUAL, "negative control: every other set changes the picture"


@pytest.mark.parametrize("prompt", ["a red cat", "a (red:1.3) cat"])
def test_a_lora_of_the_text_encoder_alone_changes_its_own_samples_only(folder, loras, tmp_path, prompt):
    """Beside samples of the same prompt without it, whose embeddings are kept. PEFT knows no weighted words: they are
    compared by what the LoRA changes."""
    text = {name: tensor for name, tensor in load_file(loras["c"]).items() if name.startswith("text_encoder.")}
    metadata = safe_open(loras["c"], "pt").metadata()
    save_file(text, tmp_path / "text.safetensors", metadata)
    uses = [(), (use(tmp_path / "text.safetensors", 1.5),), ()]
    requests = [sample(model="sd@1", text=prompt, loras=loras) for loras in uses]
    run = run_to_end(engine_for(ModelSpec("sd", "1", "sd15", str(folder))), requests)
    before, under, after = (run.images[request.sample_id] for request in requests)
    assert worst(before, after) <= EQUAL
    assert worst(before, under) > 20 * EQUAL
    if "(" not in prompt:
        reference = PeftAlone(folder)
        assert max(worst(run.images[request.sample_id], reference(request)) for request in requests) <= EQUAL


def test_a_lora_of_both_text_encoders_of_sdxl(tmp_path):
    tiny_models.save_sdxl(tmp_path / "xl")
    path = made(tmp_path / "xl", tmp_path / "lora", "attention", rank=4, alpha=8, seed=5, text=True)
    parts = {name.split(".")[0] for name in load_file(path)}
    assert parts == {"unet", "text_encoder", "text_encoder_2"}
    request = sample(model="xl@1", loras=(use(path, 1.0),))
    run = run_to_end(engine_for(ModelSpec("xl", "1", "sdxl", str(tmp_path / "xl"))), [request])
    found = worst(run.images[request.sample_id], PeftAlone(tmp_path / "xl", name="StableDiffusionXL")(request))
    assert found <= 2 * EQUAL


def test_a_lora_of_a_text_encoder_that_the_model_lacks_is_refused_by_name(folder, tmp_path):
    halves = {"lora_A": torch.ones(2, 32), "lora_B": torch.ones(32, 2)}
    layer = "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj"
    save_file({f"{layer}.{half}.weight": tensor for half, tensor in halves.items()}, tmp_path / "xl.safetensors")
    request = sample(model="sd@1", loras=(use(tmp_path / "xl.safetensors", 1.0),))
    run = run_to_end(engine_for(ModelSpec("sd", "1", "sd15", str(folder))), [request])
    assert isinstance(run.errors[request.sample_id], InvalidSample)
    assert "changes text_encoder_2, which this model does not have" in str(run.errors[request.sample_id])


def test_kohya_files_mean_the_same(folder, loras, tmp_path):
    """The layout of most downloaded LoRAs: flat names, alphas as tensors."""
    tensors = {}
    for name, tensor in load_file(loras["c"]).items():
        layer, half, _ = name.rsplit(".", 2)
        layer = layer.replace("unet.", "lora_unet_").replace("text_encoder.", "lora_te_text_model_")
        flat = layer.replace(".", "_")
        tensors[f"{flat}.{'lora_down' if half == 'lora_A' else 'lora_up'}.weight"] = tensor
        tensors[f"{flat}.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "kohya.safetensors")
    request = sample(model="sd@1", loras=(use(tmp_path / "kohya.safetensors", 0.8),))
    run = run_to_end(engine_for(ModelSpec("sd", "1", "sd15", str(folder))), [request])
    assert run.errors == {}
    original = replace(request, loras=(use(loras["c"], 0.8),))
    assert worst(run.images[request.sample_id], PeftAlone(folder)(original)) <= EQUAL


def test_a_compiled_model_steps_aside_for_loras(folder, loras):
    """Compiled code would not see the hooks and leave the LoRA out without a word."""
    speed = {"compile": {"backend": "eager"}}
    engine = engine_for(ModelSpec("sd", "1", "sd15", str(folder), options={"speed": speed}))
    before, with_lora, after = (
        sample(model="sd@1"),
        sample(model="sd@1", loras=(use(loras["b"], 1.0),)),
        sample(model="sd@1"),
    )
    for request in (before, with_lora, after):
        run = run_to_end(engine, [request])
        assert worst(run.images[request.sample_id], PeftAlone(folder)(request)) <= EQUAL


def test_what_does_not_fit_is_refused_and_spares_the_others(folder, loras, tmp_path):
    wrong_shape = {"unet.mid_block.attentions.0.proj_in.lora_A.weight": torch.zeros(2, 99),
                   "unet.mid_block.attentions.0.proj_in.lora_B.weight": torch.zeros(32, 2)}  # fmt: skip
    save_file(wrong_shape, tmp_path / "other_base.safetensors")
    save_file({"lora_unet_x.hada_w1_a": torch.zeros(2, 2)}, tmp_path / "loha.safetensors")
    changed = LoraUse("0" * 64, str(loras["a"]), 1.0)
    gone = LoraUse("1" * 64, str(tmp_path / "gone.safetensors"), 1.0)
    wrong = [
        sample(model="sd@1", loras=(use(tmp_path / "other_base.safetensors", 1.0),)),
        sample(model="sd@1", loras=(use(tmp_path / "loha.safetensors", 1.0),)),
        sample(model="sd@1", loras=(changed,)),
        sample(model="sd@1", loras=(gone,)),
    ]
    right = sample(model="sd@1", loras=(use(loras["a"], 1.0),))
    run = run_to_end(engine_for(ModelSpec("sd", "1", "sd15", str(folder))), [*wrong, right])
    assert [type(run.errors[request.sample_id]) for request in wrong] == [
        InvalidSample, InvalidSample, ModelUnavailable, ModelUnavailable
    ]  # fmt: skip
    assert "another base model" in str(run.errors[wrong[0].sample_id])
    assert set(run.images) == {right.sample_id}


def test_loras_leave_the_memory_by_age(folder, loras):
    from workers.engine.models.lora_files import LoraCache

    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    text = diffusers.DiffusionPipeline.from_pretrained(folder).text_encoder
    cache = LoraCache({"unet": unet, "text_encoder": text}, diffusers.StableDiffusionPipeline, limit=1)
    first = cache.get(use(loras["a"], 1.0))
    assert cache.get(use(loras["a"], 0.2)) is first, "the weight is not part of the file"
    cache.get(use(loras["b"], 1.0))
    assert cache.get(use(loras["a"], 1.0)) is not first


def test_an_adapter_in_the_options_is_part_of_the_model(folder, loras):
    """A few-step form that ships as a LoRA is a model of its own; other LoRAs go on top of it."""
    spec = ModelSpec("turbo", "1", "sd15", str(folder), options={"adapter": str(loras["b"])})
    alone, with_another = sample(model="turbo@1"), sample(model="turbo@1", loras=(use(loras["a"], 0.5),))
    run = run_to_end(engine_for(spec), [alone, with_another])
    reference = PeftAlone(folder)
    for request, uses in ((alone, ()), (with_another, (use(loras["a"], 0.5),))):
        expected = reference(replace(request, loras=(use(loras["b"], 1.0), *uses)))
        assert worst(run.images[request.sample_id], expected) <= EQUAL
    assert worst(run.images[alone.sample_id], Stock(folder)(alone)) > 20 * EQUAL, "negative control"


def test_a_missing_adapter_is_named(folder):
    with pytest.raises(ModelUnavailable, match=r"adapter gone\.safetensors"):
        engine_for(ModelSpec("turbo", "1", "sd15", str(folder), options={"adapter": "gone.safetensors"}))
