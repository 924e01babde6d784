"""What A1111's programs ask beside pictures: ControlNet, enlarging, lists. Nothing is lost without a word."""

import base64
import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from fixtures.rows import finish, picture_bytes
from generation.accounts.models import Plan, User
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel
from generation.compat.a1111 import form, png_info
from generation.compat.a1111.request import wanted
from generation.tasks.models import Task

TXT, IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
SIZE = {"width": 256, "height": 256}


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User, able_model: ImageModel) -> Client:
    return client_of(owner)


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


def picture(size: tuple[int, int] = (256, 256)) -> str:
    return base64.b64encode(picture_bytes(size)).decode()


def control(*units: dict[str, Any], name: str = "controlnet") -> dict[str, Any]:
    return {"prompt": "x", **SIZE, "alwayson_scripts": {name: {"args": list(units)}}}


def test_the_unit_of_controlnet_is_the_control_picture(client: Client) -> None:
    unit = {
        "enabled": True, "image": picture(), "module": "none", "model": "control_v11p_sd15_canny [d14c016b]",
        "weight": 0.7, "guidance_start": 0.1, "guidance_end": 0.8, "control_mode": 0,
    }  # fmt: skip
    off = {"enabled": False, "image": picture(), "module": "nonsense"}
    assert post(client, TXT, control(unit, off)).status_code == 202
    params = Task.objects.get().params
    shown = [params[name] for name in ("kind", "control_type", "control_scale", "control_start", "control_end")]
    assert shown == ["controlnet", "canny", 0.7, 0.1, 0.8]
    assert (params["control_ready"], bool(params["control_key"])) == (True, True)


def test_a_unit_without_a_picture_takes_the_one_that_is_worked_on(client: Client) -> None:
    body = {**control({"module": "canny", "model": "None"}, name="ControlNet"), "init_images": [picture()]}
    assert post(client, IMG, body | {"denoising_strength": 0.5}).status_code == 202
    params = Task.objects.get().params
    assert (params["kind"], params["control_ready"], params["strength"]) == ("controlnet", False, 0.5)
    assert params["image_key"]
    assert params["control_key"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (control({"image": "x", "module": "canny"}, {"image": "x", "module": "canny"}), "2 ControlNet units"),
        (control({"image": "x", "module": "lineart"}), "There is no preprocessor lineart. Known: none, canny"),
        (control({"image": "x", "module": "none", "model": "tile"}), "has no `control_type` tile"),
        (control({"image": "x", "module": "canny", "model": "depth"}), "draws canny, and the model reads depth"),
        (control({"module": "canny"}), "alwayson_scripts.controlnet.args[0].image"),
        (control({"image": 7, "module": "canny"}), "base64"),
        (control({"ad_model": "face"}, name="ADetailer"), "There is no script ADetailer here"),
        ({"prompt": "x", "subseed": 5, "subseed_strength": 0.3}, "no variation seeds"),
        ({"prompt": "x", "seed_resize_from_w": 512}, "can't be resized"),
        ({"prompt": "x", "script_name": "X/Y/Z plot"}, "no script X/Y/Z plot"),
        ({"prompt": "x", "enable_hr": True, "hr_scale": 1.5}, "2 or 4 times"),
        ({"prompt": "x", **SIZE, "enable_hr": True, "hr_resize_x": 512, "hr_resize_y": 256}, "same factor"),
        ({"prompt": "x", "enable_hr": True, "hr_upscaler": "R-ESRGAN 4x+"}, "no upscaler R-ESRGAN 4x+"),
        ({"prompt": "x", "styles": ["cartoon", "ink"]}, "One style"),
        ({"prompt": "x", "styles": ["nonsense"]}, "styles: There is no style"),
        ({"prompt": "x <lora:nothing:1>"}, "no such active LoRA"),
    ],
)
def test_what_cannot_be_had_is_refused_with_a_sentence(client: Client, body: dict[str, Any], told: str) -> None:
    answer = post(client, TXT, body)
    assert answer.status_code == 400
    assert told in answer.json()["detail"], answer.json()
    assert Task.objects.count() == 0


