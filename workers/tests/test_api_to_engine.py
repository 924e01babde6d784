"""From a request over the API to its answer, through a real GPU worker with models of every kind."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from django.conf import settings
from django.test import Client

from fixtures.fleet import Fleet, statuses, wait_until
from fixtures.rows import picture_bytes
from generation.accounts.models import ApiKey, Plan, Team, User
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel
from generation.tasks.models import Task
from workers.engine.tests import tiny_models
from workers.engine.tests.test_other_models import ImagesApi, Painter, picture_answer

LONG = "a red cat and a blue dog " * 80  # more than any encoder reads that has a limit
PICTURE, CONTROL = (base64.b64encode(picture_bytes((256, 256), colour=colour)).decode() for colour in ("red", "black"))
CANNY = {"controlnets": {"canny": "controlnet-canny"}}
LOOK = {"text": "a cat", "image": PICTURE}
LINES = {"text": "a cat", "control_image": CONTROL}
AREA = {"area": [64, 64, 128, 128]}


@pytest.fixture
def remote_server() -> Iterator[str]:
    """A server with the Images API."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), ImagesApi)
    hold = threading.Event()
    hold.set()
    server.seen, server.answer, server.hold = [], picture_answer((256, 256)), hold  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def declare_models(folder: Path, remote: str) -> None:
    """A model of every kind, as an admin enters them."""
    tiny_models.save_stable_diffusion(folder / "sd")
    tiny_models.save_stable_diffusion(folder / "nine", in_channels=9, with_controlnet=False)
    tiny_models.save_sd3(folder / "sd3")
    tiny_models.save_pixart(folder / "pixart")
    torch.jit.save(torch.jit.script(Painter()), str(folder / "lama.pt"))
    rows: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
        "sd": ("sd15", "sd", CANNY, ["text2img", "img2img", "inpaint", "controlnet"]),
        "nine": ("sd-inpaint", "nine", {}, ["inpaint"]),
        "sd3": ("sd3", "sd3", {}, ["text2img"]),
        "pixart": ("diffusers", "pixart", {}, ["text2img"]),
        "lama": ("lama", "lama.pt", {}, ["inpaint"]),
        "remote": ("remote-openai", remote, {"sizes": ["256x256"]}, ["text2img", "img2img"]),
        "gone": ("sd15", "gone", {}, ["text2img"]),
    }
    for name, (family, source, options, kinds) in rows.items():
        where = source if "://" in source else str(folder / source)
        fields = {"family": family, "source": where, "options": options, "kinds": kinds}
        ImageModel.objects.create(name=name, title=name, **fields)
    ImageModel.objects.filter(name="gone").update(fallback=ImageModel.objects.get(name="sd"))
    snapshot.reload()


@pytest.fixture
def client(user: User) -> Client:
    user.team = Team.objects.create(name="shop", plan=Plan.objects.get(name="paid"))
    user.save()
    return Client(headers={"authorization": f"Bearer {ApiKey.make(user)[1]}"})


def post(client: Client, kind: str, model: str, body: dict[str, Any], **params: Any) -> Task:
    asked = {"model": model, "resolution": "256x256", "steps": 2, **params}
    data = json.dumps({**body, "params": asked})
    answer = client.post(f"/api/v1/image/{kind}", data, content_type="application/json")
    assert answer.status_code == 202, answer.content
    return Task.objects.latest("id")


def test_every_kind_of_model_and_prompt_from_the_api_to_the_answer(
    processes: Fleet, client: Client, remote_server: str, tmp_path: Path
) -> None:
    declare_models(tmp_path, remote_server)
    env = {"RAW_ROOT": str(tmp_path / "raw"), "MEDIA_ROOT": settings.MEDIA_ROOT}
    fleet = Fleet(tmp_path, processes.env | env | {"TORCH_THREADS": "1", "GPU_PRELOAD": ""}, "workers.gpu.main")
    try:
        processes.only()
        fleet.start("gpu1")
        tasks = {
            "cut": post(client, "generate", "sd3", {"text": LONG}, negative_text=LONG),
            "cut by nobody's declaration": post(client, "generate", "pixart", {"text": LONG}, sampler="ddim"),
            "long": post(client, "generate", "sd", {"text": LONG}, negative_text=LONG),
            "weighted and Chinese": post(client, "generate", "sd", {"text": "(一只红色的猫:1.3)，白色背景"}),
            "control": post(client, "controlnet", "sd", LINES),
            "control with a picture": post(client, "controlnet", "sd", {**LINES, "image": PICTURE}, strength=1.0),
            "control with a mask": post(client, "controlnet", "sd", {**LINES, "image": PICTURE}, strength=1.0, **AREA),
            "nine channels": post(client, "inpaint", "nine", LOOK, strength=1.0, **AREA),
            "removal": post(client, "inpaint", "lama", LOOK, **AREA),
            "remote": post(client, "generate", "remote", {"text": "a cat"}, negative_text="dogs"),
            "fallback": post(client, "generate", "gone", {"text": "a cat"}),
        }
        ids = [task.id for task in tasks.values()]
        wait_until(lambda: statuses(ids)["generated"] == len(ids), 180, lambda: f"{statuses(ids)} {fleet.tail('gpu1')}")
    finally:
        fleet.stop(*fleet.processes)
    warnings = {}
    for name, task in tasks.items():
        warnings[name] = client.get(f"/api/v1/image/task/{task.public_id}").json()["data"]["warnings"]
    assert all("tokens, of which model sd3 reads 256" in warning for warning in warnings["cut"][-2:])
    assert [warning.split(" has ")[0] for warning in warnings["cut"][-2:]] == ["the prompt", "the negative prompt"]
    assert "of which model pixart reads 300" in warnings["cut by nobody's declaration"][-1]
    assert "schedule of its own" in warnings["cut by nobody's declaration"][0]
    assert "takes no negative prompt" in warnings["remote"][0]
    assert warnings["fallback"][0].startswith("made by model sd, because the one asked for failed")
    assert "Chinese words, and model sd reads only English" in warnings["weighted and Chinese"][0]
    silent = warnings.keys() - {"weighted and Chinese", "cut", "cut by nobody's declaration", "remote", "fallback"}
    assert {name: warnings[name] for name in silent} == {name: [] for name in silent}
