"""The comparison of runtimes: likeness of pictures, passes, whole pictures in a process of their own."""

import numpy as np
import pytest

from deploy.bench.models import comparison, parts
from deploy.bench.models.__main__ import page
from deploy.bench.models.likeness import MOST_DB, psnr, ssim
from deploy.bench.models.pictures import PictureCase, run_case
from deploy.bench.models.variants import CHANNELS_LAST, EAGER, ONNX
from deploy.bench.product import ROOT
from workers.engine import ModelSpec
from workers.engine.tests import tiny_models

MINI = str(ROOT / "fixtures" / "models" / "mini")


def test_likeness_of_known_cases():
    chance = np.random.default_rng(1)
    picture = chance.random((64, 64, 3), np.float32)
    assert psnr(picture, picture) == MOST_DB
    assert psnr(picture + 0.1, picture) == pytest.approx(20, abs=1e-4)
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(1 - picture, picture) < 0
    assert 0.5 < ssim(picture + chance.normal(0, 0.1, picture.shape), picture) < 0.99


def test_passes_of_each_module_by_each_runtime(tmp_path):
    tiny_models.save_stable_diffusion(tmp_path, with_controlnet=False)
    found = parts.measure_parts(ModelSpec("m", "1", "sd15", str(tmp_path)), 1, rows=[1, 2], passes=1)
    assert found.keys() == {"unet", "text_encoder", "vae_decoder"}
    for by_rows in found.values():
        assert by_rows.keys() == {1, 2}
        assert {EAGER, CHANNELS_LAST, ONNX} <= by_rows[1].keys()
        assert all(one["ms"] > 0 for one in by_rows[1].values())
    assert all(quicker[EAGER] == 1.0 for _, _, quicker in parts.rates(found))


def test_a_comparison_is_judged_kept_and_shown(tmp_path, monkeypatch):
    """One process for each runtime, two runs; the judge and the page see what came of them."""
    monkeypatch.setattr(comparison, "here", lambda: [EAGER, ONNX])
    runs = []

    def run(case, saved):
        runs.append(case.options["runtime"])
        np.save(saved, np.full((2, 64, 64, 3), 0.5 if case.options["runtime"] == "eager" else 0.51, np.float32))
        return {"pictures_per_s": 2.0, "cpu_ms": 500.0 - len(runs), "memory_mb": 700}

    monkeypatch.setattr(comparison, "run_case", run)
    wanted = comparison.orders(2)
    case = PictureCase("mini", "sd15", MINI, 1, 1.0, "lcm", [order.prompt for order in wanted])
    found = comparison.compare(case, wanted, tmp_path / "sheet.webp")
    assert runs == ["eager", "onnx"] * 2
    assert found["runtimes"][ONNX]["psnr_min"] == pytest.approx(40, abs=0.1)
    assert found["runtimes"][EAGER]["cpu_ms"] == 497
    assert 0 <= found["runtimes"][ONNX]["judge"] <= 1
    assert (tmp_path / "sheet.webp").stat().st_size > 500
    one = {"ms": 10.0, "cpu_ms": 8.0}
    results = {
        "machine": "2 cores",
        "parts": {"1": {"unet": {"1": {EAGER: one, ONNX: one}}}},
        "pictures": {"mini": found},
    }
    text = page(results)
    assert "| unet | 1 | 10.0 (8.0) | 10.0 (8.0), **1.0** |" in text
    assert "| onnx | 2.00 | 496 | 1.00 | 700 | 40.0 / 40.0 |" in text


def test_whole_pictures_are_made_by_a_process_of_their_own(tmp_path):
    case = PictureCase(
        "mini", "sd15", MINI, 1, 1.0, "euler", ["a red circle", "蓝色的星星"], {"runtime": "onnx"}, 64, 64
    )
    figures = run_case(case, tmp_path / "pictures.npy")
    assert np.load(tmp_path / "pictures.npy").shape == (2, 64, 64, 3)
    assert figures["pictures_per_s"] > 0
    assert 200 < figures["memory_mb"] < 2000