@pytest.mark.parametrize(
    "wish", [{"hr_scale": 2}, {"hr_resize_x": 512, "hr_resize_y": 512}, {"hr_resize_x": 512}, {}], ids=str
)
def test_enable_hr_enlarges_by_super_resolution(client: Client, wish: dict[str, Any]) -> None:
    assert (
        post(client, TXT, {"prompt": "x", **SIZE, "enable_hr": True, "hr_upscaler": "Latent", **wish}).status_code
        == 202
    )
    params = Task.objects.get().params
    assert (params["width"], params["postprocess"]["upscale"]) == (256, {"scale": 2, "late": False})


def test_a_plan_without_super_resolution_does_not_get_it_here(client_of: Any, owner: User) -> None:
    plan = Plan.objects.create(name="small", title="Small", super_resolution=False, max_side=512, max_images=1)
    answer = post(client_of(owner, plan=plan), TXT, {"prompt": "x", **SIZE, "enable_hr": True})
    assert (answer.status_code, "super-resolution" in answer.json()["detail"]) == (400, True)


def test_what_has_no_effect_stands_in_the_notes(able_model: ImageModel, make_task: Callable[..., Task]) -> None:
    asked = control({"image": "x", "module": "canny", "control_mode": 2}) | {
        "restore_faces": True, "tiling": True, "enable_hr": True, "inpaint_full_res": True,
    }  # fmt: skip
    notes = wanted(asked, snapshot.current(), "", from_pictures=False).notes
    assert [note.partition(":")[0] for note in notes] == [
        "restore_faces", "tiling", "ControlNet", "ControlNet", "enable_hr",
    ]  # fmt: skip
    told = json.loads(form.answer(finish(make_task()), [], asked, notes)["info"])
    assert told["notes"] == list(notes)
    assert wanted({"prompt": "x", "subseed": -1}, snapshot.current(), "", from_pictures=False).notes == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"upscaler_1": "R-ESRGAN 4x+"}, "no upscaler R-ESRGAN 4x+. Known: Super-resolution"),
        ({"upscaling_resize": 3}, "3 times is not possible"),
        ({"resize_mode": 1, "upscaling_resize_w": "9" * 400, "upscaling_resize_h": "9" * 400}, "A number of some size"),
        ({"resize_mode": 1, "upscaling_resize_w": 512, "upscaling_resize_h": 256}, "does not become 512x256"),
        ({"resize_mode": 1, "upscaling_resize_w": 300, "upscaling_resize_h": 300}, "1.17188 times is not possible"),
        ({"image": ""}, "image: A picture in base64"),
        ({"image": "%%", "resize_mode": 1}, "image: Send a PNG"),
        ({"image": "%%"}, "neither an address nor base64"),
    ],
)
def test_what_cannot_be_enlarged_is_refused_with_a_sentence(client: Client, changes: Any, told: str) -> None:
    body = {"image": picture(), "upscaler_1": "Super-resolution", "upscaling_resize": 2} | changes
    answer = post(client, "/sdapi/v1/extra-single-image", body)
    assert answer.status_code == 400
    assert told in answer.json()["detail"], answer.json()
    listed = {**body, "imageList": [{"data": body.pop("image"), "name": "a.png"}, {"data": picture()}]}
    assert post(client, "/sdapi/v1/extra-batch-images", listed).status_code == 400
    assert Task.objects.count() == 0


def test_several_pictures_take_no_control_unit(client: Client) -> None:
    body = {**control({"module": "canny", "model": "None"}), "init_images": [picture(), picture()]}
    assert "Send one picture with ControlNet" in post(client, IMG, body).json()["detail"]


def test_no_lora_and_a_style_are_taken(client: Client) -> None:
    body = {"prompt": "a cat <lora:none:0.5> <lora:None:1>", **SIZE, "styles": ["cartoon"]}
    assert post(client, TXT, body).status_code == 202
    task = Task.objects.get()
    assert (task.text, task.params["loras"], task.style) == ("a cat", [], "cartoon")


