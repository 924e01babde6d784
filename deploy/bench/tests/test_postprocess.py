import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from deploy.bench import postprocess
from deploy.bench.plain_pictures import plain
from deploy.bench.postprocess import STEPS, measure, product, sample
from postprocessing.compare import encoded_size, reference
from postprocessing.decoding import decode
from postprocessing.formats import encode
from postprocessing.pipeline import render
from postprocessing.recipe import Output, Recipe
from postprocessing.similarity import INDISTINGUISHABLE, ssim
from postprocessing.superres import SuperResConfig
from postprocessing.tests.pictures import scene


def test_ssim_of_known_cases():
    picture = scene()
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(picture, 255 - picture) < 0.6
    blurred = [ssim(picture, cv2.GaussianBlur(picture, (0, 0), sigma)) for sigma in (0.5, 1, 2)]
    assert blurred == sorted(blurred, reverse=True)


@pytest.mark.parametrize("form", ["webp", "avif"])
def test_auto_is_the_smallest_file_that_is_as_good_as_a_jpeg_90(form):
    picture = scene(64, 64)
    bound = reference(picture)
    found = encoded_size(picture, Output(form, auto=True, metadata="none"))
    assert bound.ssim < INDISTINGUISHABLE
    assert found.ssim >= bound.ssim
    assert found.bytes < bound.bytes
    smaller = [encoded_size(picture, Output(form, quality, metadata="none")) for quality in range(50, 100, 7)]
    assert all(other.ssim < bound.ssim for other in smaller if other.bytes < found.bytes)


def test_auto_writes_a_flat_drawing_without_loss():
    picture = np.full((128, 128, 3), 250, np.uint8)
    picture[30:90, 40:100] = (200, 30, 30)
    data = encode(picture, Output("webp", auto=True)).data
    assert np.array_equal(decode(data), picture)
    assert len(data) < len(encode(picture, Output("webp")).data)


def test_bench_formats_reports_the_savings_by_kind_of_picture(tmp_path, capsys, monkeypatch):
    drawn = {"drawings": [scene(48, 48)]}
    monkeypatch.setattr("postprocessing.compare.synthetic_pictures", lambda: drawn)
    (tmp_path / "mine").mkdir()
    Image.fromarray(scene(64, 64)).save(tmp_path / "mine" / "a.png")
    call_command("bench_formats", tmp_path / "mine", json=tmp_path / "formats.json")
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "formats.json").read_text())
    assert list(found) == ["mine", "drawings"]
    assert found["mine"]["avif auto"]["saved_percent"] > 0
    assert str(found["mine"]["avif auto"]["saved_percent"]) in said
    assert found["mine"]["webp auto"]["ssim_lowest"] >= min(found["mine"]["jpeg 90"]["ssim_lowest"], INDISTINGUISHABLE)
    with pytest.raises(CommandError, match="nowhere"):
        call_command("bench_formats", tmp_path / "nowhere")


NETWORKS = "fixtures/models/superres"


@pytest.mark.parametrize("step", [step for step in STEPS if not step.startswith("upscale")])
def test_each_step_can_be_measured(step, monkeypatch):
    monkeypatch.setattr("deploy.bench.postprocess._SECONDS", 0.0)
    found = measure(step, 128, "batch", NETWORKS)
    assert found["rate"] > 0
    assert sample(64, 0).dtype == np.uint8


@pytest.mark.parametrize(
    ("step", "most"), [("basic", 1), ("denoise", 0), ("tone", 8), ("upscale 2x", 8), ("background", 0)]
)
def test_the_plain_calls_do_the_same_work(step, most):
    """Nearly everywhere: not where a network sees the picture's end, nor where an object's edge is soft."""
    picture = product(96, 0) if step == "background" else sample(96, 0)
    (ours,) = render([picture], Recipe.from_json(STEPS[step]), SuperResConfig(Path(NETWORKS)))
    theirs = plain(step, NETWORKS)(picture)
    assert ours.shape == theirs.shape
    assert (np.abs(ours.astype(int) - theirs) > most).mean() < 0.12
    assert np.abs(ours.astype(int) - picture.repeat(len(ours) // 96, 0).repeat(len(ours) // 96, 1)).max() > 0


def test_measured_rows_are_not_measured_again(monkeypatch, tmp_path):
    measured = []

    def figure(step, side, way, superres):
        measured.append((step, side))
        return {"rate": 2.0, "memory": 1.0}

    monkeypatch.setattr(postprocess, "RESULTS", tmp_path / "postprocess.json")
    monkeypatch.setattr(postprocess, "in_process", figure)
    monkeypatch.setattr("sys.argv", ["bench", "--steps", "tone", "--sizes", "64", "128"])
    postprocess.main()
    monkeypatch.setattr("sys.argv", ["bench", "--steps", "basic", "tone", "--sizes", "64", "--resume"])
    measured.clear()
    postprocess.main()
    assert set(measured) == {("basic", 64)}
    assert [(row["step"], row["size"]) for row in postprocess.stored_rows()] == [
        ("basic", 64),
        ("tone", 64),
        ("tone", 128),
    ]
    assert "| tone | 128 | 2.0 |" in (tmp_path / "postprocess.md").read_text()
