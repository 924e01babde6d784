"""OpenAI's own Python package talks to `/v1` unchanged, over HTTP."""

import base64
import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from django.db import connection
from openai.types import ImagesResponse
from PIL import Image as Pillow

from fixtures.rows import finish, picture_bytes, process_pictures
from generation.accounts.models import User
from generation.compat.base import TaskCanceled, TaskFailed, succeeded
from generation.policy import rules
from generation.policy.models import BlockedTerm
from generation.tasks import states
from generation.tasks.models import Status, Task
from imagegenx_site.errors import ApiError, InvalidRequest
from storage.store import get_store

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(live: str) -> Iterator[None]:
    """See `working`."""
    with working():
        yield


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Finishes every task that is submitted, as the workers do; texts that begin with `fail` fail, with `hold` wait.
    Pictures that are only processed really are.
    """
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.02):
            for task in Task.objects.filter(status=Status.QUEUED).exclude(text__startswith="hold"):
                if task.text.startswith("fail"):
                    states.fail(task.id, code="out_of_memory", message="The picture is too large for this GPU.")
                else:
                    finish(task, task.params["num_images"])
            process_pictures()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.fixture
def client(live: str, worker: None, owner: User, key_of: Callable[..., str]) -> Iterator[openai.OpenAI]:
    with make_client(live, key_of(owner)) as made:
        yield made


def make_client(live: str, key: str, **how: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live}/v1", api_key=key, timeout=60, **({"max_retries": 0} | how))


def picture(text: str | None) -> Pillow.Image:
    assert text
    return Pillow.open(io.BytesIO(base64.b64decode(text)))


def test_a_text_becomes_pictures_in_both_forms(client: openai.OpenAI) -> None:
    made = client.images.generate(prompt="a red circle", model="mini", n=2, size="256x256")
    assert made.data is not None
    assert [picture(one.b64_json).size for one in made.data] == [(256, 256)] * 2
    assert httpx.get(str(made.data[0].url), trust_env=False).content[:4] == b"RIFF"
    assert (made.created > 0, made.size) == (True, "256x256")
    task = Task.objects.get()
    assert (task.text, task.params["num_images"], task.params["postprocess"]["format"]) == ("a red circle", 2, "png")


def test_the_answer_is_of_openais_own_type_to_the_letter(live: str, client: openai.OpenAI) -> None:
    headers = {"authorization": f"Bearer {client.api_key}"}
    body = {"prompt": "x", "model": "gpt-image-1", "quality": "high", "moderation": "low", "unheard_of": 1}
    answer = httpx.post(f"{live}/v1/images/generations", json=body, headers=headers, trust_env=False, timeout=60)
    ImagesResponse.model_validate(answer.json() | {"output_format": "png"}, strict=True)
    assert [sorted(entry) for entry in answer.json()["data"]] == [["b64_json"]]
    assert answer.headers["x-request-id"]
    assert "RateLimit" in answer.headers


@pytest.mark.parametrize(("wanted", "given"), [("url", ["url"]), ("b64_json", ["b64_json"])])
def test_response_format_is_obeyed(client: openai.OpenAI, wanted: Any, given: list[str]) -> None:
    made = client.images.generate(prompt="x", model="dall-e-3", response_format=wanted)
    assert made.data is not None
    assert sorted(made.data[0].model_dump(exclude_none=True)) == given


def test_quality_and_extensions_become_parameters(client: openai.OpenAI) -> None:
    extra = {"negative_prompt": "blur", "seed": 7, "guidance_scale": 5, "sampler": "ddim"}
    client.images.generate(prompt="x", quality="low", output_format="webp", output_compression=70, extra_body=extra)
    params = Task.objects.get().params
    assert (params["steps"], params["seed"], params["cfg_scale"], params["sampler"]) == (10, 7, 5, "ddim")
    assert (params["negative_text"], params["postprocess"]) == ("blur", {"format": "webp", "quality": 70})


def test_edits_take_a_picture_with_and_without_a_mask(client: openai.OpenAI) -> None:
    base = picture_bytes((256, 256))
    client.images.edit(image=("in.png", base), prompt="no mask", size="256x256")
    mask = Pillow.new("RGBA", (256, 256), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 128, 256))  # the left half is painted anew
    written = io.BytesIO()
    mask.save(written, "PNG")
    client.images.edit(image=[("in.png", base)], mask=("mask.png", written.getvalue()), prompt="mask", n=2)
    plain, masked = Task.objects.order_by("id")
    assert (plain.kind, masked.kind, masked.params["num_images"]) == ("img2img", "inpaint", 2)
    stored = Pillow.open(io.BytesIO(get_store("images").read(masked.params["mask_key"])))
    assert (stored.getpixel((10, 10)), stored.getpixel((250, 10))) == (255, 0)


def test_models_are_listed_with_the_names_that_clients_are_built_with(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"mini", "default", "gpt-image-1", "dall-e-3"} <= set(names)
    assert client.models.retrieve("gpt-image-1").owned_by == "mini"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("nothing")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("asked", "status", "param", "code"),
    [
        ({"prompt": ""}, 400, "prompt", "blank"),
        ({"prompt": "x", "size": "300x301"}, 400, "size", "not_a_multiple"),
        ({"prompt": "x", "n": 99}, 400, "n", "out_of_range"),
        ({"prompt": "x", "model": "nothing"}, 404, None, "model_not_found"),
        ({"prompt": "x", "background": "transparent"}, 400, "background", "unsupported_value"),
        ({"prompt": "x", "extra_body": {"output_format": "svg"}}, 400, "output_format", "unsupported_value"),
        ({"prompt": "x", "extra_body": {"partial_images": 9}}, 400, "partial_images", "out_of_range"),
        ({"prompt": "something blocked"}, 400, "prompt", "content_policy_violation"),
    ],
)
def test_refusals_have_openais_form(
    client: openai.OpenAI, asked: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    BlockedTerm.objects.create(term="blocked", reason="blocked")
    rules.reload()
    with pytest.raises(openai.APIStatusError) as refused:
        client.images.generate(**asked)
    error = refused.value
    assert (error.status_code, error.param, error.code) == (status, param, code), error.body
    assert error.request_id
    assert Task.objects.count() == 0


def test_a_wrong_key_is_an_authentication_error(live: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        make_client(live, "igx_0000000000_wrong").images.generate(prompt="x")


def test_a_failed_task_is_told_once_and_not_tried_again(live: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        make_client(live, client.api_key, max_retries=2).images.generate(prompt="fail")
    assert "too large for this GPU" in failed.value.message
    assert Task.objects.count() == 1


def test_too_many_requests_are_tried_again_by_the_client(live: str, client: openai.OpenAI, owner: User) -> None:
    owner.team.plan.requests_per_second = 1  # type: ignore[union-attr]
    owner.team.plan.save()  # type: ignore[union-attr]
    with pytest.raises(openai.RateLimitError) as refused:
        ask_often(client)
    assert refused.value.response.headers["retry-after"] == "1"
    patient = make_client(live, client.api_key, max_retries=5)
    assert [len(list(patient.models.list())) > 0 for _ in range(3)] == [True] * 3


def ask_often(client: openai.OpenAI) -> None:
    for _ in range(20):
        client.models.list()


def test_a_client_that_goes_away_cancels_its_task(live: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).images.generate(prompt="hold")
    assert ended(Task.objects.get()).status == Status.CANCELLED


def test_a_retry_of_the_client_meets_the_task_of_its_first_try(live: str, client: openai.OpenAI, settings: Any) -> None:
    settings.COMPAT_WAIT_SECONDS = 30
    headers = {"authorization": f"Bearer {client.api_key}"}
    body = {"prompt": "a red circle"}
    address = f"{live}/v1/images/generations"
    with httpx.Client(headers=headers, trust_env=False, timeout=60) as http:
        first = http.post(address, json=body).json()
        again = http.post(address, json=body, headers={"x-stainless-retry-count": "1"}).json()
        other = http.post(address, json=body).json()
    assert first["data"][0]["b64_json"] == again["data"][0]["b64_json"]
    assert other["created"] >= first["created"]
    assert Task.objects.count() == 2


def test_what_takes_too_long_is_ended(live: str, client: openai.OpenAI, settings: Any) -> None:
    settings.COMPAT_WAIT_SECONDS = 1
    with pytest.raises(openai.APIStatusError) as late:
        client.images.generate(prompt="hold")
    assert (late.value.status_code, late.value.code) == (504, "timeout")
    assert ended(Task.objects.get()).status == Status.CANCELLED


def test_calls_that_wait_hold_no_thread(live: str, client: openai.OpenAI) -> None:
    """There are fewer threads than waiting clients, and others are served meanwhile."""
    before = threading.active_count()
    threads = [
        threading.Thread(target=lambda: client.images.generate(prompt="hold", timeout=90), daemon=True)
        for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while Task.objects.count() < 40 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Task.objects.count() == 40
    assert len(list(client.models.list())) > 0
    assert threading.active_count() - before <= 40 + 14  # the clients, and the web process's own threads
    Task.objects.update(text="go on")
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads)


def ended(task: Task) -> Task:
    deadline = time.monotonic() + 20
    while not task.terminal and time.monotonic() < deadline:
        time.sleep(0.05)
        task.refresh_from_db()
    return task


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ({"status": Status.CANCELLED}, TaskCanceled),
        ({"status": Status.FAILED, "error_code": "policy_adult", "error_message": "Refused."}, InvalidRequest),
        ({"status": Status.FAILED, "error_code": "internal", "error_message": "Broken."}, TaskFailed),
    ],
)
def test_what_the_client_has_done_is_no_error_of_ours(
    make_task: Callable[..., Task], end: dict[str, Any], error: type[ApiError]
) -> None:
    """A canceled task, and one whose picture the checker refuses."""
    task = make_task()
    Task.objects.filter(pk=task.pk).update(**end)
    with pytest.raises(error) as raised:
        succeeded(Task.objects.get(pk=task.pk))
    assert (raised.value.http_status < 500) == (error is not TaskFailed)