def test_the_text_of_a_picture_is_read(client: Client) -> None:
    text = 'a cat\nNegative prompt: a dog\nSteps: 20, Sampler: Euler a, Lora hashes: "ink: abc", Size: 256x256'
    chunk, written = PngInfo(), io.BytesIO()
    chunk.add_itxt("parameters", text)
    Pillow.new("RGB", (8, 8)).save(written, "PNG", pnginfo=chunk)
    told = post(client, "/sdapi/v1/png-info", {"image": base64.b64encode(written.getvalue()).decode()}).json()
    assert (told["info"], told["items"]["parameters"]) == (text, text)
    parts = {"Prompt": "a cat", "Negative prompt": "a dog", "Steps": "20", "Lora hashes": "ink: abc"}
    assert parts.items() <= told["parameters"].items()
    assert post(client, "/sdapi/v1/png-info", {"image": picture()}).json()["info"] == ""
    for nothing in ("", "%%", base64.b64encode(b"x").decode()):
        assert post(client, "/sdapi/v1/png-info", {"image": nothing}).status_code == 400


def test_a_long_text_of_a_picture_is_not_taken_apart() -> None:
    assert png_info.parsed("a\nSteps: 1, " + "x" * 100_000)["Prompt"].startswith("a\nSteps")


@pytest.mark.parametrize("filler", [" ", "\t", "a", "a ", "a\t", 'a:"\\"'])
def test_what_follows_the_steps_takes_time_linear_to_its_length(filler: str) -> None:
    begun = time.thread_time()
    assert png_info.parsed("a\nSteps: 1," + (filler * 3900)[:3900] + "(, Seed: 7")["Seed"] == "7"
    assert time.thread_time() - begun < 0.5, "two minutes with an expression that gives back what it took"


def test_pictures_that_stay_as_they_are_are_counted_too(client: Client) -> None:
    sent = post(client, "/sdapi/v1/extra-batch-images", {"imageList": [{"data": picture((8, 8))}] * 17})
    assert (sent.status_code, "At most 16" in sent.json()["detail"]) == (400, True)


def test_lists_of_the_programs(client: Client) -> None:
    for name in ("hypernetworks", "face-restorers", "realesrgan-models", "sd-vae", "extensions", "script-info"):
        assert client.get(f"/sdapi/v1/{name}").json() == []
    assert "cartoon" in [style["name"] for style in client.get("/sdapi/v1/prompt-styles").json()]
    assert client.get("/controlnet/version").json() == {"version": 2}
    assert client.get("/controlnet/model_list").json() == {"model_list": ["canny", "depth", "openpose"]}
    assert "canny" in client.get("/controlnet/module_list").json()["module_list"]
    kinds = client.get("/controlnet/control_types").json()["control_types"]
    assert kinds["Canny"]["module_list"] == ["none", "canny"]
    assert post(client, "/sdapi/v1/refresh-checkpoints", {}).json() == {}


def test_rounds_of_several_pictures_are_bounded(client: Client) -> None:
    body = {"prompt": "x", "init_images": [picture(), picture()], "n_iter": 10**9}
    answer = post(client, IMG, body)
    assert (answer.status_code, "no more than 16" in answer.json()["detail"]) == (400, True)


def test_the_size_of_a_file_of_too_many_pieces_is_not_looked_for(client: Client) -> None:
    """Pillow reads a file's pieces one by one in Python: 20 MiB of them keep the interpreter for half a minute."""
    plain = picture_bytes(kind="JPEG")
    intricate = plain[:2] + b"\xff\xfe\0\3x" * 400_000 + plain[2:]
    asked = {"image": base64.b64encode(intricate).decode(), "upscaler_1": "None"}
    began = time.process_time()
    refused = post(client, "/sdapi/v1/extra-single-image", asked)
    assert refused.status_code == 400
    assert "PNG, JPEG or WebP" in refused.content.decode()
    assert time.process_time() - began < 1
