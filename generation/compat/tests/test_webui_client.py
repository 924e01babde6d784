"""`webuiapi`, and the exact requests of programs that are too large to install, talk to `/sdapi/v1` unchanged."""

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
import webuiapi
from django.db import connection
from PIL import Image as Pillow

from fixtures.rows import picture_bytes
from generation.accounts.models import User
from generation.catalogue.models import Lora
from generation.compat.tests.test_openai_client import ended, working
from generation.tasks import states
from generation.tasks.models import Status, Task
from storage.store import get_store

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(live: str) -> Iterator[None]:
    with working():
        yield


@pytest.fixture
def key(owner: User, key_of: Callable[..., str]) -> str:
    return key_of(owner)


@pytest.fixture
def webui(live: str, worker: None, key: str) -> webuiapi.WebUIApi:
    where = urlsplit(live)
    made = webuiapi.WebUIApi(host=where.hostname, port=where.port, username="anybody", password=key)
    made.session.trust_env = False
    return made


@pytest.fixture
def http(live: str, worker: None, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live, auth=("api", key), timeout=60, trust_env=False) as client:
        yield client


def test_a_text_becomes_pictures(webui: webuiapi.WebUIApi) -> None:
    made = webui.txt2img(
        prompt="a red circle", negative_prompt="blur", width=300, height=256, steps=500, cfg_scale=7, seed=5,
        batch_size=2, sampler_name="DPM++ 2M", scheduler="Karras",
    )  # fmt: skip
    assert [picture.size for picture in made.images] == [(256, 256)] * 2
    params = Task.objects.get().params
    assert (params["sampler"], params["steps"], params["num_images"]) == ("dpm++_karras", 100, 2)
    assert (params["width"], params["height"], params["negative_text"]) == (296, 256, "blur")
    assert made.info["all_seeds"] == [7, 7]  # the seeds of the stored pictures
    assert (made.info["seed"], made.info["sampler_name"]) == (5, "DPM++ 2M Karras")
    assert "Steps: 100" in made.info["infotexts"][0]
    assert made.parameters["prompt"] == "a red circle"


def test_a_picture_and_a_mask_become_an_inpainting(webui: webuiapi.WebUIApi) -> None:
    picture, mask = Pillow.new("RGB", (256, 256), "red"), Pillow.new("L", (256, 256), 0)
    mask.paste(255, (0, 0, 128, 256))
    webui.img2img(images=[picture], prompt="x", denoising_strength=0.5, width=256, height=256)
    webui.img2img(
        images=[picture], prompt="x", mask_image=mask, inpainting_mask_invert=1, mask_blur=0, width=256, height=256
    )
    plain, masked = Task.objects.order_by("id")
    assert (plain.kind, plain.params["strength"], masked.kind) == ("img2img", 0.5, "inpaint")
    stored = Pillow.open(io.BytesIO(get_store("images").read(masked.params["mask_key"])))
    assert (stored.getpixel((10, 10)), stored.getpixel((250, 10))) == (0, 255)


def test_loras_stand_in_the_prompt(webui: webuiapi.WebUIApi) -> None:
    facts = {"state": Lora.State.ACTIVE, "base_family": "sd15", "source": "x", "sha256": "a" * 64}
    Lora.objects.create(name="ink", **facts)
    webui.txt2img(prompt="a cat <lora:ink:0.7>, sitting", width=256, height=256)
    task = Task.objects.get()
    assert task.text == "a cat , sitting"
    assert [(lora["name"], lora["weight"]) for lora in task.params["loras"]] == [("ink@1", 0.7)]
    assert [entry["name"] for entry in webui.get_loras()] == ["ink@1"]


def test_lists_and_options(webui: webuiapi.WebUIApi) -> None:
    assert "Mini (ships with the product)" in webui.util_get_model_names()
    assert {"Euler a", "DPM++ 2M"} <= set(webui.util_get_sampler_names())
    assert webui.util_get_scheduler_names() == ["automatic", "karras"]
    assert webui.util_get_current_model() == "Mini (ships with the product)"
    assert webui.set_options({"sd_model_checkpoint": "mini", "CLIP_stop_at_last_layers": 2}) == {}
    assert webui.get_options()["sd_model_checkpoint"] == "Mini (ships with the product)"
    for read in (webui.get_upscalers, webui.get_latent_upscale_modes, webui.get_sd_vae, webui.get_embeddings):
        assert read() is not None
    assert (webui.get_scripts(), webui.get_cmd_flags()) == ({"txt2img": [], "img2img": []}, {})
    webui.util_wait_for_ready(check_interval=0.1)


def test_progress_and_interrupt_are_of_the_key_alone(
    webui: webuiapi.WebUIApi, http: httpx.Client, owner: User, key_of: Callable[..., str]
) -> None:
    other = ("any", key_of(owner))
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(http.post, "/sdapi/v1/txt2img", json={"prompt": "hold", "steps": 20})
        task = submitted()
        assert webui.get_progress()["state"]["job_count"] == 1
        [claimed] = states.claim([task.id], "w1")
        states.report_progress(task.id, 50, worker="w1", attempt=claimed.attempt)
        seen = webui.get_progress()
        assert (seen["progress"], seen["state"]["sampling_step"], seen["state"]["sampling_steps"]) == (0.5, 10, 20)
        assert http.get("/sdapi/v1/progress", auth=other).json()["state"]["job_count"] == 0
        assert http.post("/sdapi/v1/interrupt", auth=other).json() == {}
        task.refresh_from_db()
        assert not task.cancel_requested
        webui.interrupt()
        task.refresh_from_db()
        assert task.cancel_requested
        states.cancel_if_requested(task.id)
        answer = job.result(60)
    assert (answer.status_code, answer.json()["images"]) == (200, []), "as A1111: with what there is"
    assert json.loads(answer.json()["info"])["steps"] == 20
    assert ended(task).status == Status.CANCELLED
    assert webui.get_progress()["state"]["job_count"] == 0
    connection.close()


