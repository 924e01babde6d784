"""`stream`, `variations` and what else OpenAI's clients ask of `/v1`, with OpenAI's own Python package over HTTP."""

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from django.db import connection
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse
from PIL import Image as Pillow

from fixtures.rows import finish, picture_bytes
from generation.accounts.models import Plan, User
from generation.catalogue.models import Lora
from generation.compat.tests.test_openai_client import ended, make_client, working
from generation.tasks import events
from generation.tasks.models import Status, Task

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(live: str, owner: User, key_of: Callable[..., str]) -> Iterator[openai.OpenAI]:
    """Nobody works on its tasks but the test."""
    with make_client(live, key_of(owner)) as made:
        yield made


@pytest.fixture
def served(client: openai.OpenAI) -> Iterator[openai.OpenAI]:
    """Its tasks are finished, as the workers do."""
    with working():
        yield client


def jpeg() -> str:
    return base64.b64encode(picture_bytes((64, 64), "JPEG")).decode()


def waiting() -> Task:
    deadline = time.monotonic() + 30
    while not Task.objects.filter(status=Status.QUEUED).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return Task.objects.get(status=Status.QUEUED)


def work(percents: tuple[int, ...], count: int = 1) -> threading.Thread:
    """A worker that reports each of these percents with a preview, then finishes the task."""

    def run() -> None:
        task = waiting()
        time.sleep(0.5)  # the client's stream is open
        for percent in percents:
            events.publish_progress(task.id, percent, percent, 100)
            events.publish(task.id, "preview", {"index": 0, "jpeg": jpeg()})
        finish(task, count)
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_stream_brings_previews_and_then_the_picture(client: openai.OpenAI) -> None:
    thread = work((5, 10, 40, 60, 90))
    stream = client.images.generate(
        prompt="x", model="gpt-image-1", stream=True, partial_images=2, quality="high", output_format="webp"
    )
    partial, other, done = list(stream)
    thread.join()
    assert Task.objects.get().params["preview"]
    for index, event in enumerate((partial, other)):
        assert isinstance(event, ImageGenPartialImageEvent)
        ImageGenPartialImageEvent.model_validate(event.model_dump(exclude_unset=True), strict=True)
        assert (event.partial_image_index, event.size, event.quality) == (index, "64x64", "high")
        assert base64.b64decode(event.b64_json)[:4] == b"RIFF", "in the format that was asked for"
    assert isinstance(done, ImageGenCompletedEvent)
    ImageGenCompletedEvent.model_validate(done.model_dump(exclude_unset=True), strict=True)
    assert Pillow.open(io.BytesIO(base64.b64decode(done.b64_json))).size == (256, 256)


def test_an_edit_streams_in_its_own_words_and_without_previews_unless_asked(client: openai.OpenAI) -> None:
    thread = work((50,), count=2)
    stream = client.images.edit(image=("a.png", picture_bytes((256, 256))), prompt="x", n=2, stream=True)
    assert [event.type for event in stream] == ["image_edit.completed"] * 2
    thread.join()
    assert not Task.objects.get().params["preview"]


def test_a_plan_that_marks_pictures_streams_no_previews(client: openai.OpenAI) -> None:
    for plan in Plan.objects.all():
        plan.watermark = {"kind": "text", "text": "PREVIEW"}
        plan.save()
    thread = work(())
    assert len(list(client.images.generate(prompt="x", size="512x512", stream=True, partial_images=3))) == 1
    thread.join()
    assert not Task.objects.get().params["preview"]


def test_a_stream_ends_with_the_reason_why_there_is_no_picture(served: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError) as failed:
        list(served.images.generate(prompt="fail", stream=True))
    assert "too large for this GPU" in failed.value.message
    with pytest.raises(openai.BadRequestError) as refused:
        served.images.generate(prompt="x", stream=True, partial_images=4)
    assert refused.value.param == "partial_images"


def test_a_client_that_leaves_a_stream_cancels_its_task(client: openai.OpenAI) -> None:
    with client.images.generate(prompt="x", stream=True):
        task = waiting()
        time.sleep(0.3)
    assert ended(task).status == Status.CANCELLED


def test_a_stream_that_takes_too_long_is_ended(client: openai.OpenAI, settings: Any) -> None:
    settings.COMPAT_WAIT_SECONDS = 0.3
    with pytest.raises(openai.APIError, match="not finished within"):
        list(client.images.generate(prompt="x", stream=True))
    assert ended(Task.objects.get()).status == Status.CANCELLED


def test_a_variation_changes_little_and_needs_no_prompt(served: openai.OpenAI) -> None:
    made = served.images.create_variation(image=picture_bytes((256, 256)), n=2, size="256x256", response_format="url")
    assert made.data is not None
    assert [(one.url is None, one.b64_json) for one in made.data] == [(False, None)] * 2
    task = Task.objects.get()
    assert (task.kind, task.params["strength"], task.params["num_images"]) == ("img2img", 0.4, 2)


def test_one_picture_of_an_edit_is_taken_and_several_are_refused_with_a_sentence(served: openai.OpenAI) -> None:
    one = ("a.png", picture_bytes((256, 256)))
    assert served.images.edit(image=[one], prompt="x").data
    with pytest.raises(openai.BadRequestError) as refused:
        served.images.edit(image=[one, one], prompt="x")
    assert (refused.value.param, "2 pictures" in refused.value.message) == ("image", True)


def test_loras_stand_behind_the_models_name(served: openai.OpenAI) -> None:
    facts = {"state": Lora.State.ACTIVE, "base_family": "sd15", "source": "x", "sha256": "a" * 64}
    for name in ("ink", "gold"):
        Lora.objects.create(name=name, **facts)
    served.images.generate(prompt="x", model="mini+ink:0.7+gold", size="256x256")
    task = Task.objects.get()
    assert [(lora["name"], lora["weight"]) for lora in task.params["loras"]] == [("ink@1", 0.7), ("gold@1", 1.0)]
    assert task.model_key.startswith("mini@")
    with pytest.raises(openai.NotFoundError):
        served.images.generate(prompt="x", model="nothing+ink")
    for model, told in (("mini+ink:much", r"model\+lora:0.8"), ("mini+none", "no such active LoRA")):
        with pytest.raises(openai.BadRequestError, match=told):
            served.images.generate(prompt="x", model=model)


def test_a_size_that_the_model_cannot_make_is_refused_with_those_that_it_can(served: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        served.images.generate(prompt="x", model="chatgpt-image-latest", size="1536x1024")
    assert (refused.value.param, refused.value.code) == ("size", "out_of_range")
    assert "256x256, 512x512, 1024x1024, auto" in refused.value.message


def test_the_answer_names_the_format_in_openais_word(live: str, served: openai.OpenAI, monkeypatch: Any) -> None:
    monkeypatch.setattr("generation.compat.openai.form.public_format", lambda _: "jpeg")  # the fixture's files are WebP
    answer = served.images.with_raw_response.generate(prompt="x", output_format="jpeg")
    ImagesResponse.model_validate_json(answer.content, strict=True)


def test_errors_have_openais_form_also_for_keys_addresses_and_methods(live: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        make_client(live, "sk-of-somebody-else").models.list()
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")
    assert "igx_" in refused.value.message
    headers = {"authorization": f"Bearer {client.api_key}"}
    with httpx.Client(base_url=live, headers=headers, trust_env=False) as http:
        nothing, wrong = http.post("/v1/images/nothing"), http.get("/v1/images/generations")
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
