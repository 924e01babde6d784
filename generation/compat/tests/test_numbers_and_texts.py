"""Numbers and texts that a door can't keep are refused with the field; what the imitated APIs take is taken."""

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from fixtures.rows import finish, picture_bytes
from generation.accounts.models import User
from generation.catalogue.models import ImageModel, Lora
from generation.compat.openai.form import answer as openai_answer
from generation.tasks import access
from generation.tasks.models import Image, Task

GENERATE, SDAPI, OPENAI = "/api/v1/image/generate", "/sdapi/v1/txt2img", "/v1/images/generations"


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User, able_model: ImageModel) -> Client:
    return client_of(owner)


def post(client: Client, path: str, body: Any, **headers: str) -> Any:
    """`body`: an object, or JSON as it is to be sent."""
    text = body if isinstance(body, str) else json.dumps(body)
    return client.post(path, text, content_type="application/json", headers=headers)


def named(answer: Any) -> str:
    """Everything that a refusal says."""
    assert answer.status_code == 400, answer.content[:300]
    told: str = json.dumps(answer.json())
    return told


# ---- numbers


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (GENERATE, '{"text": "x", "params": {"cfg_scale": @}}', "params.cfg_scale"),
        (GENERATE, '{"text": "x", "params": {"steps": @}}', "params.steps"),
        (GENERATE, '{"text": "x", "params": {"loras": [{"name": "a", "weight": @}]}}', "params.loras"),
        (OPENAI, '{"prompt": "x", "cfg_scale": @}', "cfg_scale"),
        (OPENAI, '{"prompt": "x", "n": @}', "n"),
    ],
)
def test_a_number_that_is_none_or_too_large_is_refused(client: Client, path: str, body: str, field: str) -> None:
    for number in ("1e400", "-1e999", "NaN", "Infinity", "9" * 5000, "1" + "0" * 400):
        told = named(post(client, path, body.replace("@", number)))
        assert field in told or "not_json" in told
    assert Task.objects.count() == 0


def test_so_it_is_where_numbers_are_clamped_and_unknown_fields_ignored(client: Client) -> None:
    for field in ("steps", "seed", "width", "cfg_scale", "batch_size", "unknown"):
        for number in ("1e400", "-1e400", "NaN", "Infinity"):
            told = named(post(client, SDAPI, f'{{"prompt": "x", "{field}": {number}}}'))
            assert field in told or "not JSON" in told
    assert Task.objects.count() == 0


def test_a_text_is_no_way_round(client: Client) -> None:
    for text in ("nan", "NaN", "inf", "-Infinity", "1e400"):
        assert "cfg_scale" in named(post(client, GENERATE, {"text": "x", "params": {"cfg_scale": text}}))
        assert "cfg_scale" in named(post(client, OPENAI, {"prompt": "x", "cfg_scale": text}))
        assert "cfg_scale" in named(post(client, SDAPI, {"prompt": "x", "cfg_scale": text}))
    form = {"text": "x", "params": '{"cfg_scale": NaN}'}
    assert "params" in named(client.post(GENERATE, form))


def test_a1111_takes_numbers_as_texts(client: Client) -> None:
    body = {
        "prompt": "x",
        "steps": "4",
        "seed": "4294967295",
        "cfg_scale": "5.5",
        "width": "256",
        "height": " 256 ",
    }
    assert post(client, SDAPI, body).status_code == 202
    params = Task.objects.get().params
    assert [params[name] for name in ("steps", "seed", "cfg_scale", "width")] == [4, 4294967295, 5.5, 256]
    assert "steps" in named(post(client, SDAPI, {"prompt": "x", "steps": "four"}))


# ---- texts


SURROGATES = [
    (GENERATE, r'{"text": "cat \ud83d"}'),
    (GENERATE, r'{"text": "x", "\ud800": 1}'),
    (GENERATE, r'{"text": "x", "params": {"postprocess": {"\ud800": 1}}}'),
    (GENERATE, r'{"text": "x", "params": {"style_keywords": ["\udfff"]}}'),
    (OPENAI, r'{"prompt": "x", "user": "\ud83d"}'),
    (SDAPI, r'{"prompt": "cat", "sampler_name": "\ud83d"}'),
    (SDAPI, r'{"prompt": "cat", "unknown": {"a": ["\ud83d"]}}'),
    ("/sdapi/v1/options", r'{"sd_model_checkpoint": "\ud800"}'),
    ("/api/v1/keys", r'{"name": "\ud800"}'),
    ("/api/v1/webhooks", r'{"url": "https://x.example/\ud800"}'),
]


def test_a_lone_surrogate_is_refused(client: Client) -> None:
    for path, body in SURROGATES:
        for headers in ({}, {"idempotency-key": "a"}):
            assert "surrogate" in named(post(client, path, body, **headers)), body
    assert Task.objects.count() == 0


def test_pairs_of_surrogates_are_a_letter(client: Client) -> None:
    assert post(client, GENERATE, r'{"text": "cat \ud83d\ude00"}').status_code == 202
    assert Task.objects.get().text == "cat 😀"


def test_what_is_nested_deep_or_has_too_many_values_is_refused(client: Client) -> None:
    for path in (GENERATE, OPENAI, SDAPI, "/v1/images/edits"):
        for inner in (
            "[" * 5000 + "]" * 5000,
            "[" * 200 + "]" * 200,
            '{"a":' * 5000 + "1" + "}" * 5000,
            f"[{'1,' * 150_000}1]",
        ):
            assert named(post(client, path, f'{{"x": {inner}}}'))


