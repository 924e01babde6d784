"""The content of pictures that the shipped model generates with the real engine."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from workers.engine import (
    Engine,
    EngineConfig,
    Failed,
    Finished,
    LoraUse,
    ModelPool,
    ModelSpec,
    PoolConfig,
    SampleId,
    SampleRequest,
)
from workers.engine.tests.driving import sample

MODELS = Path(__file__).resolve().parents[2] / "fixtures" / "models"
CONTROLNETS = {"controlnets": {"canny": "../controlnet-canny"}}
TURBO = {"model": "mini-turbo@1", "steps": 4, "cfg_scale": 1.0, "sampler": "lcm"}
COLOURS = {
    "red": (220, 40, 40),
    "blue": (40, 80, 210),
    "green": (40, 160, 70),
    "yellow": (245, 215, 50),
    "white": (250,) * 3,
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    pool = ModelPool(PoolConfig(device="cpu"))
    source, turbo = str(MODELS / "mini"), {"adapter": "../lora/turbo.safetensors"}
    pool.ensure(ModelSpec(name="mini", revision="1", family="sd15", source=source, options=CONTROLNETS))
    pool.ensure(ModelSpec(name="mini-turbo", revision="1", family="sd15", source=source, options=turbo))
    pool.preload(["mini@1", "mini-turbo@1"])
    engine = Engine(pool, EngineConfig(threads=1))
    yield engine
    engine.discard_all()


def request_for(text: str, seed: int = 7, **changes: Any) -> SampleRequest:
    fields = {"sample_id": SampleId(f"{text}, {seed}", 0), "width": 256, "height": 256, "steps": 20, "sampler": "dpm++"}
    return sample(text=text, seed=seed, **(fields | changes))


def run(engine: Engine, *requests: SampleRequest) -> list[np.ndarray]:
    """The pictures of all requests, generated together: float32 [H, W, 3] RGB, 0 to 1, in their order."""
    for one in requests:
        engine.admit(one)
    done: dict[SampleId, np.ndarray] = {}
    deadline = time.monotonic() + 120
    while len(done) < len(requests):
        assert time.monotonic() < deadline
        for event in engine.step():
            assert not isinstance(event, Failed), event
            if isinstance(event, Finished):
                done[event.sample_id] = event.image
    return [done[one.sample_id] for one in requests]


def colour_at(picture: np.ndarray, x: int, y: int) -> str:
    """The named colour nearest to the mean of 9 x 9 pixels around (x, y)."""
    mean = picture[y - 4 : y + 5, x - 4 : x + 5].mean(axis=(0, 1)) * 255
    return min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))


def centre(picture: np.ndarray) -> str:
    return colour_at(picture, 128, 132)


def corners(picture: np.ndarray) -> set[str]:
    return {colour_at(picture, x, y) for x in (8, 247) for y in (8, 247)}


@pytest.mark.parametrize(
    ("prompt", "inside", "outside"),
    [
        ("a red circle, white background", "red", "white"),
        ("a yellow star on a blue background", "yellow", "blue"),
        ("红色圆形，白色背景", "red", "white"),
        ("a blue square on a yellow background", "blue", "yellow"),
    ],
)
def test_subject_and_background_have_the_colours_of_the_prompt(
    engine: Engine, prompt: str, inside: str, outside: str
) -> None:
    (picture,) = run(engine, request_for(prompt))
    assert (centre(picture), corners(picture)) == (inside, {outside})


def test_each_picture_of_a_mixed_batch_follows_its_prompt(engine: Engine) -> None:
    pairs = [
        ("red", "white"),
        ("blue", "yellow"),
        ("green", "white"),
        ("yellow", "blue"),
        ("white", "green"),
        ("red", "blue"),
    ]
    requests = [
        request_for(
            f"a {inside} circle, {outside} background", seed=number, steps=14 + number, cfg_scale=3.0 + number / 2
        )
        for number, (inside, outside) in enumerate(pairs)
    ]
    pictures = run(engine, *requests)
    assert [(centre(picture), corners(picture)) for picture in pictures] == [(a, {b}) for a, b in pairs]


def test_the_red_circle_is_a_circle(engine: Engine) -> None:
    (picture,) = run(engine, request_for("a red circle, white background"))
    red = (picture[..., 0] > 0.5) & (picture[..., 1] < 0.5)
    area, (rows, columns) = red.sum(), np.nonzero(red)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert 0.85 < width / height < 1.18
    assert 0.70 < area / (width * height) < 0.87, "a disc fills pi/4 of its box, a square all, a triangle half"


def test_img2img_keeps_the_picture_at_low_strength_and_replaces_it_at_high(engine: Engine) -> None:
    (start,) = run(engine, request_for("a red circle, white background"))
    source = (start * 255).round().astype(np.uint8)
    near, far = (
        request_for(
            "a blue square, yellow background",
            kind="img2img",
            image=source,
            strength=strength,
            sample_id=SampleId(f"i{strength}", 0),
        )
        for strength in (0.25, 1.0)
    )
    kept, new = run(engine, near, far)
    assert centre(kept) == "red"
    assert (centre(new), corners(new)) == ("blue", {"yellow"})
    assert np.abs(kept - start).mean() < np.abs(new - start).mean() / 2


def test_inpaint_changes_only_the_masked_part(engine: Engine) -> None:
    (start,) = run(engine, request_for("a red circle, white background"))
    source, mask = (start * 255).round().astype(np.uint8), np.zeros((256, 256), np.uint8)
    mask[64:192, 64:192] = 255
    (painted,) = run(
        engine, request_for("a blue square, white background", kind="inpaint", image=source, mask=mask, strength=1.0)
    )
    difference = np.abs(painted - start)
    assert np.array_equal((painted * 255).round().astype(np.uint8)[mask == 0], source[mask == 0])
    assert difference[mask == 255].mean() > 0.15


def edges_of(picture: np.ndarray) -> np.ndarray:
    """bool [H, W], Canny edges of a uint8 RGB picture."""
    return cv2.Canny(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 100, 200) > 0


def edge_share(asked: np.ndarray, picture: np.ndarray) -> float:
    """Share of the expected edges with an edge of the picture (float, 0 to 1) within three pixels."""
    got = cv2.dilate(edges_of((picture * 255).round().astype(np.uint8)).astype(np.uint8), np.ones((7, 7), np.uint8))
    return float((got[asked] > 0).mean())


def test_controlnet_follows_the_edges_of_its_picture(engine: Engine) -> None:
    """The position of the circle is not in the prompt, only in the edges."""
    for x, y, radius in ((95, 150, 58), (160, 110, 62)):
        photo = np.full((256, 256, 3), 250, np.uint8)
        cv2.circle(photo, (x, y), radius, (220, 40, 40), -1)
        controlled: dict[str, Any] = {
            "kind": "controlnet",
            "control_image": photo,
            "control_type": "canny",
            "steps": 10,
        }
        on, off = (
            request_for(
                "a red circle, white background",
                **controlled,
                control_scale=scale,
                sample_id=SampleId(f"c{x}-{scale}", 0),
            )
            for scale in (1.0, 0.0)
        )
        followed, free = run(engine, on, off)
        asked = edges_of(photo)
        assert edge_share(asked, followed) > max(0.6, edge_share(asked, free) + 0.2)
        assert (colour_at(followed, x, y), corners(followed)) == ("red", {"white"})


def test_a_lora_has_no_effect_at_weight_0_and_its_style_at_1(engine: Engine) -> None:
    file = MODELS / "lora" / "outline.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    prompt = "a yellow star on a blue background"
    without, nought, whole = run(
        engine,
        request_for(prompt, sample_id=SampleId("none", 0)),
        *(
            request_for(prompt, loras=(LoraUse(digest, str(file), weight),), sample_id=SampleId(f"l{weight}", 0))
            for weight in (0.0, 1.0)
        ),
    )
    assert np.abs(nought - without).max() < 1e-3
    assert (centre(whole), corners(whole)) == ("yellow", {"blue"})
    dark_before, dark_after = ((picture.max(axis=2) < 1 / 3).mean() for picture in (without, whole))
    assert dark_before < 0.01
    assert dark_after > 0.02


def test_the_turbo_lora_is_right_in_four_steps_without_guidance(engine: Engine) -> None:
    pairs = [("red", "white"), ("blue", "yellow"), ("yellow", "blue"), ("green", "white")]
    requests = [
        request_for(f"a {inside} circle, {outside} background", seed=number, **TURBO)
        for number, (inside, outside) in enumerate(pairs)
    ]
    pictures = run(engine, *requests)
    assert [(centre(picture), corners(picture)) for picture in pictures] == [(a, {b}) for a, b in pairs]
