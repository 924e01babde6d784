"""Whoever writes an address, a method or a body wrong reads what is right."""

from collections.abc import Callable

import pytest
from django.test import Client

from generation.accounts.models import User

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/api/v1/image/generate/", "Leave out the slash at its end: /api/v1/image/generate."),
        ("/v1/models/", "Leave out the slash at its end: /v1/models."),
        ("/generate/", "Leave out the slash at its end: /generate."),
        ("/api/v1/image/genrate", "Did you mean /api/v1/image/generate?"),
        ("/api/v1/style", "Did you mean /api/v1/styles?"),
        ("/api/nothing/like/it", "See /api/docs."),
    ],
)
def test_a_wrong_address_names_the_right_one(path: str, hint: str) -> None:
    answer = Client().get(path)
    said = answer.json()
    message = said["error"]["message"] if "error" in said else said["message"]  # each door in its own form
    assert (answer.status_code, hint in message) == (404, True), message


def test_a_wrong_method_names_the_right_ones(client_of: Callable[..., Client], owner: User) -> None:
    client = client_of(owner)
    answer = client.get("/api/v1/image/generate")
    assert (answer.status_code, answer["Allow"]) == (405, "POST, OPTIONS")
    assert answer.json()["message"] == "GET is not for this address. It takes POST."
    assert client.put("/api/v1/keys").json()["message"].endswith("It takes GET and POST.")


@pytest.mark.parametrize("body", ["{", "[]", '"x"'])
def test_a_fault_of_the_whole_body_says_so(client_of: Callable[..., Client], owner: User, body: str) -> None:
    answer = client_of(owner).post("/api/v1/image/generate", body, content_type="application/json")
    assert answer.json()["message"] == "1 fault(s) in the request: the body. See data.errors."


def test_a_refused_choice_names_all(client_of: Callable[..., Client], owner: User) -> None:
    answer = client_of(owner).post(
        "/api/v1/webhooks", {"url": "https://a.example", "events": ["x"]}, "application/json"
    )
    (fault,) = answer.json()["data"]["errors"]
    assert (fault["code"], "task.succeeded, task.failed" in fault["message"]) == ("not_allowed", True)
