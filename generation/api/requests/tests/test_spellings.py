"""Requests in other spellings mean what they mean in ours; what contradicts itself is refused with both names."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from PIL import Image as Pillow

from fixtures.rows import finish, picture_bytes
from generation.accounts.models import User
from generation.api.kind_forms import form_of
from generation.api.requests.respelling import Respelled, respelled
from generation.catalogue.kinds import KINDS
from generation.catalogue.models import ImageModel, Lora, Style
from generation.catalogue.snapshot import Catalogue
from generation.tasks.models import Task
from storage.store import get_store

STYLES = (
    Style(name="tech", title="Tech", title_zh="科技"),
    Style(name="ink-wash", title="Ink wash", title_zh="水墨"),
)
CATALOGUE = Catalogue((), STYLES)


def read(body: Any, kind: str = "text2img") -> Respelled:
    return respelled(body, form_of(KINDS[kind]), KINDS[kind], CATALOGUE)


def params(body: Any, kind: str = "text2img") -> Any:
    done = read({"text": "x", **body}, kind)
    assert done.faults == []
    return done.body.get("params", {})


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User, able_model: ImageModel) -> Client:
    family = ImageModel.objects.get(name="mini").family
    for number, name in enumerate(("phone_style", "ink", "glow")):
        Lora.objects.create(
            name=name, sha256=str(number) * 64, source=f"{name}.safetensors", base_family=family, state="active"
        )
    return client_of(owner)


def post(client: Client, kind: str, body: Any) -> Any:
    return client.post(f"/api/v1/image/{KINDS[kind].path}", json.dumps(body), content_type="application/json")


def faults(response: Any) -> dict[str, str]:
    assert response.status_code == 400
    return {fault["field"]: fault["message"] for fault in response.json()["data"]["errors"]}


def in_base64(size: tuple[int, int] = (256, 256), **how: Any) -> str:
    return base64.b64encode(picture_bytes(size, **how)).decode()


def with_real_pictures(body: Any) -> Any:
    return {name: in_base64(colour="white") if name.endswith("_url") and name != "callback_url" else value
            for name, value in body.items()}  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS)
def test_every_printed_request_is_accepted_and_in_the_openapi_document(client: Client, kind: str) -> None:
    printed = KINDS[kind].printed
    response = post(client, kind, with_real_pictures(printed))
    assert response.status_code == 202, response.content
    assert Task.objects.count() == len(printed.get("texts", "1"))
    document = json.loads(Client().get("/api/schema").content)
    operation = document["paths"][f"/api/v1/image/{KINDS[kind].path}"]["post"]
    shown = operation["requestBody"]["content"]["application/json"]["examples"]
    assert printed in [one["value"] for one in shown.values()]


@pytest.mark.django_db
def test_the_printed_poster_becomes_the_task_that_it_describes(client: Client) -> None:
    assert post(client, "text2img", KINDS["text2img"].printed).status_code == 202
    task = Task.objects.get()
    made = task.parameters
    assert (made.width, made.steps, made.cfg_scale, made.sampler, made.style) == (1024, 50, 7.5, "dpm++", "tech")
    assert [(lora.name, lora.weight) for lora in made.loras] == [("phone_style@1", 1.2)]
    assert (task.priority, task.callback_url) == (1, "https://your-business.com/callback")
    assert made.postprocess["upscale"] == {"scale": 2}
    mark = made.postprocess["watermark"]
    assert (mark["text"], mark["position"], mark["opacity"]) == ("XX品牌", "bottom-right", 0.7)
    assert any("simhei is not installed" in warning for warning in task.warnings)


@pytest.mark.django_db
def test_a_lone_picture_of_a_control_request_is_the_control_picture(client: Client) -> None:
    assert post(client, "controlnet", with_real_pictures(KINDS["controlnet"].printed)).status_code == 202
    made = Task.objects.get().parameters
    assert (made.control_type, bool(made.control_key), made.image_key) == ("canny", True, "")


@pytest.mark.django_db
def test_a_mask_and_an_area_paint_what_lies_in_both(client: Client) -> None:
    body = with_real_pictures(KINDS["inpaint"].printed)
    assert post(client, "inpaint", body).status_code == 202
    mask = Pillow.open(io.BytesIO(get_store("images").read(Task.objects.get().params["mask_key"])))
    assert mask.getbbox() == (16, 16, 80, 80)


def test_fields_may_stand_at_the_top_or_in_params() -> None:
    top = read({"text": "x", "steps": 4, "style": "tech", "watermark": {"text": "a"}})
    inner = read({"params": {"text": "x", "steps": 4, "style": "tech", "postprocess": {"watermark": {"text": "a"}}}})
    assert top.body == inner.body
    assert top.body["params"]["postprocess"] == {"watermark": {"kind": "text", "text": "a"}}


def test_a_request_in_our_own_spelling_is_left_as_it_is() -> None:
    for kind in KINDS.values():
        body = dict(kind.example)
        done = respelled(body, form_of(kind), kind, CATALOGUE)
        assert done.body == body
        assert (done.sent, done.faults, done.warnings) == ({}, [], [])


@pytest.mark.parametrize("absent", [None, "", {"enable": False, "text": "x"}])
def test_null_empty_and_switched_off_mean_not_given(absent: Any) -> None:
    body = {"text": "x", "style": absent, "callback_url": absent, "params": {"lora_name": absent, "steps": absent}}
    assert read(body).body == {"text": "x"}
    assert params({"postprocess": {"watermark": absent, "super_resolution": absent}}) == {"postprocess": {}}
    assert params({"postprocess": {"watermark": [absent]}}) == {"postprocess": {}}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"lora_name": "a"}, ["a"]),
        ({"lora_name": "a, b"}, ["a", "b"]),
        ({"lora_name": ["a", "b"], "lora_weight": 0.5}, [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5}]),
        ({"lora_name": "a,b", "lora_weight": [1, 2]}, [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]),
        ({"loras": ["a"], "lora_weight": "0.8"}, [{"name": "a", "weight": 0.8}]),
    ],
)
def test_loras_with_their_weights(given: Any, meant: Any) -> None:
    assert params(given) == {"loras": meant}


@pytest.mark.parametrize("factor", ["2x", "2X", "x2", 2, "2", True, {"enable": True, "scale": 2}])
def test_super_resolution(factor: Any) -> None:
    assert params({"post_process": {"super_resolution": factor}}) == {"postprocess": {"upscale": {"scale": 2}}}
    assert params({"super_resolution": factor}) == {"postprocess": {"upscale": {"scale": 2}}}
    assert params({"super_resolution": "4x"}) == {"postprocess": {"upscale": {"scale": 4}}}


def test_areas() -> None:
    assert params({"inpaint_area": {"x": 1, "y": 2, "width": 3, "height": 4}}, "inpaint") == {"area": [1, 2, 3, 4]}
    assert params({"inpaint_area": "whole"}, "inpaint") == {}
    masked = read({"text": "x", "mask": "m", "inpaint_area": "Masked"}, "inpaint")
    assert (masked.body, len(masked.warnings)) == ({"text": "x", "mask": "m"}, 1)


@pytest.mark.parametrize(
    ("body", "field", "other"),
    [
        ({"text": "x", "prompt": "y"}, "prompt", "text"),
        ({"steps": 4, "params": {"steps": 5}}, "params.steps", "steps"),
        ({"style": "tech", "params": {"style_name": "ink-wash"}}, "params.style_name", "style"),
        ({"lora_name": "a", "params": {"loras": ["b"]}}, "params.loras", "lora_name"),
        ({"postprocess": {"super_resolution": "2x", "upscale": {"scale": 4}}}, "postprocess.upscale",
         "postprocess.super_resolution"),
        ({"postprocess": {"watermark": {"text": "a", "transparency": 30, "opacity": 0.3}}},
         "postprocess.watermark.opacity", "postprocess.watermark.transparency"),
    ],
)  # fmt: skip
def test_a_value_given_twice_with_different_meanings_names_both(body: Any, field: str, other: str) -> None:
    (fault,) = read({"text": "x", **body}).faults
    assert (fault.field, fault.code) == (field, "given_twice")
    assert f"`{other}`" in fault.message
    assert f"`{field}`" in fault.message


@pytest.mark.parametrize(
    "body",
    [
        {"text": "x", "prompt": "x"},
        {"sampler": "DPM++ 2M", "params": {"sampler": "dpmpp_2m"}},
        {"style": "科技风", "style_name": "Tech"},
        {"super_resolution": "2x", "postprocess": {"upscale": {"scale": 2}}},
    ],
)
def test_a_value_given_twice_with_one_meaning_is_one(body: Any) -> None:
    assert read({"text": "x", **body}).faults == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "field", "names"),
    [
        ({"steps": 0}, "steps", ""),
        ({"lora_weight": 1}, "lora_weight", "lora_name"),
        ({"lora_name": "ink", "lora_weight": [1, 2]}, "lora_weight", "2 numbers"),
        ({"lora_name": "ink,glow,phone_style,ink"}, "lora_name", "4 LoRAs"),
        ({"super_resolution": "3x"}, "super_resolution", '"2x" or "4x"'),
        ({"post_process": {"watermark": {"text": "a", "transparency": 99}}}, "post_process.watermark.transparency",
         "0 to 95"),
        ({"sampler_name": "x"}, "sampler_name", "euler_a"),
        ({"output_format": "bmp"}, "output_format", "webp, avif, png, jpeg"),
        ({"image_url": "x"}, "image_url", "no such field"),
    ],
)  # fmt: skip
def test_faults_have_the_clients_own_names_and_the_choices(client: Client, body: Any, field: str, names: str) -> None:
    found = faults(post(client, "text2img", {"text": "x", **body}))
    assert list(found) == [field]
    assert names in found[field]
    assert Task.objects.count() == 0


@pytest.mark.django_db
def test_samplers_control_types_and_styles_in_any_writing(client: Client) -> None:
    body = {"text": "x", "sampler": "euler A", "style": "Ink Wash", "output_format": "JPG"}
    assert post(client, "text2img", body).status_code == 202
    assert post(client, "text2img", {"text": "x", "style": "水墨风格"}).status_code == 202
    first, second = Task.objects.order_by("id")
    assert (first.parameters.sampler, first.style, second.style) == ("euler_a", "ink-wash", "ink-wash")
    assert first.parameters.postprocess["format"] == "jpeg"
    pose = {
        "image_url": in_base64(),
        "control_type": "Open Pose",
        "text": "x",
        "model": "ABLE",
        "control_ready": "true",
    }
    assert post(client, "controlnet", pose).status_code == 202
    assert Task.objects.order_by("id").last().parameters.control_type == "openpose"  # type: ignore[union-attr]


@pytest.mark.django_db
def test_a_form_may_have_its_lists_and_objects_as_json(client: Client) -> None:
    form = {"text": "x", "steps": "4", "lora_name": '["ink"]', "lora_weight": "0.5", "postprocess": '{"sharpen": 1}'}
    assert client.post("/api/v1/image/generate", form).status_code == 202
    made = Task.objects.get().parameters
    assert (made.steps, made.loras[0].weight, made.postprocess["sharpen"]) == (4, 0.5, 1)


@pytest.mark.django_db
def test_the_history_takes_states_of_older_clients_and_names_its_own(
    client: Client, make_task: Callable[..., Task]
) -> None:
    done, waiting = finish(make_task()), make_task()

    def listed(status: str) -> Any:
        return client.get("/api/v1/image/tasks", {"status": status})

    for words, task in ((("success", "succeeded", "Completed"), done), (("pending", "queued"), waiting)):
        for word in words:
            assert [one["task_id"] for one in listed(word).json()["data"]["items"]] == [task.public_id]
    assert listed("processing").json()["data"]["items"] == []
    assert "queued, running, succeeded" in faults(listed("done"))["status"]
