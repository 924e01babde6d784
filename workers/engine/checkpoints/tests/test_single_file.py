"""A single file becomes the folder that it was made of."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from workers.engine import Engine, EngineConfig, ModelPool, ModelSpec, PoolConfig
from workers.engine.checkpoints import configurations, single_file
from workers.engine.checkpoints.files import Unusable, read_header
from workers.engine.checkpoints.recognition import FileKind, recognise
from workers.engine.checkpoints.tests import original_names
from workers.engine.tests import tiny_models
from workers.engine.tests.conftest import MINI
from workers.engine.tests.driving import run_to_end, sample


@pytest.fixture(scope="module")
def mini_file(tmp_path_factory):
    return original_names.write(MINI, tmp_path_factory.mktemp("single") / "my-model.safetensors")


def pictures(*sources, family="sd15", **changes):
    pool = ModelPool(PoolConfig(device="cpu"))
    for number, source in enumerate(sources):
        pool.ensure(ModelSpec(f"m{number}", "1", family, str(source)))
    engine = Engine(pool, EngineConfig(threads=1))
    requests = [sample(model=f"m{number}@1", alone=True, **changes) for number in range(len(sources))]
    run = run_to_end(engine, requests)
    assert not run.errors
    return [run.images[request.sample_id] for request in requests]


def test_the_shipped_model_as_a_single_file_makes_the_same_picture(mini_file, tmp_path):
    found = recognise(read_header(mini_file))
    assert (found.kind, found.candidates, found.has) == (FileKind.MODEL, ("sd15",), {"denoiser", "text", "vae"})

    single_file.convert(read_header(mini_file), configurations.of_folder(MINI, "sd15"), tmp_path / "imported")

    with torch.no_grad():
        original, imported = pictures(MINI, tmp_path / "imported", width=128, height=128, steps=4)
    assert imported.tobytes() == original.tobytes()
    index = json.loads((tmp_path / "imported" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"


def test_sdxl_with_its_two_text_encoders_makes_the_same_picture(tmp_path):
    tiny_models.save_sdxl(tmp_path / "tiny")
    file = original_names.write(tmp_path / "tiny", tmp_path / "tiny.safetensors", xl=True)
    assert recognise(read_header(file)).candidates == ("sdxl",)

    single_file.convert(read_header(file), configurations.of_folder(tmp_path / "tiny", "sdxl"), tmp_path / "imported")

    with torch.no_grad():
        original, imported = pictures(tmp_path / "tiny", tmp_path / "imported", family="sdxl")
    assert imported.tobytes() == original.tobytes()


def test_a_checkpoint_of_another_shape_does_not_fit_and_leaves_nothing(mini_file, tmp_path):
    with pytest.raises(single_file.Unfit, match="lacks 144 tensors"):
        single_file.convert(read_header(mini_file), configurations.shipped("sd15"), tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


def test_a_checkpoint_that_lacks_one_tensor_does_not_fit(mini_file, tmp_path):
    tensors = load_file(mini_file)
    del tensors["model.diffusion_model.middle_block.0.in_layers.2.weight"]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(single_file.Unfit, match="lacks 1 tensors"):
        single_file.convert(
            read_header(tmp_path / "less.safetensors"), configurations.of_folder(MINI, "sd15"), tmp_path / "imported"
        )


def test_a_denoiser_alone_takes_the_other_parts_from_another_model(mini_file, tmp_path):
    denoiser = {key: value for key, value in load_file(mini_file).items() if key.startswith("model.")}
    save_file(denoiser, tmp_path / "unet.safetensors")
    header, like_mini = read_header(tmp_path / "unet.safetensors"), configurations.of_folder(MINI, "sd15")
    assert recognise(header).has == {"denoiser"}
    with pytest.raises(single_file.Incomplete, match=r"brings no vae, text_encoder|brings no text_encoder, vae"):
        single_file.convert(header, like_mini, tmp_path / "imported")

    single_file.convert(header, like_mini, tmp_path / "imported", parts=MINI)

    for part in ("vae/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.safetensors"):
        ours, theirs = load_file(tmp_path / "imported" / part), load_file(MINI / part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin", "model.pth"])
def test_a_pickle_is_refused_with_the_words_that_convert_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(Unusable, match=r"only \.safetensors is taken.*weights_only=True.*save_file"):
        read_header(tmp_path / name)


def test_the_words_that_convert_a_pickle_convert_it(tmp_path):
    import subprocess
    import sys

    torch.save({"state_dict": {"a.weight": torch.ones(2, 3)}, "step": 7}, tmp_path / "old.ckpt")
    with pytest.raises(Unusable) as refused:
        read_header(tmp_path / "old.ckpt")
    command = str(refused.value).split("python -c ")[1].strip('"')
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert dict(read_header(tmp_path / "old.safetensors").shapes) == {"a.weight": (2, 3)}


def test_a_file_that_was_cut_off_is_refused(mini_file, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(mini_file.read_bytes()[:-100])
    with pytest.raises(Unusable, match="incomplete"):
        read_header(cut)


def test_quantised_weights_are_refused_and_plain_eight_bit_floats_are_read(mini_file, tmp_path):
    tensors = load_file(mini_file)
    save_file({key: value.to(torch.float8_e4m3fn) for key, value in tensors.items()}, tmp_path / "fp8.safetensors")
    single_file.convert(
        read_header(tmp_path / "fp8.safetensors"), configurations.of_folder(MINI, "sd15"), tmp_path / "imported"
    )
    weights = load_file(tmp_path / "imported" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}

    save_file({**tensors, "scaled_fp8": torch.zeros(2)}, tmp_path / "scaled.safetensors")
    with pytest.raises(Unusable, match="scaled 8-bit"):
        single_file.convert(
            read_header(tmp_path / "scaled.safetensors"), configurations.of_folder(MINI, "sd15"), tmp_path / "no"
        )


def test_a_folder_of_the_imported_model_is_a_diffusers_model_for_others_too(mini_file, tmp_path):
    import diffusers

    single_file.convert(read_header(mini_file), configurations.of_folder(MINI, "sd15"), tmp_path / "imported")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "imported", local_files_only=True)
    assert type(pipeline.tokenizer).__name__.startswith("CLIPTokenizer")
    shutil.rmtree(tmp_path / "imported")
