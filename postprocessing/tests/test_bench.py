import json

import cv2
import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from postprocessing.bench import STEPS, measure, sample
from postprocessing.compare import at_quality, reference
from postprocessing.formats import encode
from postprocessing.reading import decode
from postprocessing.recipe import Output
from postprocessing.similarity import INDISTINGUISHABLE, ssim
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
    found = at_quality(picture, Output(form, auto=True, metadata="none"))
    assert bound.ssim < INDISTINGUISHABLE
    assert found.ssim >= bound.ssim
    assert found.bytes < bound.bytes
    smaller = [at_quality(picture, Output(form, quality, metadata="none")) for quality in range(50, 100, 7)]
    assert all(other.ssim < bound.ssim for other in smaller if other.bytes < found.bytes)


def test_auto_writes_a_flat_drawing_without_loss():
    picture = np.full((128, 128, 3), 250, np.uint8)
    picture[30:90, 40:100] = (200, 30, 30)
    data = encode(picture, Output("webp", auto=True)).data
    assert np.array_equal(decode(data), picture)
    assert len(data) < len(encode(picture, Output("webp")).data)


def test_bench_formats_says_what_is_saved_by_kind_of_picture(tmp_path, capsys, monkeypatch):
    drawn = {"drawings": [scene(48, 48)]}
    monkeypatch.setattr("postprocessing.compare.drawn_pictures", lambda: drawn)
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


@pytest.mark.parametrize("step", [step for step in STEPS if not step.startswith("upscale")])
def test_each_step_can_be_measured(step, monkeypatch):
    monkeypatch.setattr("postprocessing.bench._SECONDS", 0.0)
    found = measure(step, 128, "batch", ".")
    assert found["rate"] > 0
    assert sample(64, 0).dtype == np.uint8
