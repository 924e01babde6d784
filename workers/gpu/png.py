"""Float pictures as lossless 8-bit PNG, and back."""

import cv2
import numpy as np

PNG_EFFORT = [cv2.IMWRITE_PNG_COMPRESSION, 1]  # written once, read once: speed before size


def decode_png(png: bytes) -> np.ndarray:
    """float32 [H, W, 3] RGB in 0..1 of an 8-bit PNG; `encode_png` makes the same picture of it again."""
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def encode_png(image: np.ndarray) -> bytes:
    """8-bit PNG of float32 [H, W, 3] RGB in 0..1."""
    rounded = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    ok, data = cv2.imencode(".png", cv2.cvtColor(rounded, cv2.COLOR_RGB2BGR), PNG_EFFORT)
    if not ok:
        raise ValueError(f"a picture of shape {image.shape} cannot be written as PNG")
    return data.tobytes()
