"""The same picture means the same at every door, in every role; a mask is read by the rule of its door."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image as Pillow

from generation.accounts.models import User
from generation.catalogue.models import ImageModel
from generation.tasks.models import Task
from postprocessing.tests.profiles import rgb_profile
from postprocessing.tests.test_client_pictures import header_only
from storage.store import get_store

NATIVE, SDAPI, OPENAI = "/api/v1/image", "/sdapi/v1/img2img", "/v1/images/edits"
SIDE = 256


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User, able_model: ImageModel) -> Client:
    return client_of(owner)


def written(picture: Pillow.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def plain(colour: Any = "grey", mode: str = "RGB") -> bytes:
    return written(Pillow.new(mode, (SIDE, SIDE), colour))


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


def native(client: Client, picture: bytes) -> Any:
    return post(client, f"{NATIVE}/img2img", {"text": "x", "image": text(picture), "params": {"model": "able"}})


def control(client: Client, picture: bytes) -> Any:
    params = {"model": "able", "control_type": "canny"}
    return post(client, f"{NATIVE}/controlnet", {"text": "x", "control_image": text(picture), "params": params})


def sdapi(client: Client, picture: bytes) -> Any:
    size = {"width": SIDE, "height": SIDE}
    return post(client, SDAPI, {"prompt": "x", "init_images": [text(picture)], **size})


def openai_form(client: Client, picture: bytes) -> Any:
    return client.post(OPENAI, {"prompt": "x", "size": "256x256", "image": SimpleUploadedFile("a", picture)})


def openai_json(client: Client, picture: bytes) -> Any:
    return post(client, OPENAI, {"prompt": "x", "size": "256x256", "images": [{"image_url": text(picture)}]})


DOORS = {"native": native, "control": control, "sdapi": sdapi, "openai": openai_form, "openai json": openai_json}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=list(DOORS))


def stored() -> Pillow.Image:
    params = Task.objects.latest("id").params
    return Pillow.open(io.BytesIO(get_store("images").read(params.get("image_key") or params["control_key"])))


@every_door
def test_every_door_takes_what_people_have(client: Client, door: Callable[..., Any]) -> None:
    sixteen = np.full((SIDE, SIDE), 13107, np.uint16)
    sixteen[:, SIDE // 2 :] = 39321
    assert door(client, written(Pillow.fromarray(sixteen))).status_code in (200, 202)
    assert [stored().getpixel((x, 9)) for x in (9, 250)] == [(51,) * 3, (153,) * 3]
    adobe = Pillow.new("RGB", (SIDE, SIDE), (101, 168, 71))
    assert door(client, written(adobe, icc_profile=rgb_profile())).status_code in (200, 202)
    assert stored().getpixel((9, 9)) == pytest.approx((40, 170, 60), abs=4)
    phone = written(Pillow.open(io.BytesIO(plain())), "MPO", save_all=True, append_images=[Pillow.new("RGB", (64, 64))])
    assert door(client, phone).status_code in (200, 202)
    assert Task.objects.latest("id").warnings == []


@every_door
def test_of_an_animation_the_first_frame_is_taken_and_the_task_says_so(
    client: Client, door: Callable[..., Any]
) -> None:
    frames = [Pillow.new("RGB", (SIDE, SIDE), colour) for colour in ("white", "black")]
    moving = written(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert door(client, moving).status_code in (200, 202)
    assert stored().getpixel((9, 9)) == (255, 255, 255)
    [warning] = Task.objects.latest("id").warnings
    assert "animation" in warning


@every_door
def test_a_pixel_bomb_is_refused(client: Client, door: Callable[..., Any]) -> None:
    assert [door(client, header_only(side)).status_code for side in (14_000, 20_000)] == [400, 400]
    assert Task.objects.count() == 0


@pytest.mark.parametrize("side", [14_000, 20_000])
def test_so_it_is_as_a_mask_and_as_a_logo(client: Client, side: int) -> None:
    bomb, given = header_only(side), plain()
    files = {"image": SimpleUploadedFile("a", given), "mask": SimpleUploadedFile("m", bomb)}
    marked = {"postprocess": {"watermark": {"kind": "image", "image": text(bomb)}}}
    answers = [
        client.post(OPENAI, {"prompt": "x", **files}),
        post(client, SDAPI, {"prompt": "x", "init_images": [text(given)], "mask": text(bomb)}),
        post(client, f"{NATIVE}/inpaint", {"text": "x", "image": text(given), "mask": text(bomb)}),
        post(client, f"{NATIVE}/generate", {"text": "x", "params": marked}),
    ]
    assert [answer.status_code for answer in answers] == [400] * 4
    assert Task.objects.count() == 0


def test_a_logo_may_be_a_data_url_or_have_line_breaks(client: Client) -> None:
    encoded = text(written(Pillow.new("RGBA", (64, 64), (0, 0, 0, 90))))
    lines = "\r\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))
    for start in ("data:image/png;charset=utf-8;base64,", "DATA:image/png;base64,", ""):
        params = {"postprocess": {"watermark": {"kind": "image", "image": start + lines}}}
        answer = post(client, f"{NATIVE}/generate", {"text": "x", "params": params})
        assert answer.status_code == 202, answer.content


# ---- masks: painted are the left half's white strokes (below), by each door's rule


def mask(ground: tuple[int, ...], left: tuple[int, ...]) -> bytes:
    picture = Pillow.new("RGBA" if len(ground) == 4 else "L", (SIDE, SIDE), ground if len(ground) == 4 else ground[0])
    picture.paste(left if len(left) == 4 else left[0], (0, 0, SIDE // 2, SIDE))
    return written(picture)


WHITE_ON_BLACK = mask((0,), (255,))
WHITE_ON_CLEAR = mask((0, 0, 0, 0), (255, 255, 255, 255))
BLACK_ON_CLEAR = mask((0, 0, 0, 0), (0, 0, 0, 255))
CLEAR_IN_WHITE = mask((255, 255, 255, 255), (255, 255, 255, 0))
OPAQUE_WHITE_ON_BLACK = mask((0, 0, 0, 255), (255, 255, 255, 255))


def painted() -> tuple[Any, Any]:
    """The levels of the left and the right half."""
    picture = Pillow.open(io.BytesIO(get_store("images").read(Task.objects.latest("id").params["mask_key"])))
    return picture.getpixel((20, 128)), picture.getpixel((236, 128))


def test_our_own_door_paints_what_is_white_and_opaque(client: Client) -> None:
    rows = [
        (WHITE_ON_BLACK, (255, 0)),
        (WHITE_ON_CLEAR, (255, 0)),
        (BLACK_ON_CLEAR, (0, 0)),
        (CLEAR_IN_WHITE, (0, 255)),
        (OPAQUE_WHITE_ON_BLACK, (255, 0)),
    ]
    for given, expected in rows:
        body = {"text": "x", "image": text(plain()), "mask": text(given)}
        assert post(client, f"{NATIVE}/inpaint", body).status_code == 202
        assert painted() == expected


@pytest.mark.parametrize("swap", [0, 1, "0", "1"])
def test_a1111_paints_what_is_opaque(client: Client, swap: Any) -> None:
    rows = [
        (WHITE_ON_BLACK, (255, 0)),
        (WHITE_ON_CLEAR, (255, 0)),
        (BLACK_ON_CLEAR, (255, 0)),
        (CLEAR_IN_WHITE, (0, 255)),
        (OPAQUE_WHITE_ON_BLACK, (255, 0)),
    ]
    for given, expected in rows:
        body = {"prompt": "x", "init_images": [text(plain())], "mask": text(given), "mask_blur": 0}
        size = {"width": SIDE, "height": SIDE}
        assert post(client, SDAPI, {**body, **size, "inpainting_mask_invert": swap}).status_code == 202
        assert painted() == (expected[::-1] if int(swap) else expected)


def test_openai_paints_what_is_transparent(client: Client) -> None:
    for given, expected in ((CLEAR_IN_WHITE, (255, 0)), (WHITE_ON_CLEAR, (0, 255)), (BLACK_ON_CLEAR, (0, 255))):
        files = {"image": SimpleUploadedFile("a", plain()), "mask": SimpleUploadedFile("m", given)}
        body = {"prompt": "x", "size": "256x256", "image": text(plain()), "mask": {"image_url": text(given)}}
        for answer in (client.post(OPENAI, {"prompt": "x", "size": "256x256", **files}), post(client, OPENAI, body)):
            assert answer.status_code == 202, answer.content
            assert painted() == expected


def test_an_openai_mask_without_transparency_is_refused(client: Client) -> None:
    answer = post(client, OPENAI, {"prompt": "x", "image": text(plain()), "mask": text(WHITE_ON_BLACK)})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "mask")
