"""Prompts in a language that the model was not trained on: translated by a server of LibreTranslate's protocol, shown
beside the original, and looked at by the policy in both forms.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from django.test import Client

from fixtures.hostile import HostileServer
from fixtures.rows import Receiver, picture_bytes
from generation.accounts.models import User
from generation.api.bounds import translation
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel
from generation.policy import rules
from generation.policy.models import BlockedTerm
from generation.tasks.models import Task

WORDS = {"一个红色的杯子": "a red cup", "模糊": "blur", "一只猫": "a cat", "断头": "a severed head"}
GENERATE = "/api/v1/image/generate"


def answer(texts: list[Any], status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"content-type": "application/json"}, json.dumps({"translatedText": texts}).encode()


@pytest.fixture
def translator(receiver: Receiver, settings: Any) -> Receiver:
    settings.TRANSLATOR_URL, settings.TRANSLATOR_KEY = f"{receiver.url}/", "secret"
    return receiver


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Iterator[Client]:
    ImageModel.objects.filter(name="mini").update(options={"languages": ["en"]})
    snapshot.reload()
    translation._kept.clear()
    yield client_of(owner)
    translation._kept.clear()


def post(client: Client, body: Any, path: str = GENERATE) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


def test_a_prompt_is_translated_and_both_are_shown(client: Client, translator: Receiver) -> None:
    translator.answers = [answer([WORDS["一个红色的杯子"], WORDS["模糊"]])]
    body = {"text": "一个红色的杯子", "params": {"negative_text": "模糊", "style": "cartoon"}}
    data = post(client, body).json()["data"]
    assert (data["input"]["text"], data["input"]["translated_text"]) == ("一个红色的杯子", "a red cup")
    assert data["input"]["translated_negative_text"] == "blur"
    assert not [warning for warning in data["warnings"] if "Chinese" in warning]
    task = Task.objects.get()
    assert task.text == "一个红色的杯子"
    assert "a red cup" in task.params["text"]
    assert "杯" not in task.params["text"]
    assert task.params["negative_text"].startswith("blur")
    (path, _, sent) = translator.got[0]
    assert path == "/translate"
    assert json.loads(sent) == {
        "q": ["一个红色的杯子", "模糊"],
        "source": "auto",
        "target": "en",
        "format": "text",
        "api_key": "secret",
    }
    assert post(client, body).status_code == 202
    assert len(translator.got) == 1, "a text that was translated has the same translation"
    client.delete(f"/api/v1/image/task/{data['task_id']}")
    task.refresh_from_db()
    assert not any(task.params[name] for name in ("text", "translated_text", "translated_negative_text"))


def test_texts_of_a_batch_and_of_pictures_are_translated(client: Client, translator: Receiver) -> None:
    translator.answers = [answer(["a cat"])]
    post(client, {"texts": ["a dog", "一只猫"]}, "/api/v1/image/batch-generate")
    tasks = Task.objects.order_by("id")
    assert [(task.text, task.params["text"]) for task in tasks] == [("a dog", "a dog"), ("一只猫", "a cat")]
    assert [task.params["translated_text"] for task in tasks] == ["", "a cat"]
    Task.objects.all().delete()
    sent = {"text": "一只猫", "images": picture_files(2)}
    assert client.post("/api/v1/image/img2img", sent).status_code == 202
    assert {(task.text, task.params["text"]) for task in Task.objects.all()} == {("一只猫", "a cat")}


def picture_files(count: int) -> list[Any]:
    from django.core.files.uploadedfile import SimpleUploadedFile

    return [SimpleUploadedFile(f"{number}.png", picture_bytes((256, 256)), "image/png") for number in range(count)]


def test_other_doors_translate_too(client: Client, translator: Receiver) -> None:
    translator.answers = [answer(["a cat"])]
    sent = {"prompt": "一只猫", "width": 256, "height": 256}
    assert post(client, sent, "/sdapi/v1/txt2img").status_code == 202
    assert Task.objects.get().params["text"] == "a cat"


def test_blocked_terms_are_looked_for_in_both(client: Client, translator: Receiver) -> None:
    BlockedTerm.objects.create(term="severed head", reason="gore")
    BlockedTerm.objects.create(term="断头", reason="chinese")
    rules.reload()
    assert post(client, {"text": "断头"}).json()["data"]["errors"][0]["code"] == "policy_chinese"
    assert translator.got == []
    BlockedTerm.objects.filter(term="断头").delete()
    rules.reload()
    translator.answers = [answer(["a severed head"])]
    faults = post(client, {"text": "断头"}).json()["data"]["errors"]
    assert [(fault["field"], fault["code"]) for fault in faults] == [("text", "policy_gore")]
    assert Task.objects.count() == 0


@pytest.mark.parametrize(
    "answers",
    [
        answer(["a", "b"]),
        answer([7]),
        answer(["x"], 500),
        (200, {}, b"nonsense"),
        (200, {}, b"[]"),
        answer(["x" * 100_000]),
    ],
    ids=["count", "type", "status", "json", "form", "length"],
)
def test_a_translator_that_fails_costs_the_translation_and_not_the_task(
    client: Client, translator: Receiver, answers: Any
) -> None:
    translator.answers = [answers]
    data = post(client, {"text": "一只猫"}).json()["data"]
    assert any("was not translated" in warning for warning in data["warnings"])
    assert any("has Chinese words" in warning for warning in data["warnings"])
    assert ("translated_text" in data["input"], Task.objects.get().params["text"]) == (False, "一只猫")


def test_a_translator_that_never_ends_is_left(client: Client, hostile: HostileServer, settings: Any) -> None:
    settings.TRANSLATOR_URL = f"{hostile.url}/body"
    settings.TRANSLATOR_TIMEOUT_S = 0.3
    began = time.monotonic()
    assert post(client, {"text": "一只猫"}).status_code == 202
    assert time.monotonic() - began < 3


def test_a_user_has_a_few_places_at_the_translator(client: Client, owner: User, translator: Receiver) -> None:
    with ExitStack() as all_places:
        for _ in range(translation._PER_USER):
            all_places.enter_context(translation._slots.hold((f"user {owner.pk}", translation._PER_USER)))
        data = post(client, {"text": "一只猫"}).json()["data"]
    assert any("was not translated" in warning for warning in data["warnings"])
    assert translator.got == []


def test_what_the_model_reads_is_not_sent(client: Client, translator: Receiver) -> None:
    assert post(client, {"text": "a cat"}).status_code == 202
    ImageModel.objects.filter(name="mini").update(options={"languages": ["en", "zh"]})
    snapshot.reload()
    assert post(client, {"text": "一只猫"}).status_code == 202
    assert post(client, {"text": "一只猫", "dry_run": True}).status_code == 200
    assert translator.got == []


@pytest.mark.django_db(transaction=True)
def test_the_product_waits_for_it_on_the_event_loop(
    client: Client, translator: Receiver, live: str, key_of: Callable[..., str], owner: User
) -> None:
    translator.answers = [answer(["a cat"])]
    headers = {"Authorization": f"Bearer {key_of(owner)}"}
    done = httpx.post(f"{live}{GENERATE}", json={"text": "一只猫"}, headers=headers, trust_env=False, timeout=30)
    assert (done.status_code, done.json()["data"]["input"]["translated_text"]) == (202, "a cat")
    assert done.headers["RateLimit-Policy"]
