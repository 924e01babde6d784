"""`manage.py convert`: graphs of a row's model, also in 8 bits, used at the next loading."""

import json
from io import StringIO

import pytest
import torch
from django.core.management import CommandError, call_command

from generation.catalogue.models import ImageModel
from workers.engine import ModelSpec
from workers.engine.models.conversion import convert_to_int8
from workers.engine.models.registry import make_model
from workers.engine.runtimes.graph_folder import GraphFolder
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import sample, worst
from workers.engine.tests.stock import Stock

CPU = torch.device("cpu")
PROMPTS = ["a red mug", "蓝色的星星"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "sd"
    tiny_models.save_stable_diffusion(folder, with_controlnet=False)
    return folder


def loaded(folder, runtime):
    model = make_model(ModelSpec("m", "1", "sd15", str(folder), "fp32", {"runtime": runtime}), CPU)
    model.load()
    return model


@pytest.mark.django_db
def test_the_command_makes_the_graphs_and_says_how_quick_they_are(folder):
    ImageModel.objects.create(name="own", title="Own", family="sd15", source=str(folder), kinds=["text2img"])
    said = StringIO()
    call_command("convert", "own", "--threads", "1", stdout=said)
    assert [line.split()[0] for line in said.getvalue().splitlines()] == [
        "unet", "text_encoder", "vae_decoder", "Written",
    ]  # fmt: skip
    assert "4 rows" in said.getvalue()
    before = GraphFolder(folder).entries()
    call_command("convert", "own", "--threads", "1", stdout=StringIO())
    assert GraphFolder(folder).entries() == before
    files = {path: path.stat().st_mtime_ns for path in GraphFolder(folder).path.glob("*.onnx")}
    call_command("convert", "own", "--threads", "1", "--anew", stdout=StringIO())
    assert all(path.stat().st_mtime_ns > written for path, written in files.items())


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "words"),
    [({"name": "other"}, "no model 'own'"), ({"family": "lama"}, "lama have no graphs"),
     ({"source": "/nowhere"}, "could not be loaded")],
)  # fmt: skip
def test_what_cannot_be_converted_is_said(changes, words):
    values = {"name": "own", "title": "Own", "family": "sd15", "source": "mini", "kinds": ["text2img"]}
    ImageModel.objects.create(**{**values, **changes})
    with pytest.raises(CommandError, match=words):
        call_command("convert", "own")


def test_8_bits_are_calibrated_and_belong_to_their_weights(folder, tmp_path, caplog):
    part = convert_to_int8(ModelSpec("m", "1", "sd15", str(folder)), PROMPTS, threads=1)
    assert (part.problem, part.onnx.keys()) == ("", {1, 4})
    (entry,) = (one for one in GraphFolder(folder).entries().values() if one["part"] == "unet-int8")
    assert (entry["prompts"], entry["calls"], entry["weights"]) == (2, 16, [])
    request = sample(model="m@1")
    model = loaded(folder, "onnx-int8")
    picture = model.infer(request, lambda *_: None).image
    assert model.hosted["unet"].calls
    assert not model.hosted["unet"].fallbacks
    assert 1e-5 < worst(picture, Stock(folder)(request)) < 0.2
    other = tmp_path / "other"
    tiny_models.save_stable_diffusion(other, with_controlnet=False, attention_head_dim=8)
    manifest = json.loads((folder / "onnx" / "manifest.json").read_text())
    (other / "onnx").mkdir()
    (other / "onnx" / "manifest.json").write_text(json.dumps(manifest))
    for path in (folder / "onnx").glob("*.onnx"):
        (other / "onnx" / path.name).write_bytes(path.read_bytes())
    picture = loaded(other, "onnx-int8").infer(request, lambda *_: None).image
    assert worst(picture, Stock(other)(request)) <= 1e-4  # in 32 bits
    assert any("no 8-bit graph of these weights" in record.getMessage() for record in caplog.records)
