import cv2
import numpy as np
import pytest
from django.core.management import call_command
from PIL import Image

from postprocessing.bench import STEPS, measure, sample
from postprocessing.compare import at_quality, match, plain_jpeg, ssim
from postprocessing.recipe import Output
from postprocessing.tests.pictures import scene


def test_ssim_of_known_cases():
    picture = scene()
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(picture, 255 - picture) < 0.6
    blurred = [ssim(picture, cv2.GaussianBlur(picture, (0, 0), sigma)) for sigma in (0.5, 1, 2)]
    assert blurred == sorted(blurred, reverse=True)


def test_match_finds_the_lowest_quality_that_reaches_the_reference():
    picture = scene()
    reference = plain_jpeg(picture, 90)
    found = match(picture, "webp", reference.ssim)
    assert found.quality is not None
    assert found.ssim >= reference.ssim
    assert at_quality(picture, Output("webp", found.quality - 1, metadata="none")).ssim < reference.ssim
    assert match(picture, "webp", 1.1).quality is None


def test_bench_formats_says_what_is_saved(tmp_path, capsys):
    Image.fromarray(cv2.GaussianBlur(scene(), (0, 0), 1)).save(tmp_path / "a.png")
    call_command("bench_formats", tmp_path)
    said = capsys.readouterr().out
    assert "a.png" in said
    assert "webp =" in said
    assert "% less than JPEG 90" in said


@pytest.mark.parametrize("step", [step for step in STEPS if not step.startswith("upscale")])
def test_each_step_can_be_measured(step, monkeypatch):
    monkeypatch.setattr("postprocessing.bench._SECONDS", 0.0)
    found = measure(step, 128, "batch", ".")
    assert found["rate"] > 0
    assert sample(64, 0).dtype == np.uint8
