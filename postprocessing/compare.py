"""How many bytes a format needs for the same visual quality as another, measured by structural similarity (SSIM)."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from postprocessing.arrays import Picture
from postprocessing.decoding import decode
from postprocessing.formats import encode
from postprocessing.quality import DEFAULT_QUALITY
from postprocessing.recipe import Output
from postprocessing.similarity import REFERENCE_QUALITY, plain_jpeg, ssim

CANDIDATES: Mapping[str, Output] = {
    "jpeg auto": Output("jpeg", auto=True, metadata="none"),
    "webp default": Output("webp", DEFAULT_QUALITY["webp"], metadata="none"),
    "avif default": Output("avif", DEFAULT_QUALITY["avif"], metadata="none"),
    "webp auto": Output("webp", auto=True, metadata="none"),
    "avif auto": Output("avif", auto=True, metadata="none"),
}


@dataclass(frozen=True)
class Measurement:
    """Size of a file, and its SSIM to the picture that it encodes."""

    bytes: int
    ssim: float


def encoded_size(image: Picture, output: Output) -> Measurement:
    data = encode(image, output).data
    return Measurement(len(data), ssim(image, decode(data)))


def reference(image: Picture) -> Measurement:
    """The plain JPEG that the formats are compared with."""
    data = plain_jpeg(image, REFERENCE_QUALITY)
    return Measurement(len(data), ssim(image, decode(data)))


def synthetic_pictures(side: int = 256) -> dict[str, list[Picture]]:
    """Flat drawings, soft gradients, and noise with the 1/f spectrum of photographs."""
    return {
        "drawings": [_drawing(side, seed) for seed in range(4)],
        "gradients": [_gradient(side, seed) for seed in range(3)],
        "1/f noise": [_noise(side, seed) for seed in range(3)],
    }


def _drawing(side: int, seed: int) -> Picture:
    random = np.random.default_rng(seed)
    picture = np.full((side, side, 3), random.integers(180, 256, 3), np.uint8)
    for _ in range(8):
        color = tuple(int(value) for value in random.integers(0, 256, 3))
        corners = random.integers(0, side, (int(random.integers(3, 6)), 2)).astype(np.int32)
        cv2.fillPoly(picture, [corners], color, cv2.LINE_AA)
        center = tuple(int(value) for value in random.integers(0, side, 2))
        cv2.circle(picture, center, int(random.integers(4, side // 5)), color, 2, cv2.LINE_AA)
    cv2.putText(
        picture,
        f"Sale {seed}9 %",
        (side // 8, side // 2),
        cv2.FONT_HERSHEY_SIMPLEX,
        side / 220,
        (0, 0, 0),
        2,
        cv2.LINE_AA,
    )
    return picture


def _gradient(side: int, seed: int) -> Picture:
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3)).astype(np.float32)
    return np.rint(cv2.resize(corners, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 255)).astype(np.uint8)


def _noise(side: int, seed: int) -> Picture:
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1 / side
    shared = random.normal(size=(side, side, 1))
    noise = 0.8 * shared + 0.2 * random.normal(size=(side, side, 3))  # channels of photographs are correlated
    waves = np.fft.irfft2(np.fft.rfft2(noise, axes=(0, 1)) / frequency[:, :, None], s=(side, side), axes=(0, 1))
    return np.rint((waves / waves.std() * 50 + 127).clip(0, 255)).astype(np.uint8)


def totals(pictures: list[Picture]) -> dict[str, dict[str, float]]:
    """For JPEG 90 and each candidate: bytes of all pictures, percent saved against JPEG 90 and against the smallest
    JPEG of that quality (jpeg auto), lowest and mean SSIM.
    """
    base = [reference(picture) for picture in pictures]
    rows = {f"jpeg {REFERENCE_QUALITY}": base}
    rows |= {name: [encoded_size(picture, output) for picture in pictures] for name, output in CANDIDATES.items()}
    jpegs = [sum(match.bytes for match in rows[name]) for name in (f"jpeg {REFERENCE_QUALITY}", "jpeg auto")]
    return {name: _summary(matches, *jpegs) for name, matches in rows.items()}


def _summary(matches: list[Measurement], jpeg: int, smallest_jpeg: int) -> dict[str, float]:
    size, similarities = sum(match.bytes for match in matches), [match.ssim for match in matches]
    return {
        "bytes": size,
        "saved_percent": round(100 * (1 - size / jpeg), 1),
        "saved_percent_of_jpeg_auto": round(100 * (1 - size / smallest_jpeg), 1),
        "ssim_lowest": round(min(similarities), 4),
        "ssim_mean": round(float(np.mean(similarities)), 4),
    }
