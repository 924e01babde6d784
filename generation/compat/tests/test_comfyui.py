"""ComfyUI's API: graphs of its own templates become tasks, others are refused with their nodes; `/ws` tells of it."""

import asyncio
import base64
import copy
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import websockets
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from PIL import Image as Pillow

from fixtures.rows import finish, picture_bytes
from generation.accounts.models import User
from generation.catalogue.models import ImageModel, Lora
from generation.compat.comfyui import uploads
from generation.tasks import events
from generation.tasks.models import Status, Task

pytestmark = pytest.mark.django_db(transaction=True)
TEXT: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 156680208700286, "steps": 9, "cfg": 5, "sampler_name": "dpmpp_2m", "scheduler": "karras",
            "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "able.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 256, "height": 320, "batch_size": 2}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "a dog", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
}  # fmt: skip
LOAD = {"class_type": "LoadImage", "inputs": {"image": "in.png"}}


def graph(nodes: dict[str, Any] | None = None, **sampler: Any) -> dict[str, Any]:
    made = copy.deepcopy(TEXT) | (nodes or {})
    made["3"]["inputs"] |= sampler
    return made


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User, able_model: ImageModel) -> Client:
    return client_of(owner)


def post(client: Client, prompt: Any, **beside: Any) -> Any:
    return client.post("/prompt", json.dumps({"prompt": prompt, **beside}), content_type="application/json")


def send(client: Client, data: bytes, name: str = "in.png", **fields: str) -> Any:
    return client.post("/upload/image", {"image": SimpleUploadedFile(name, data), **fields})


def see_through() -> bytes:
    written = io.BytesIO()
    picture = Pillow.new("RGBA", (256, 256), (9, 9, 9, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 128, 256))
    picture.save(written, "PNG")
    return written.getvalue()


def test_the_text_graph_becomes_a_task_and_its_pictures_a_history(client: Client) -> None:
    made = post(client, graph(), client_id="me")
    assert (made.status_code, made.json()["node_errors"]) == (200, {})
    prompt_id, task = made.json()["prompt_id"], Task.objects.get()
    names = ("width", "height", "num_images", "steps", "cfg_scale", "sampler", "seed", "negative_text")
    asked = [task.params[name] for name in names]
    assert asked == [256, 320, 2, 9, 5, "dpm++_karras", 156680208700286, "a dog"]
    assert (task.text, task.params["postprocess"]["format"]) == ("a cat", "png")
    assert client.get(f"/history/{prompt_id}").json() == {}
    assert [entry[1] for entry in client.get("/queue").json()["queue_pending"]] == [prompt_id]
    assert client.get("/prompt").json() == {"exec_info": {"queue_remaining": 1}}
    finish(task, 2)
    [entry] = client.get(f"/history/{prompt_id}").json().values()
    assert (entry["status"]["completed"], entry["prompt"][2]["6"]["inputs"]["text"]) == (True, "a cat")
    images = entry["outputs"]["9"]["images"]
    assert [sorted(image) for image in images] == [["filename", "subfolder", "type"]] * 2
    shown = client.get("/view", images[1])
    assert (shown.status_code, shown.content[:4], shown["X-Content-Type-Options"]) == (200, b"RIFF", "nosniff")
    assert list(client.get("/api/history").json()) == [prompt_id]
    assert client.get("/queue").json() == {"queue_running": [], "queue_pending": []}


def test_picture_graphs_become_img2img_and_inpainting(client: Client) -> None:
    told = send(client, see_through(), subfolder="a/../b").json()
    assert told == {"name": "in.png", "subfolder": "a/b", "type": "input"}
    send(client, see_through())
    encode: dict[str, Any] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    paint = {"class_type": "VAEEncodeForInpaint", "inputs": {**encode["inputs"], "mask": ["10", 1], "grow_mask_by": 6}}
    noise = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["11", 0], "mask": ["12", 0]}}
    alpha = {"class_type": "LoadImageMask", "inputs": {"image": "a/b/in.png [input]", "channel": "alpha"}}
    for nodes, latent in (
        ({"10": LOAD, "11": encode}, "11"),
        ({"10": LOAD, "11": paint}, "11"),
        ({"10": LOAD, "11": encode, "12": alpha, "13": noise}, "13"),
    ):
        answer = post(client, graph(nodes, latent_image=[latent, 0], denoise=0.6))
        assert answer.status_code == 200, answer.json()
    plain, *masked = (task.params for task in Task.objects.order_by("id"))
    assert (plain["kind"], plain["strength"], plain["width"]) == ("img2img", 0.6, 256)
    assert [(params["kind"], bool(params["mask_key"])) for params in masked] == [("inpaint", True)] * 2