def submitted() -> Task:
    deadline = time.monotonic() + 30
    while not Task.objects.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return Task.objects.get()


def test_a_body_without_a_content_type_is_json(http: httpx.Client) -> None:
    """As Dify's tool sends it."""
    body = json.dumps({"prompt": "x", "sampler_name": "DPM++ 2M", "steps": 20, "width": 256, "height": 256})
    answer = http.post("/sdapi/v1/txt2img", content=body.encode())
    assert answer.status_code == 200, answer.text
    assert Pillow.open(io.BytesIO(base64.b64decode(answer.json()["images"][0]))).size == (256, 256)


def test_every_field_that_programs_send_is_taken(http: httpx.Client) -> None:
    """As SillyTavern and Open WebUI send them."""
    body = {
        "prompt": "x", "negative_prompt": "", "sampler_name": "Euler a", "scheduler": "Automatic", "steps": 20,
        "cfg_scale": 0.5, "width": 100, "height": 4000, "restore_faces": False, "enable_hr": False,
        "hr_upscaler": "Latent", "hr_scale": 2, "denoising_strength": 0.7, "hr_second_pass_steps": 0, "seed": None,
        "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic", "sd_model_checkpoint": "gone.ckpt"},
        "override_settings_restore_afterwards": True, "clip_skip": 1, "save_images": True, "send_images": True,
        "do_not_save_grid": False, "do_not_save_samples": False, "alwayson_scripts": {}, "batch_size": 1,
    }  # fmt: skip
    answer = http.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 200, answer.text
    params = Task.objects.get().params
    assert (params["width"], params["height"], params["cfg_scale"]) == (256, 1024, 1.0)


def test_refusals_name_what_is_wrong(http: httpx.Client, live: str) -> None:
    answer = http.post("/sdapi/v1/txt2img", json={"prompt": ""})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert "prompt" in answer.json()["detail"]
    answer = http.post("/sdapi/v1/img2img", json={"prompt": "x", "init_images": ["%%"]})
    assert (answer.status_code, Task.objects.count()) == (400, 0)
    answer = http.post("/sdapi/v1/txt2img", json={"prompt": "x", "steps": "many"})
    assert answer.status_code == 400
    stranger = httpx.get(f"{live}/sdapi/v1/options", auth=("api", "igx_0000000000_x"), trust_env=False)
    assert (stranger.status_code, stranger.headers["www-authenticate"]) == (401, 'Basic realm="ImageGenX"')
    assert httpx.get(f"{live}/sdapi/v1/nothing", trust_env=False).json() == {"detail": "Not Found"}
    assert http.get("/sdapi/v1/txt2img").json() == {"detail": "Method Not Allowed"}


def test_the_picture_of_an_upload_stays_out_of_the_answer(http: httpx.Client) -> None:
    picture = base64.b64encode(picture_bytes((256, 256))).decode()
    answer = http.post("/sdapi/v1/img2img", json={"prompt": "x", "init_images": [f"data:image/png;base64,{picture}"]})
    assert answer.status_code == 200, answer.text
    assert "init_images" not in answer.json()["parameters"]


def test_pictures_are_enlarged_without_being_drawn(webui: webuiapi.WebUIApi, http: httpx.Client) -> None:
    small, large = Pillow.new("RGB", (40, 32), "red"), Pillow.new("RGB", (64, 64), "blue")
    made = webui.extra_single_image(small, upscaler_1="Super-resolution", upscaling_resize=2)
    assert (made.image.size, "Enlarged 2 times" in made.info) == ((80, 64), True)
    made = webui.extra_batch_images([small, large], upscaler_1="Super-resolution", upscaling_resize=4)
    assert [one.size for one in made.images] == [(160, 128), (256, 256)]
    pixel = made.images[1].convert("RGB").getpixel((100, 100))
    assert isinstance(pixel, tuple)
    assert pixel[2] > 200
    same = webui.extra_single_image(small, upscaler_1="None", upscaling_resize=4, gfpgan_visibility=1)
    assert (same.image.size, "no face restoration" in same.info, Task.objects.count()) == ((40, 32), True, 3)
    sized = {"image": base64.b64encode(picture_bytes((40, 32))).decode(), "upscaler_1": "Super-resolution"}
    wish = {"resize_mode": 1, "upscaling_resize_w": 80, "upscaling_resize_h": 64}
    answer = http.post("/sdapi/v1/extra-single-image", json=sized | wish)
    assert Pillow.open(io.BytesIO(base64.b64decode(answer.json()["image"]))).size == (80, 64)


def test_each_of_several_pictures_is_a_result(webui: webuiapi.WebUIApi) -> None:
    pictures = [Pillow.new("RGB", (256, 256), colour) for colour in ("red", "blue")]
    made = webui.img2img(images=pictures, prompt="x", seed=5, n_iter=2, width=256, height=256)
    assert len(made.images) == 4
    tasks = list(Task.objects.order_by("id"))
    assert [(task.params["seed"], task.kind) for task in tasks] == [(5 + number, "img2img") for number in range(4)]
    stored = [Pillow.open(io.BytesIO(get_store("images").read(task.params["image_key"]))) for task in tasks]
    assert [one.getpixel((9, 9)) for one in stored] == [(255, 0, 0), (0, 0, 255)] * 2
    assert (len(made.info["infotexts"]), made.info["seed"]) == (4, 5)
