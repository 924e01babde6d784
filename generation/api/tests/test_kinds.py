"""Pictures in requests: how they may be given, what is refused, and what the worker finds."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image as Pillow

from fixtures.rows import Receiver, picture_bytes
from generation.accounts.models import Plan, User
from generation.catalogue import controls, snapshot
from generation.catalogue.models import ImageModel
from generation.tasks.models import Task
from storage.store import get_store
from workers.engine.models.controls import looks_ready
from workers.engine.models.inputs import picture_arguments
from workers.gpu.samples import samples_of

ClientOf = Callable[..., Client]
IMG2IMG, INPAINT, CONTROL = (f"/api/v1/image/{kind}" for kind in ("img2img", "inpaint", "controlnet"))


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


def faults(response: Any) -> dict[str, str]:
    return {fault["field"]: fault["code"] for fault in response.json()["data"]["errors"]}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def stored(key: str) -> Pillow.Image:
    return Pillow.open(io.BytesIO(get_store("images").read(key)))


@pytest.fixture
def client(client_of: ClientOf, owner: User, able_model: ImageModel) -> Client:
    return client_of(owner)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_in_base64_takes_the_tasks_size_from_itself(client: Client, kind: str) -> None:
    response = post(client, IMG2IMG, {"text": "x", "image": text(picture_bytes((520, 301), kind))})
    assert response.status_code == 202, response.content
    task = Task.objects.get()
    assert (task.kind, task.width, task.height, task.params["strength"]) == ("img2img", 520, 304, 0.8)
    assert task.params["image_key"].startswith("inputs/")
    assert stored(task.params["image_key"]).size == (520, 304)


def test_an_upload_is_read_like_the_json_form(client: Client) -> None:
    file = SimpleUploadedFile("../../evil.php", picture_bytes((256, 256)), "text/html")
    body = {"text": "x", "params": json.dumps({"strength": 0.5, "seed": 3}), "image": file}
    response = client.post(IMG2IMG, body)
    assert response.status_code == 202, response.content
    assert Task.objects.get().params["strength"] == 0.5


def test_a_picture_is_fetched_from_an_allowed_address(client: Client, receiver: Receiver, settings: Any) -> None:
    settings.PRIVATE_CALLBACKS = ["127.0.0.1/32"]
    receiver.answers = [(302, {"location": "/there"}, b""), (200, {}, picture_bytes((256, 256)))]
    assert post(client, IMG2IMG, {"text": "x", "image": f"{receiver.url}/here"}).status_code == 202
    assert [path for path, *_ in receiver.got] == ["/here", "/there"]


def test_nothing_is_fetched_for_a_request_that_is_wrong_anyway(client: Client, receiver: Receiver) -> None:
    body = {"text": "", "image": receiver.url, "params": {"strength": 9}}
    assert faults(post(client, IMG2IMG, body)) == {"text": "blank", "params.strength": "out_of_range"}
    assert receiver.got == []


def test_exif_turns_the_picture(client: Client) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture = picture_bytes((512, 256), "JPEG", exif=exif)
    assert post(client, IMG2IMG, {"text": "x", "image": text(picture)}).status_code == 202
    assert (Task.objects.get().width, Task.objects.get().height) == (256, 512)


def test_a_transparent_picture_lies_on_white(client: Client) -> None:
    written = io.BytesIO()
    Pillow.new("RGBA", (256, 256), (0, 0, 0, 0)).save(written, "PNG")
    assert post(client, IMG2IMG, {"text": "x", "image": text(written.getvalue())}).status_code == 202
    assert stored(Task.objects.get().params["image_key"]).getpixel((5, 5)) == (255, 255, 255)


def test_a_mask_of_another_size_but_the_same_shape_fits(client: Client) -> None:
    body = {
        "text": "x",
        "image": text(picture_bytes((512, 256))),
        "mask": text(picture_bytes((128, 64), colour="white")),
    }
    assert post(client, INPAINT, body).status_code == 202
    mask = stored(Task.objects.get().params["mask_key"])
    assert (mask.mode, mask.size, mask.getpixel((0, 0))) == ("L", (512, 256), 255)


def test_an_area_is_a_mask_with_a_soft_edge(client: Client) -> None:
    params = {"area": [64, 64, 128, 128], "mask_feather": 8}
    body = {"text": "x", "image": text(picture_bytes((256, 256))), "params": params}
    assert post(client, INPAINT, body).status_code == 202, Task.objects.count()
    mask = stored(Task.objects.get().params["mask_key"])
    assert [mask.getpixel((x, 128)) for x in (10, 128, 250)] == [0, 255, 0]
    assert 64 < mask.tobytes()[128 * 256 + 64] < 192


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"mask": "required"}),
        ({"mask": text(picture_bytes((64, 128)))}, {"mask": "size_mismatch"}),
        ({"params": {"area": [200, 0, 100, 100]}}, {"params.area": "out_of_range"}),
        ({"params": {"area": [0, 0, 0, 100]}}, {"params.area": "out_of_range"}),
        ({"params": {"area": [0, 0, 100]}}, {"params.area": "min_length"}),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(client: Client, body: dict, expected: dict) -> None:
    response = post(client, INPAINT, {"text": "x", "image": text(picture_bytes((256, 256))), **body})
    assert (response.status_code, faults(response)) == (400, expected)
    assert Task.objects.count() == 0


def test_a_control_picture_and_its_strength_reach_the_row(client: Client) -> None:
    params = {"control_type": "depth", "control_strength": 0.7, "resolution": "256x256", "model": "able"}
    body = {"text": "x", "control_image": text(picture_bytes((300, 200), colour="grey")), "params": params}
    assert post(client, CONTROL, body).status_code == 202
    task = Task.objects.get()
    assert (task.params["control_type"], task.params["control_scale"]) == ("depth", 0.7)
    assert stored(task.params["control_key"]).size == (256, 256)


def test_the_part_of_the_steps_that_a_control_picture_guides_reaches_the_engine(client: Client) -> None:
    params = {"control_start": 0.1, "control_end": 0.6, "resolution": "256x256"}
    body = {"text": "x", "control_image": text(picture_bytes((256, 256))), "params": params}
    shown = post(client, CONTROL, body).json()["data"]["input"]
    assert (shown["control_start"], shown["control_end"]) == (0.1, 0.6)
    [sample] = samples_of(Task.objects.get(), alone=False)
    asked = sample.parameters
    assert (asked.control_start, asked.control_end, asked.control_scale) == (0.1, 0.6, 1.0)
    arguments = picture_arguments(sample, lambda control_type, photo: photo)
    assert (arguments["control_guidance_start"], arguments["control_guidance_end"]) == (0.1, 0.6)


@pytest.mark.parametrize("span", [{"control_start": 1}, {"control_end": 0}, {"control_start": 0.6, "control_end": 0.6}])
def test_a_control_picture_that_would_guide_no_step_is_refused(client: Client, span: dict) -> None:
    body = {"text": "x", "control_image": text(picture_bytes()), "params": {"resolution": "256x256", **span}}
    assert faults(post(client, CONTROL, body)) == {"params.control_end": "out_of_range"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"control_type": "depth", "model": "able"}, {"control_image": "not_available"}),
        ({"control_type": "openpose", "model": "able"}, {"control_image": "not_available"}),
        ({"control_type": "openpose", "model": "able", "control_ready": False}, {"control_image": "not_available"}),
    ],
)
def test_a_control_picture_that_nothing_here_can_follow_is_refused(
    client: Client, params: dict, expected: dict
) -> None:
    body = {"text": "x", "control_image": text(picture_bytes(colour="orange")), "params": params}
    response = post(client, CONTROL, body)
    assert (response.status_code, faults(response)) == (400, expected)
    (message,) = [fault["message"] for fault in response.json()["data"]["errors"]]
    assert f"Send a ready {params['control_type']} picture" in message
    assert Task.objects.count() == 0


def test_a_photo_is_taken_where_it_can_be_drawn_from_or_is_called_ready(client: Client, able_model: ImageModel) -> None:
    def status(**params: Any) -> int:
        asked = {"control_type": "depth", "model": "able", "resolution": "256x256", **params}
        body = {"text": "x", "control_image": text(picture_bytes(colour="orange")), "params": asked}
        return int(post(client, CONTROL, body).status_code)

    assert [status(), status(control_ready=True), status(control_type="canny")] == [400, 202, 202]
    able_model.options = {**able_model.options, "preprocessors": {"depth": "depth-anything"}}
    able_model.save()
    snapshot.reload()
    assert status() == 202


@pytest.mark.parametrize("control_type", ["depth", "openpose"])
def test_api_and_worker_agree_on_what_a_photo_is(control_type: str) -> None:
    chance = np.random.default_rng(4)
    photo = chance.integers(0, 256, (64, 64, 3), np.uint8)
    half_dark, tinted = photo.copy(), np.repeat(photo[:, :, :1] // 2, 3, axis=2)
    half_dark[:33] = 31
    tinted[:, :, 0] += 12
    grey, poses = np.repeat(photo[:, :, :1], 3, axis=2), np.zeros((64, 64, 3), np.uint8)
    poses[20:30] = (255, 0, 0)
    for picture in (photo, half_dark, tinted, tinted + np.uint8(1), grey, poses):
        ours = controls.looks_ready(control_type, Pillow.fromarray(picture))
        assert ours == looks_ready(control_type, picture)


def png_bomb(side: int) -> bytes:
    """A few kB that unpack to side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * (side // 8 + 1) * side, 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animation() -> bytes:
    written = io.BytesIO()
    frames = [Pillow.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(written, "WEBP", save_all=True, append_images=frames[1:])
    return written.getvalue()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (text(png_bomb(20_000)), "too_many_pixels"),
        (text(b"GIF89a" + b"\0" * 100), "not_a_picture"),
        (text(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not_a_picture"),
        (text(b"%PDF-1.4"), "not_a_picture"),
        (text(picture_bytes()[:60]), "not_a_picture"),
        (text(picture_bytes((4, 4))), "too_small"),
        ("data:image/png;base64,!!!!", "malformed"),
        ("not base64", "malformed"),
        ("file:///etc/passwd", "malformed"),
        ("ftp://example.com/x.png", "malformed"),
        ("http://user:pw@example.com/x.png", "malformed"),
        ("", "required"),
        (7, "not_a_picture"),
        (["x"], "not_a_picture"),
        ({"url": "http://example.com"}, "not_a_picture"),
        ("http://127.0.0.1/x.png", "not_fetched"),
    ],
)
def test_what_is_no_usable_picture_is_refused_with_its_reason(client: Client, given: Any, code: str) -> None:
    response = post(client, IMG2IMG, {"text": "x", "image": given})
    assert (response.status_code, faults(response)) == (400, {"image": code})
    assert Task.objects.count() == 0


def test_a_picture_over_the_byte_limit_is_refused(client: Client, settings: Any) -> None:
    settings.MAX_INPUT_BYTES = 2000
    noise = io.BytesIO()
    Pillow.effect_noise((128, 128), 90).save(noise, "PNG")
    assert faults(post(client, IMG2IMG, {"text": "x", "image": text(noise.getvalue())})) == {"image": "too_large"}


def test_a_body_over_the_limit_is_413(client: Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert post(client, IMG2IMG, {"text": "x", "image": "A" * 2000}).status_code == 413


def test_a_kind_that_no_model_can_do_is_told(client_of: ClientOf, owner: User) -> None:
    ImageModel.objects.update(kinds=["text2img"])
    snapshot.reload()
    response = post(client_of(owner), CONTROL, {"text": "x", "control_image": text(picture_bytes())})
    assert faults(response) == {"params.model": "unknown_model"}
    response = post(client_of(owner), CONTROL, {"text": "x", "control_image": "AAAA", "params": {"model": "mini"}})
    assert faults(response) == {"params.model": "kind_not_supported"}


def test_when_the_store_is_away_the_answer_is_503_and_no_row_is_left(client: Client, settings: Any) -> None:
    for folder in (settings.STORAGES["images"]["OPTIONS"]["location"], settings.SPOOL_ROOT):
        with open(folder, "w") as file:  # a file where the folder of the store, and of its spool, should be
            file.write("x")
    response = post(client, IMG2IMG, {"text": "x", "image": text(picture_bytes((256, 256)))})
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert Task.objects.count() == 0


def test_a_dry_run_prices_and_makes_nothing(client: Client) -> None:
    params = {"resolution": "512x512", "steps": 10, "num_images": 2, "seed": 5}
    response = post(client, "/api/v1/image/generate", {"text": "x", "params": params, "dry_run": True})
    data = response.json()["data"]
    assert (response.status_code, data["valid"], data["images"], data["megapixel_steps"]) == (200, True, 2, 5.2429)
    assert data["input"]["seed"] == 5
    assert Task.objects.count() == 0


@pytest.mark.parametrize(("header", "seconds"), [("30s", 30), ("5m", 300), ("17", 17), ("2h", 300)])
def test_a_deadline_shortens_the_wait(client: Client, header: str, seconds: int) -> None:
    body = json.dumps({"text": "x"})
    response = client.post(
        "/api/v1/image/generate", body, content_type="application/json", headers={"cancel-after": header}
    )
    assert response.status_code == 202
    task = Task.objects.get()
    assert (task.expires_at - task.created_at).total_seconds() == pytest.approx(seconds, abs=1)


def test_the_plan_says_how_long_a_task_may_wait(client: Client) -> None:
    Plan.objects.update(queue_seconds=45)
    assert post(client, "/api/v1/image/generate", {"text": "x"}).status_code == 202
    task = Task.objects.get()
    assert (task.expires_at - task.created_at).total_seconds() == 45


def test_an_upload_can_be_repeated_with_its_idempotency_key(client: Client) -> None:
    def send(colour: str) -> Any:
        file = SimpleUploadedFile("a.png", picture_bytes((256, 256), colour=colour))
        return client.post(IMG2IMG, {"text": "x", "image": file}, headers={"idempotency-key": "k"})

    assert [send("red").status_code, send("red").status_code, send("blue").status_code] == [202, 202, 422]
    assert Task.objects.count() == 1


def test_only_a_chosen_seed_lets_an_identical_request_answer(client: Client) -> None:
    asked: list[dict[str, Any]] = [{"seed": 3}, {"seed": 3, "cache": False}, {}, {"seed": -1, "cache": True}]
    for params in asked:
        body = {"text": "x", "params": {"model": "able", **params}}
        assert post(client, "/api/v1/image/generate", body).status_code == 202
    assert [task.params["cache"] for task in Task.objects.order_by("id")] == [True, False, False, False]


def test_a_control_picture_may_stand_beside_an_input_picture_and_its_mask(client: Client) -> None:
    given = text(picture_bytes((256, 256)))
    body: dict[str, Any] = {"text": "x", "control_image": given, "image": given, "params": {"model": "able"}}
    assert post(client, CONTROL, body).status_code == 202
    assert post(client, CONTROL, {**body, "params": {"area": [0, 0, 64, 64], "strength": 0.4}}).status_code == 202
    first, second = Task.objects.order_by("id")
    assert (first.kind, bool(first.params["image_key"]), first.params["mask_key"]) == ("controlnet", True, "")
    assert (bool(second.params["mask_key"]), second.params["strength"]) == (True, 0.4)
    refused = post(client, CONTROL, {"text": "x", "control_image": given, "mask": given})
    assert faults(refused) == {"image": "required"}


def test_a_control_type_that_the_model_has_no_network_for_is_refused_at_once(client: Client) -> None:
    model = ImageModel.objects.create(
        name="lines", title="Lines", source="lines", kinds=["controlnet"], options={"controlnets": {"depth": "depth"}}
    )
    snapshot.reload()
    body: dict[str, Any] = {"text": "x", "control_image": text(picture_bytes((256, 256), colour="grey"))}
    refused = post(client, CONTROL, {**body, "params": {"model": "lines", "control_type": "openpose"}})
    assert (refused.status_code, faults(refused)) == (400, {"params.control_type": "not_available"})
    assert post(client, CONTROL, {**body, "params": {"model": "lines"}}).status_code == 202
    assert Task.objects.get(model=model).params["control_type"] == "depth"
