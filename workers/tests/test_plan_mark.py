"""A plan's mark, size and count hold on every way in and out: no way brings a picture without the mark."""

import base64
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from PIL import Image as Pillow

from fixtures.rows import fresh_limits, own_folders  # noqa: F401  # every test's own
from generation.accounts.models import ApiKey, Plan, User
from generation.catalogue.models import ImageModel
from generation.compat.a1111 import form as sdapi_form
from generation.compat.horde import form as horde_form
from generation.compat.openai import form as openai_form
from generation.queue.values import BatchKey
from generation.queue.worker import Claimed
from generation.tasks import access, repeat
from generation.tasks.models import Image, Status, Task
from generation.tests.graphs import text_graph
from workers.gpu import persistence, samples, task_claims
from workers.stages import enlarge, notify, postprocess, upload

pytestmark = pytest.mark.django_db(transaction=True)  # the workers' threads close their connections
WORKER = "gpu1-a"
MARK = {"kind": "text", "text": "PREVIEW", "size": 0.2, "opacity": 1.0, "tile": True}
GENERATE = "/api/v1/image/generate"
WISHES = {"resolution": "256x256", "steps": 4, "seed": 7, "preview": True}


@pytest.fixture
def marked(seeded: None) -> Plan:
    """A plan that marks its pictures."""
    limits = {"max_side": 256, "max_images": 1, "super_resolution": True, "requests_per_second": 100_000}
    return Plan.objects.create(name="marked", title="Marked", watermark=MARK, **limits)


@pytest.fixture
def client(marked: Plan, owner: User, client_of: Callable[..., Client]) -> Client:
    return client_of(owner, plan=marked)


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


# ---- the workers


def made(task: Task) -> Task:
    """The task through GPU, CPU and IO: its pictures are grey all over, so whatever else is in them is a mark."""
    task.refresh_from_db()
    claimed = Claimed(str(task.id), task.priority, BatchKey.parse(task.batch_key), 1, "{}")
    (running,) = task_claims.claim_rows([claimed], WORKER).running
    for sample in running.to_admit:
        running.images[sample.sample_id.index] = np.full((sample.height, sample.width, 3), 0.5, np.float32)
    persistence.persist_pictures(running, WORKER)
    for stage in (postprocess.postprocess, upload.upload, notify.notify):
        stage(str(task.id))
    task.refresh_from_db()
    assert task.status == Status.SUCCEEDED, task.error_message
    return task


def shows_mark(data: bytes) -> bool:
    return bool(np.asarray(Pillow.open(io.BytesIO(data)).convert("L")).std() > 5)


def newest() -> Task:
    return Task.objects.latest("id")


# ---- ways in: each leaves a queued task of a key with the plan


def by_generate(client: Client, owner: User) -> None:
    assert post(client, GENERATE, {"text": "x", "params": WISHES}).status_code == 202


def by_batch(client: Client, owner: User) -> None:
    assert post(client, "/api/v1/image/batch-generate", {"texts": ["x"], "params": WISHES}).status_code == 202


def by_openai(client: Client, owner: User) -> None:
    answer = post(client, "/v1/images/generations", {"prompt": "x", "model": "mini", "size": "256x256", "seed": 7})
    assert answer.status_code == 202


def by_a1111(client: Client, owner: User) -> None:
    answer = post(client, "/sdapi/v1/txt2img", {"prompt": "x", "width": 256, "height": 256, "steps": 4, "seed": 7})
    assert answer.status_code == 202


def by_the_horde(client: Client, owner: User) -> None:
    body = {"prompt": "x", "params": {"width": 256, "height": 256, "steps": 4, "seed": "7"}, "models": ["mini"]}
    assert post(client, "/api/v2/generate/async", body).status_code == 202


def by_comfyui(client: Client, owner: User) -> None:
    assert post(client, "/prompt", {"prompt": text_graph("x", model="mini")}).status_code == 200


def by_an_identical_request(client: Client, owner: User) -> None:
    """Of a key without a mark, so that the picture is kept and not made again."""
    free = Client(headers={"authorization": f"Bearer {ApiKey.make(owner)[1]}"})
    assert post(free, GENERATE, {"text": "x", "params": WISHES}).status_code == 202
    first = made(newest())
    assert not shows_mark(original(client, first))
    by_generate(client, owner)
    claimed = Claimed(str(newest().id), 1, BatchKey.parse(newest().batch_key), 1, "{}")
    (running,) = task_claims.claim_rows([claimed], WORKER).running
    assert not running.to_admit, "the picture is the kept one"
    Task.objects.filter(pk=newest().pk).update(status=Status.QUEUED, attempt=0)


def by_retry_of_a_task_without_mark(client: Client, owner: User) -> None:
    """The first was made by a key of a better plan, with previews."""
    free = Client(headers={"authorization": f"Bearer {ApiKey.make(owner)[1]}"})
    assert post(free, GENERATE, {"text": "x", "params": WISHES}).status_code == 202
    first = made(newest())
    assert client.post(f"/api/v1/image/task/{first.public_id}/retry").status_code == 202


def by_retry_after_the_plan_changed(client: Client, owner: User) -> None:
    Plan.objects.filter(name="marked").update(watermark=None)
    Plan.objects.get(name="marked").save()
    by_generate(client, owner)
    first = made(newest())
    plan = Plan.objects.get(name="marked")
    plan.watermark = MARK
    plan.save()
    assert client.post(f"/api/v1/image/task/{first.public_id}/retry").status_code == 202


def by_a_key_made_from_the_key(client: Client, owner: User) -> None:
    child = post(client, "/api/v1/keys", {}).json()["data"]["api_key"]
    by_generate(Client(headers={"authorization": f"Bearer {child}"}), owner)


