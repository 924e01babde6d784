"""`models import`: what people have is registered under its name and can be asked for at once."""

import json
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from django.conf import settings as real_settings
from django.core.management import CommandError, call_command
from safetensors.torch import load_file, save_file

from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel, Lora
from workers.engine import Engine, EngineConfig, ModelPool, PoolConfig
from workers.engine.checkpoints.tests import original_names
from workers.engine.spec import RuntimeConfig
from workers.engine.tests.driving import run_to_end, sample
from workers.gpu.samples import spec_of

SHIPPED = Path(real_settings.BASE_DIR) / "fixtures" / "models"
MINI = SHIPPED / "mini"
pytestmark = pytest.mark.django_db


@pytest.fixture
def models_dir(settings, tmp_path):
    settings.MODELS_DIR = str(tmp_path / "models")
    settings.LORA_ROOT = str(tmp_path / "loras")
    (tmp_path / "models").mkdir()
    call_command("seed", stdout=StringIO())
    yield tmp_path / "models"
    snapshot.reload()


@pytest.fixture(scope="module")
def mini_file(tmp_path_factory):
    return original_names.write(MINI, tmp_path_factory.mktemp("single") / "My Model_v2.safetensors")


def importing(*arguments):
    out = StringIO()
    call_command("models", "import", *map(str, arguments), stdout=out)
    return out.getvalue()


def picture_of(*rows):
    """One picture of each, by the engine, as a worker would load them; by torch, as only the shipped model has graphs
    beside it and another runtime rounds otherwise.
    """
    pool = ModelPool(PoolConfig(device="cpu"))
    for row in rows:
        pool.ensure(replace(spec_of(row), runtime=RuntimeConfig("eager")))
    engine = Engine(pool, EngineConfig(threads=1))
    requests = [sample(model=row.key, alone=True, width=64, height=64, steps=2) for row in rows]
    with torch.no_grad():
        run = run_to_end(engine, requests)
    assert not run.errors
    return [run.images[request.sample_id] for request in requests]


def test_a_single_file_is_a_model_under_the_name_of_its_file_and_makes_the_same_picture(models_dir, mini_file):
    assert '{"params": {"model": "my-model-v2"}}' in importing(mini_file)

    row = ImageModel.objects.get(name="my-model-v2")
    assert (row.family, row.source, row.kinds) == ("sd15", "my-model-v2", ["text2img", "img2img", "inpaint"])
    row.full_clean()
    assert snapshot.current().model("my-model-v2") == row
    imported, original = picture_of(row, ImageModel.objects.get(name="mini"))
    assert np.array_equal(imported, original)
    assert not [path for path in models_dir.iterdir() if path.name.startswith(".my-model")]


def test_a_name_that_is_taken_is_replaced_only_on_demand_and_is_a_new_revision_then(models_dir, mini_file):
    importing(mini_file, "--name", "mine")
    with pytest.raises(CommandError, match="There is a model mine already"):
        importing(mini_file, "--name", "mine")
    importing(mini_file, "--name", "mine", "--replace")
    assert ImageModel.objects.get(name="mine").revision == "2"


def test_a_folder_of_diffusers_is_a_model_under_the_name_of_its_folder(models_dir, tmp_path):
    shutil.copytree(MINI, tmp_path / "Shop Model")
    importing(tmp_path / "Shop Model")
    row = ImageModel.objects.get(name="shop-model")
    assert row.family == "sd15"
    assert (models_dir / "shop-model" / "model_index.json").is_file()


def test_a_folder_that_lacks_a_component_is_refused_and_not_registered(models_dir, tmp_path):
    shutil.copytree(MINI, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "vae")
    with pytest.raises(CommandError, match="component vae is missing"):
        importing(tmp_path / "half")
    (tmp_path / "half" / "vae").mkdir()
    (tmp_path / "half" / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(CommandError, match=r"component vae is a pickle.*save_pretrained"):
        importing(tmp_path / "half")
    assert not ImageModel.objects.filter(name="half").exists()
    assert not (models_dir / "half").exists()


def test_a_folder_of_loras_is_a_lora_for_each_file(models_dir, tmp_path):
    (tmp_path / "loras-i-have").mkdir()
    for name in ("Outline One", "outline_two"):
        tensors = load_file(SHIPPED / "lora" / "outline.safetensors")
        first = next(iter(tensors))
        tensors[first] = tensors[first] * (1 if name == "Outline One" else 0.5)
        save_file(tensors, tmp_path / "loras-i-have" / f"{name}.safetensors")
    out = importing(tmp_path / "loras-i-have", "--family", "sd15")
    assert "outline-one@1" in out
    assert set(Lora.objects.filter(owner=None, state="active").values_list("name", "base_family")) >= {
        ("outline-one", "sd15"), ("outline-two", "sd15"),
    }  # fmt: skip


def test_a_controlnet_and_a_vae_go_to_the_models_that_are_named(models_dir, mini_file, tmp_path):
    importing(mini_file, "--name", "mine")
    assert "is the canny of mine" in importing(SHIPPED / "controlnet-canny", "--for", "mine")
    tensors = load_file(MINI / "vae" / "diffusion_pytorch_model.safetensors")
    save_file(original_names.vae_names(tensors), tmp_path / "my-vae.safetensors")
    assert "is the vae of mine" in importing(tmp_path / "my-vae.safetensors", "--config", MINI / "vae", "--for", "mine")

    row = ImageModel.objects.get(name="mine")
    assert row.options["controlnets"] == {"canny": "../controlnet-canny"}
    assert row.options["vae"] == "../my-vae"
    assert "controlnet" in row.kinds
    assert row.revision == "3"
    [changed, original] = picture_of(row, ImageModel.objects.get(name="mini"))
    assert np.array_equal(changed, original)


def test_a_pickle_is_refused_with_what_to_do(models_dir, tmp_path):
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x04.")
    with pytest.raises(CommandError, match=r"old\.ckpt is a pickle.*save_file"):
        importing(tmp_path / "old.ckpt")
    (tmp_path / "old.gguf").write_bytes(b"GGUF")
    with pytest.raises(CommandError, match="GGUF is not read here"):
        importing(tmp_path / "old.gguf")
    save_file({"some.weight": torch.ones(2)}, tmp_path / "strange.safetensors")
    with pytest.raises(CommandError, match=r"none of the checkpoints that are known.*some\.weight"):
        importing(tmp_path / "strange.safetensors")


def test_a_prediction_that_its_file_notes_is_kept(models_dir, tmp_path):
    file = original_names.write(MINI, tmp_path / "noted.safetensors", **{"modelspec.prediction_type": "epsilon"})
    importing(file)
    scheduler = json.loads((models_dir / "noted" / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "epsilon"
