"""What a script would do for the work of each step by direct calls of OpenCV, Pillow and ONNX Runtime: what the
benchmark holds the steps against. Tests compare the pictures.
"""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from postprocessing.arrays import Picture
from postprocessing.fonts import SHIPPED
from postprocessing.watermark_form import OUTLINE

Call = Callable[[Picture], Any]
_QUALITY: dict[str, dict[str, Any]] = {
    "webp": {"quality": 85, "method": 4},
    "avif": {"quality": 65, "speed": 5, "advanced": {"tune": "ssim"}},
    "jpeg": {"quality": 90, "subsampling": "4:4:4", "optimize": True, "progressive": True},
    "png": {"compress_level": 6},
}


def plain(step: str, superres: str) -> Call:
    """The calls for a step of the benchmark. `superres`: folder of x2.onnx and x4.onnx."""
    if step in _QUALITY:
        return partial(_encode, form=step)
    if step.startswith("upscale"):
        return _network(Path(superres) / f"x{step.split()[1][0]}.onnx")
    return {
        "basic": _basic,
        "denoise": _denoise,
        "tone": _tone,
        "background": _background,
        "text mark": _text,
        "qr mark": _qr,
    }[step]


def _encode(image: Picture, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form.upper(), **_QUALITY[form])
    return buffer.getvalue()


def _network(path: Path) -> Call:
    """The whole picture in one call of a loaded session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def enlarge(image: Picture) -> Picture:
        unit = image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        large = session.run(None, {name: unit})[0][0].transpose(1, 2, 0)
        return np.rint(large.clip(0, 1) * 255).astype(np.uint8)

    return enlarge


def _basic(image: Picture) -> Picture:
    means = np.array(cv2.mean(image)[:3])
    slope = 1.1 * np.clip(means.mean() / means, 0.5, 2)
    offset = 127.5 * (1 - 1.1) + 0.05 * 255
    return cv2.transform(image, np.column_stack([np.diag(slope), np.full(3, offset)]))


def _denoise(image: Picture) -> Picture:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.cvtColor(cv2.fastNlMeansDenoisingColored(bgr, None, 3, 3, 7, 15), cv2.COLOR_BGR2RGB)


def _tone(image: Picture) -> Picture:
    """With a piecewise linear curve."""
    table = np.rint(np.interp(np.arange(256) / 255, [0, 0.5, 1], [0, 0.55, 1]) * 255).astype(np.uint8)
    grey = np.tile([0.2126, 0.7152, 0.0722], (3, 1))
    vivid = cv2.transform(cv2.LUT(image, table), 1.2 * np.eye(3) - 0.2 * grey)
    return cv2.addWeighted(vivid, 1.4, cv2.GaussianBlur(vivid, (0, 0), 1.2), -0.4, 0)


def _background(image: Picture) -> Picture:
    """Flood fill from the corners with hard edges, for a background of one colour: less than the step does."""
    height, width = image.shape[:2]
    mask = np.zeros((height + 2, width + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    for corner in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
        cv2.floodFill(lab, mask, corner, 0, (20, 20, 20), (20, 20, 20), flags)
    white = image.copy()
    white[mask[1:-1, 1:-1] == 1] = 255
    return white


def _text(image: Picture) -> Picture:
    canvas = Image.fromarray(image)
    font = ImageFont.truetype(SHIPPED, image.shape[0] / 20)
    place = (image.shape[1] * 0.98, image.shape[0] * 0.98)
    half: dict[str, Any] = {
        "fill": (255, 255, 255, 128),
        "stroke_width": OUTLINE * font.size,
        "stroke_fill": (0, 0, 0, 128),
    }
    ImageDraw.Draw(canvas, "RGBA").text(place, "ImageGenX 图", font=font, anchor="rd", **half)
    return np.asarray(canvas)


def _qr(image: Picture) -> Picture:
    code = cv2.QRCodeEncoder_create().encode("https://example.com/i/42")  # type: ignore[attr-defined]
    each = max(3, round(0.2 * min(image.shape[:2]) / len(code)))
    sharp = cv2.resize(code, None, fx=each, fy=each, interpolation=cv2.INTER_NEAREST)
    marked = image.copy()
    marked[-len(sharp) - 10 : -10, -len(sharp) - 10 : -10] = sharp[:, :, None]
    return marked