def by_the_operators_repeat(client: Client, owner: User) -> None:
    by_generate(client, owner)
    repeat.repeat_for_owner(made(newest()))


def by_late_enlargement(client: Client, owner: User) -> None:
    params = {**WISHES, "postprocess": {"upscale": {"scale": 2, "late": True}}}
    assert post(client, GENERATE, {"text": "x", "params": params}).status_code == 202


WAYS_IN = (
    by_generate,
    by_batch,
    by_openai,
    by_a1111,
    by_the_horde,
    by_comfyui,
    by_an_identical_request,
    by_retry_of_a_task_without_mark,
    by_retry_after_the_plan_changed,
    by_a_key_made_from_the_key,
    by_the_operators_repeat,
    by_late_enlargement,
)


# ---- ways out: every picture that a client can get of a task


def original(client: Client, task: Task) -> bytes:
    return bytes(client.get(f"/api/v1/image/task/{task.public_id}/image").content)


def streamed(answer: Any) -> bytes:
    async def whole() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    return async_to_sync(whole)()


def unpacked(archive: bytes) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return [opened.read(name) for name in opened.namelist()]


def everything_of(client: Client, task: Task) -> dict[str, list[bytes]]:
    images: Sequence[Image] = access.images_of([task.id])[task.id]
    body = client.get(f"/api/v1/image/task/{task.public_id}").json()["data"]
    links = [body["temp_url"], *(url for out in body["outputs"] for url in (out["url"], out["thumbnail_url"]))]
    openai = openai_form.answer(task, images, {"response_format": "b64_json"}, "")
    found = {
        "original": [original(client, task)],
        "links": [streamed_or_not(Client().get(link.partition("testserver")[2] or link)) for link in links],
        "archive": unpacked(streamed(post(client, "/api/v1/image/download", {"task_ids": [task.public_id]}))),
        "OpenAI": [base64.b64decode(one["b64_json"]) for one in openai["data"]],
        "AI Horde": [base64.b64decode(one["img"]) for one in horde_form.generations(task, images, "", addresses=False)],
        "A1111": [base64.b64decode(one) for one in sdapi_form.answer(task, images, {})["images"]],
    }
    for variant in ("medium", "thumbnail"):
        answer = client.get(f"/api/v1/image/task/{task.public_id}/image?variant={variant}")
        found[variant] = [bytes(answer.content)]
    return found


def streamed_or_not(answer: Any) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else bytes(answer.content)


@pytest.mark.parametrize("way", WAYS_IN, ids=lambda way: way.__name__)
def test_no_way_out_brings_a_picture_without_the_plans_mark(
    client: Client, owner: User, way: Callable[[Client, User], None]
) -> None:
    way(client, owner)
    task = newest()
    assert [sample.preview_every for sample in samples.samples_of(task, alone=False)] == [0], "previews have no mark"
    task = made(task)
    for round_ in range(2):
        for out, pictures in everything_of(client, task).items():
            assert pictures, out
            assert all(map(shows_mark, pictures)), (out, round_)
        if not task.recipe.late or round_:
            break
        enlarge.enlarge(str(task.id))
        assert Image.objects.get(task=task).width == 512


def test_a_plan_without_a_mark_has_previews(client_of: Callable[..., Client], owner: User) -> None:
    assert post(client_of(owner), GENERATE, {"text": "x", "params": WISHES}).status_code == 202
    assert samples.samples_of(newest(), alone=False)[0].preview_every > 0


def test_a_retry_by_a_key_whose_pictures_are_checked_has_no_previews(
    client_of: Callable[..., Client], owner: User, settings: Any
) -> None:
    settings.IMAGE_CHECKER, settings.IMAGE_CHECK = "", "all"
    client = client_of(owner)
    assert post(client, GENERATE, {"text": "x", "params": WISHES}).status_code == 202
    first = made(newest())
    settings.IMAGE_CHECKER = f"{__name__}.Harmless"
    assert client.post(f"/api/v1/image/task/{first.public_id}/retry").status_code == 202
    assert not newest().parameters.preview


ABOVE = [
    (GENERATE, {"text": "x", "params": {"resolution": "512x512"}}),
    (GENERATE, {"text": "x", "params": {"resolution": "256x256", "num_images": 2}}),
    ("/api/v1/image/batch-generate", {"texts": ["x"], "params": {"resolution": "512x512"}}),
    ("/v1/images/generations", {"prompt": "x", "model": "mini", "size": "512x512"}),
    ("/v1/images/generations", {"prompt": "x", "model": "mini", "size": "256x256", "n": 2}),
    ("/api/v2/generate/async", {"prompt": "x", "params": {"width": 512, "height": 512}}),
    ("/api/v2/generate/async", {"prompt": "x", "params": {"width": 256, "height": 256, "n": 2}}),
    ("/prompt", {"prompt": text_graph("x", model="mini", side=512)}),
    ("/prompt", {"prompt": text_graph("x", model="mini", count=2)}),
    ("/sdapi/v1/txt2img", {"prompt": "x", "width": 512, "height": 512}),
    ("/sdapi/v1/txt2img", {"prompt": "x", "width": 256, "height": 256, "batch_size": 2}),
    ("/sdapi/v1/txt2img", {"prompt": "x", "width": 256, "height": 256, "n_iter": 2}),
]


@pytest.mark.parametrize(("path", "body"), ABOVE)
def test_size_and_count_hold_at_every_door(client: Client, path: str, body: dict[str, Any]) -> None:
    assert ImageModel.objects.get(name="mini").max_side >= 512
    answer = post(client, path, body)
    assert answer.status_code == 400, answer.content
    assert Task.objects.count() == 0
