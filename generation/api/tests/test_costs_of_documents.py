"""Documents that are dear to read or check are refused before they are, in the usual envelope."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from generation.accounts.models import User
from imagegenx_site.errors import MAX_FAULTS

GENERATE, IMG2IMG = "/api/v1/image/generate", "/api/v1/image/img2img"
DOORS = [GENERATE, "/v1/images/generations", "/sdapi/v1/txt2img", "/api/v1/keys"]
DEAR = {
    "many values": lambda: "[" + "{}," * 3_000_000 + "1]",
    "many small objects": lambda: json.dumps({"text": "x", "params": [{}] * 6000}),
    "a long text": lambda: json.dumps({"text": "x" * (8 << 20), "prompt": "x" * (8 << 20), "name": "x" * (8 << 20)}),
    "a long name": lambda: json.dumps({"x" * (8 << 20): 1}),
    "nested": lambda: '{"a":' * 200 + "1" + "}" * 200,
}


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    made = client_of(owner)
    made.get("/api/v1/models")  # what is imported by the first request
    return made


def send(client: Client, path: str, text: str) -> Any:
    return client.generic("POST", path, text, content_type="application/json")


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("what", DEAR)
def test_a_dear_document_is_refused_cheaply(client: Client, path: str, what: str) -> None:
    text = DEAR[what]()
    began = time.process_time()
    response = send(client, path, text)
    assert response.status_code == 400
    assert time.process_time() - began < 0.5
    assert len(response.content) < 20_000


def test_an_answer_names_the_first_faults_and_how_many_there_are(client: Client) -> None:
    response = send(client, GENERATE, json.dumps({"text": "x", **{f"field{n}": 1 for n in range(4000)}}))
    body = response.json()
    assert (response.status_code, len(body["data"]["errors"])) == (400, MAX_FAULTS)
    assert body["message"].startswith("4000 fault(s)")
    assert len(response.content) < 20_000


@pytest.mark.parametrize("path", [IMG2IMG, "/v1/images/edits", "/api/v1/lora/upload"])
def test_too_many_fields_or_files_are_an_envelope(client: Client, path: str) -> None:
    fields = client.post(path, {f"f{n}": "1" for n in range(1001)})
    files = client.post(path, {f"f{n}": SimpleUploadedFile("x", b"x") for n in range(101)})
    for response in (fields, files):
        assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
        assert "too_many_fields" in response.content.decode()


def test_a_long_text_of_a_form_is_refused(client: Client) -> None:
    began = time.process_time()
    response = client.post(IMG2IMG, {"text": "x" * (8 << 20), "params": "[" + "1," * (4 << 20)})
    assert (response.status_code, response.json()["data"]["errors"][0]["code"]) == (400, "too_large")
    assert time.process_time() - began < 1


def test_a_host_that_is_none_of_ours_is_an_envelope(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["localhost"]
    response = client.get("/api/v1/models", headers={"host": "evil.example"})
    assert (response.status_code, response.json()["data"]["errors"][0]["code"]) == (400, "unknown_host")
    assert client.get("/accounts/login/", headers={"host": "evil.example"}).status_code == 400


def test_base64_of_single_characters_costs_no_more_than_other(client: Client) -> None:
    began = time.process_time()
    response = send(client, IMG2IMG, json.dumps({"text": "x", "image": "A " * (8 << 20)}))
    assert response.status_code == 400
    assert time.process_time() - began < 1


DEAR_TEXTS = {
    "signs of eighteen letters": "\ufdfa" * 9990,
    "brackets": "(" * 9990,
    "weights": "(a:1.1)" * 1400,
    "words": "a cat " * 1600,
}


@pytest.mark.parametrize("what", DEAR_TEXTS)
def test_the_texts_of_a_batch_have_a_bound_together(client: Client, able_model: Any, what: str) -> None:
    """The policy reads each in several ways: a body of 1 MB took 12 s of a dry run, which no quota counts."""
    texts = [DEAR_TEXTS[what] + str(number) for number in range(34)]
    began = time.process_time()
    response = send(client, "/api/v1/image/batch-generate", json.dumps({"texts": texts, "dry_run": True}))
    assert (response.status_code, time.process_time() - began < 1) == (400, True), response.content[:300]


def test_marks_upon_marks_are_sorted_no_further(client: Client, able_model: Any) -> None:
    texts = ["a" + "\u0301\u0316" * 4500 + str(number) for number in range(10)]
    began = time.process_time()
    response = send(client, "/api/v1/image/batch-generate", json.dumps({"texts": texts, "dry_run": True}))
    assert (response.status_code, time.process_time() - began < 0.5) == (200, True), response.content[:300]


def test_texts_as_they_are_written_pass(client: Client, able_model: Any) -> None:
    texts = ["a cat, ½ of it in ㎞, ﬁne light, 一只猫 " * 20 + str(number) for number in range(100)]
    body = json.dumps({"texts": texts, "dry_run": True})
    assert send(client, "/api/v1/image/batch-generate", body).status_code == 200
