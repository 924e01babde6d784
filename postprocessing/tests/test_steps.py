"""Basic steps, tone and white background."""

import cv2
import numpy as np
import pytest

from postprocessing.arrays import as_rgb8, check_picture
from postprocessing.background import whiten_background
from postprocessing.basic import apply_basic, grey_world_gains
from postprocessing.pipeline import render
from postprocessing.recipe import Basic, Recipe, Tone
from postprocessing.superres import SuperResConfig
from postprocessing.tests.pictures import psnr, scene
from postprocessing.tone import apply_tone, curve_table


def test_brightness_and_contrast_by_hand():
    levels = np.array([[[0, 64, 128], [127, 200, 255]]], np.uint8)
    assert apply_basic(levels, Basic(brightness=0.2)).tolist() == [[[51, 115, 179], [178, 251, 255]]]
    assert apply_basic(levels, Basic(contrast=2.0)).tolist() == [[[0, 0, 128], [126, 255, 255]]]


def test_white_balance_makes_the_means_equal():
    tinted = np.clip(scene().astype(np.float32) * [0.7, 1.0, 1.2], 0, 255).astype(np.uint8)
    means = apply_basic(tinted, Basic(white_balance="auto")).reshape(-1, 3).mean(axis=0)
    assert np.ptp(means) < 4
    assert (grey_world_gains(np.zeros((4, 4, 3), np.uint8)) == 1).all()


def test_denoise_approaches_the_clean_picture():
    clean = cv2.GaussianBlur(scene(96, 96), (0, 0), 1.5)
    noisy = np.clip(clean + np.random.default_rng(1).normal(0, 12, clean.shape), 0, 255).astype(np.uint8)
    assert psnr(apply_basic(noisy, Basic(denoise=1.0)), clean) > psnr(noisy, clean) + 3


def test_red_stays_red_through_every_step():
    red = np.zeros((64, 64, 3), np.uint8)
    red[:] = (200, 30, 30)
    done = render(
        [red], Recipe(basic=Basic(0.02, 1.05, "none", 0.3), tone=Tone(saturation=1.3, sharpen=0.5)), SuperResConfig()
    )[0]
    assert done[32, 32, 0] > 180
    assert done[32, 32, 1:].max() < 60


def test_the_curve_goes_through_its_points_and_never_overshoots():
    table = curve_table(((0.0, 0.1), (0.4, 0.4), (0.6, 0.9), (1.0, 0.95))).astype(int)
    assert [table[0], table[102], table[153], table[255]] == pytest.approx([26, 102, 230, 242], abs=1)
    assert (np.diff(table) >= 0).all()
    assert (curve_table(((0.0, 0.0), (1.0, 1.0))) == np.arange(256)).all()
    assert curve_table(((0.0, 0.5), (0.5, 1.0), (1.0, 0.5))).max() == 255


def test_saturation_keeps_greys_and_brightness():
    picture = scene()
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert np.abs(apply_tone(grey, Tone(saturation=2.0)).astype(int) - grey).max() <= 1
    flat = apply_tone(picture, Tone(saturation=0.5))
    assert np.ptp(flat.astype(int), axis=2).mean() < 0.55 * np.ptp(picture.astype(int), axis=2).mean() + 1
    luma = [0.2126, 0.7152, 0.0722]
    assert abs((flat @ luma).mean() - (picture @ luma).mean()) < 1


def test_sharpening_raises_the_detail():
    picture = cv2.GaussianBlur(scene(), (0, 0), 1.0)
    detail = [cv2.Laplacian(image, cv2.CV_32F).std() for image in (picture, apply_tone(picture, Tone(sharpen=1.0)))]
    assert detail[1] > 1.5 * detail[0]


def test_inputs_are_never_changed():
    picture = scene(64, 64)
    before = picture.copy()
    render(
        [picture],
        Recipe.from_json({"brightness": 0.1, "saturation": 1.5, "sharpen": 1, "white_background": True}),
        SuperResConfig(),
    )
    assert (picture == before).all()


def product_shot() -> tuple[np.ndarray, np.ndarray]:
    """A ring on an unevenly lit grey ground, and the mask of the ring's metal (bool)."""
    y, x = np.mgrid[0:300, 0:240].astype(np.float32)
    ground = 232 - 25 * ((x / 240 - 0.5) ** 2 + (y / 300 - 0.4) ** 2)
    picture = np.repeat(ground[:, :, None], 3, axis=2).astype(np.uint8)
    mask = np.zeros((300, 240), np.uint8)
    cv2.circle(mask, (120, 150), 70, 255, 24)
    picture[mask > 0] = (170, 120, 40)
    return picture, mask > 0


def test_the_background_becomes_white_and_the_object_stays():
    picture, metal = product_shot()
    white = whiten_background(picture)
    outside = np.ones_like(metal)
    cv2_mask = np.zeros(metal.shape, np.uint8)
    cv2.circle(cv2_mask, (120, 150), 88, 1, -1)
    outside[cv2_mask > 0] = False
    assert (white[outside] == 255).all()
    inner = cv2.erode(metal.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert (white[inner] == picture[inner]).all()
    assert (white[150, 120] == picture[150, 120]).all()  # what the ring encloses is not touched


def test_a_picture_without_plain_edges_is_unchanged():
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    assert (whiten_background(noise) == noise).all()


@pytest.mark.parametrize(
    ("array", "pixel"),
    [
        (np.full((2, 3), 7, np.uint8), [7, 7, 7]),
        (np.full((2, 3, 1), 65535, np.uint16), [255, 255, 255]),
        (np.full((2, 3, 2), 0, np.uint8), [255, 255, 255]),
        (np.full((2, 3, 4), 128, np.uint8), [191, 191, 191]),
        (np.full((2, 3, 3), 0.5, np.float64), [128, 128, 128]),
        (np.full((2, 3, 3), 9.0, np.float32), [255, 255, 255]),
    ],
)
def test_other_arrays_are_converted(array, pixel):
    picture = as_rgb8(array)
    assert check_picture(picture) is picture
    assert np.abs(picture[0, 0].astype(int) - pixel).max() <= 1


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 5), np.uint8),
        np.zeros((2,), np.uint8),
        np.zeros((2, 2, 3), np.int32),
        np.full((2, 2), np.nan),
        "x",
    ],
)
def test_other_values_are_refused(array):
    with pytest.raises(ValueError):
        as_rgb8(array)
    with pytest.raises((ValueError, TypeError)):
        check_picture(array)