# ---- LoRAs in a prompt


@pytest.fixture
def ink(client: Client) -> Lora:
    return Lora.objects.create(name="ink", state=Lora.State.ACTIVE, base_family="sd15", source="x", sha256="a" * 64)


WEIGHTS = {
    "": 1.0, ":1": 1.0, ":0": 0.0, ":0.7": 0.7, ":+0.5": 0.5, ": 0.5": 0.5, ":0.500000000": 0.5, ":.5": 0.5, ":2.": 2.0,
    ":5e-1": 0.5, ":" + "0.5" + "0" * 100: 0.5,
}  # fmt: skip


def test_a_lora_tag_is_applied_as_written(client: Client, ink: Lora) -> None:
    for weight, expected in WEIGHTS.items():
        assert post(client, SDAPI, {"prompt": f"a cat <lora:ink{weight}>"}).status_code == 202, weight
        task = Task.objects.latest("id")
        assert [(one["name"], one["weight"]) for one in task.params["loras"]] == [("ink@1", expected)]
        assert task.text == "a cat"


def test_or_refused(client: Client, ink: Lora) -> None:
    tags = "ink:-1 ink:2.5 ink:. ink:1.2.3 ink:1:0.5 ink:x ink:1e999 ink:nan :1 gone:1 ink:٣".split()  # noqa: SIM905
    for tag in ("", *tags):
        assert named(post(client, SDAPI, {"prompt": f"a cat <lora:{tag}>"})), tag
    assert Task.objects.count() == 0


# ---- small things of the doors


def test_what_is_answered_can_be_sent_again(make_task: Callable[..., Task], client: Client) -> None:
    task = finish(make_task())
    Image.objects.update(format="jpg")
    shown = client.get(f"/api/v1/image/task/{task.public_id}").json()["data"]["outputs"][0]["format"]
    assert shown == "jpeg"
    assert openai_answer(task, access.images_of([task.id])[task.id], {}, "")["output_format"] == "jpeg"
    assert post(client, GENERATE, {"text": "x", "params": {"format": shown}}).status_code == 202


def test_openais_compression_counts_from_zero(client: Client) -> None:
    body = {"prompt": "x", "output_format": "jpeg", "output_compression": 0}
    assert post(client, OPENAI, body).status_code == 202
    assert Task.objects.get().params["postprocess"] == {"format": "jpeg", "quality": 1}


def test_an_unknown_quality_is_refused(client: Client) -> None:
    unknown: list[Any] = [[], {}, "best", 7]
    for quality in unknown:
        assert "quality" in named(post(client, OPENAI, {"prompt": "x", "quality": quality}))


def test_of_several_pictures_for_a1111_the_wrong_one_is_named(client: Client) -> None:
    sent = {"prompt": "x", "init_images": [base64.b64encode(picture_bytes((256, 256))).decode(), "AAAA"]}
    assert "init_images[1]" in named(post(client, "/sdapi/v1/img2img", sent))


def test_a_known_state_is_not_sent_again(make_task: Callable[..., Task], client: Client) -> None:
    task = finish(make_task())
    own = f"/api/v1/image/task/{task.public_id}"
    signed = client.get(own).json()["data"]["outputs"][0]["url"]
    for address in (f"{own}/image", own, signed):
        tag = client.get(address)["ETag"].removeprefix("W/")
        for form in ("{}", "W/{}", '"other", {}', '"a",W/{}', "*"):
            known = {"if-none-match": form.format(tag)}
            assert client.get(address, headers=known).status_code == 304, (address, form)
        assert client.get(address, headers={"if-none-match": f'"x{tag[1:]}'}).status_code == 200


TIMES = ["{0}", "{0}T10:00:00Z", "{0}T10:00:00", "{0}T10:00:00.5+00:00", "{0}T12:00:00+02:00"]


def test_days_are_read_from_times_too(make_task: Callable[..., Task], client: Client) -> None:
    task = make_task()
    for moment in (*TIMES, "{0}T12:00:00 02:00"):
        day = moment.format(task.created_at.date())
        for path in ("/api/v1/image/tasks", "/api/v1/usage"):
            answer = client.get(path, {"since": day, "until": day})
            assert (answer.status_code, len(answer.json()["data"]["items"])) == (200, 1), answer.content


def test_days_that_are_none_are_refused(client: Client) -> None:
    days = ["9999-12-31", "2026-13-45", "x", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
    for path in ("/api/v1/image/tasks", "/api/v1/usage"):
        for name, day in itertools.product(("since", "until"), days):
            assert name in named(client.get(path, {name: day}))


def test_nothing_is_older_than_the_first_day(client: Client) -> None:
    for path, name in itertools.product(("/api/v1/image/tasks", "/api/v1/usage"), ("since", "until")):
        answer = client.get(path, {name: "0001-01-02"})
        assert answer.status_code == 200 or name in named(answer), answer.content


def test_the_native_door_reads_samplers_in_any_spelling(client: Client) -> None:
    for sent in ("Euler a", "EULER_A", "euler_ancestral"):
        answer = post(client, GENERATE, {"text": "x", "params": {"sampler": sent}})
        assert answer.json()["data"]["input"]["sampler"] == "euler_a"
    told = named(post(client, GENERATE, {"text": "x", "params": {"sampler": "LMS"}}))
    assert "params.sampler" in told
    assert "DPM++ 2M Karras" in told