def test_loras_of_a_graph_are_laid_on(client: Client) -> None:
    Lora.objects.create(name="ink", state=Lora.State.ACTIVE, base_family="sd15", source="x", sha256="a" * 64)
    inputs = {"model": ["4", 0], "clip": ["4", 1], "lora_name": "ink.safetensors", "strength_model": 0.7}
    lora = {"class_type": "LoraLoader", "inputs": {**inputs, "strength_clip": 0.7}}
    nodes = {"10": lora, "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["10", 1]}}}
    assert post(client, graph(nodes, model=["10", 0])).status_code == 200
    assert [(one["name"], one["weight"]) for one in Task.objects.get().params["loras"]] == [("ink@1", 0.7)]


@pytest.mark.parametrize(
    ("prompt", "kind", "node", "told"),
    [
        (graph({"20": {"class_type": "UpscaleModelLoader"}}), "missing_node_type", "20", "UpscaleModelLoader"),
        ({"4": TEXT["4"]}, "prompt_no_outputs", None, "no outputs"),
        ({}, "no_prompt", None, "graph"),
        ("x", "no_prompt", None, "graph"),
        (graph(sampler_name="lms"), "prompt_outputs_failed_validation", "3", "lms"),
        (graph(denoise=0.5), "prompt_outputs_failed_validation", "3", "denoise 1"),
        (graph(steps=1000), "prompt_outputs_failed_validation", "3", "steps"),
        (graph(steps="many"), "prompt_outputs_failed_validation", "3", "steps"),
        (graph(positive=["99", 0]), "prompt_outputs_failed_validation", "3", "positive"),
        (graph(positive=["8", 0]), "prompt_outputs_failed_validation", "3", "VAEDecode"),
        (graph({"4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x"}}}),
         "prompt_outputs_failed_validation", "4", "not in"),
        (graph({"5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}}),
         "prompt_outputs_failed_validation", "5", "pixels"),
        (graph({"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}}}),
         "prompt_outputs_failed_validation", "6", "text"),
        (graph({"10": LOAD, "11": {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}},
               latent_image=["11", 0]), "prompt_outputs_failed_validation", "10", "Invalid image file"),
        (graph({"33": TEXT["3"]}), "prompt_outputs_failed_validation", "33", "one KSampler"),
    ],
)  # fmt: skip
def test_what_a_graph_cannot_say_is_refused_with_its_node(
    client: Client, prompt: Any, kind: str, node: str | None, told: str
) -> None:
    answer = post(client, prompt)
    assert answer.status_code == 400
    body = answer.json()
    assert (body["error"]["type"], list(body["node_errors"])) == (kind, [node] if node else [])
    assert told in json.dumps(body)
    assert Task.objects.count() == 0


def test_loops_of_a_graph_end(client: Client) -> None:
    loop = {"class_type": "LoraLoader", "inputs": {"model": ["10", 0], "clip": ["10", 1], "lora_name": "a",
                                                   "strength_model": 1, "strength_clip": 1}}  # fmt: skip
    assert post(client, graph({"10": loop}, model=["10", 0])).status_code == 400


def test_each_key_sees_and_ends_its_own(client: Client, client_of: Any, make_user: Callable[..., User]) -> None:
    prompt_id = post(client, graph()).json()["prompt_id"]
    stranger = client_of(make_user("stranger"))
    for path in ("/interrupt", "/queue"):
        stranger.post(path, json.dumps({"clear": True, "prompt_id": prompt_id}), content_type="application/json")
    assert Task.objects.get().status == Status.QUEUED
    finish(Task.objects.get(), 2)
    [entry] = client.get(f"/history/{prompt_id}").json().values()
    assert (stranger.get(f"/history/{prompt_id}").json(), stranger.get("/history").json()) == ({}, {})
    assert stranger.get("/view", entry["outputs"]["9"]["images"][0]).status_code == 404
    other = post(client, graph()).json()["prompt_id"]
    client.post("/queue", json.dumps({"delete": [other, "x", None]}), content_type="application/json")
    assert Task.objects.get(pk=other).status == Status.CANCELLED
    assert client.get(f"/history/{other}").json()[other]["status"]["status_str"] == "error"


def test_uploads_are_pictures_and_bounded(client: Client, owner: User, monkeypatch: Any) -> None:
    assert send(client, b"<html>").status_code == 400
    assert client.post("/upload/image", {}).status_code == 400
    monkeypatch.setattr(uploads, "MOST", 2)
    for number in range(4):
        send(client, picture_bytes((64, 64)), f"{number}.png")
    assert uploads.names(owner) == ["3.png", "2.png"]
    assert uploads.find(owner, "0.png") is None
    choices = client.get("/object_info/LoadImage").json()["LoadImage"]["input"]["required"]["image"][0]
    assert choices == ["3.png", "2.png"]
    assert client.get("/view", {"filename": "3.png", "type": "input"}).status_code == 404


def test_the_nodes_are_described(client: Client) -> None:
    info = client.get("/object_info").json()
    assert info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0][-1] == "able"
    assert info["KSampler"]["input"]["required"]["seed"][0] == "INT"
    assert info["SaveImage"]["output_node"] is True
    assert client.get("/models/checkpoints").json()[-1] == "able"
    assert client.get("/system_stats").json()["devices"] == []
    assert Client().get("/object_info").status_code == 401


def test_a_socket_tells_what_happens_to_the_prompts_of_its_client(
    live: str, client: Client, owner: User, key_of: Callable[..., str]
) -> None:
    key = key_of(owner)
    mine = Client(headers={"authorization": f"Bearer {key}"})
    address = live.replace("http", "ws") + "/ws?clientId=me"
    basic = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()

    def work() -> None:
        task = Task.objects.get()
        events.publish_progress(task.id, 50, 5, 9)
        finish(task, 2)
        connection.close()

    def submit() -> str:
        made: str = post(mine, graph(), client_id="me").json()["prompt_id"]
        connection.close()
        return made

    async def talk() -> tuple[str, list[dict[str, Any]]]:
        async with websockets.connect(address, additional_headers={"Authorization": basic}, proxy=None) as socket:
            told = [json.loads(await asyncio.wait_for(socket.recv(), 20))]
            prompt_id = await asyncio.to_thread(submit)
            await asyncio.sleep(1)
            worker = threading.Thread(target=work)
            worker.start()
            while told[-1]["type"] != "executing" or told[-1]["data"]["node"] is not None:
                told.append(json.loads(await asyncio.wait_for(socket.recv(), 20)))
            await asyncio.to_thread(worker.join)
            return prompt_id, told

    prompt_id, told = asyncio.run(talk())
    assert told[0]["data"] == {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "me"}
    kinds = [message["type"] for message in told[1:]]
    assert kinds == ["execution_start", "executing", "progress", "executed", "execution_success", "executing"]
    assert {message["data"]["prompt_id"] for message in told[1:]} == {prompt_id}
    assert (told[3]["data"]["value"], told[3]["data"]["max"]) == (5, 9)
    assert len(told[4]["data"]["output"]["images"]) == 2


def test_a_socket_needs_a_key_and_is_not_opened_for_other_sites(
    live: str, owner: User, key_of: Callable[..., str]
) -> None:
    async def knock(key: str, **more: str) -> int:
        headers = {"Authorization": f"Bearer {key}", **more} if key else more
        try:
            async with websockets.connect(live.replace("http", "ws") + "/ws", additional_headers=headers, proxy=None):
                return 101
        except websockets.InvalidStatus as refused:
            return refused.response.status_code

    right = key_of(owner)
    assert [asyncio.run(knock(key)) for key in ("", "igx_0000000000_x", key_of(owner, scopes=["generate"]))] == [
        403
    ] * 3
    assert asyncio.run(knock(right, Origin="http://evil.example")) == 403
    assert [asyncio.run(knock(right)), asyncio.run(knock(right, Origin=live))] == [101, 101]
