"""Blocked terms in every spelling, the bounds of profiles, and what is recorded of a refusal."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from generation.accounts.models import User
from generation.policy import rules
from generation.policy.models import BlockedTerm, PolicyProfile, PolicyRefusal
from generation.tasks.models import Task

GENERATE = "/api/v1/image/generate"


def post(client: Client, text: str, path: str = GENERATE, **params: Any) -> Any:
    body = {"texts": ["a star", text]} if "batch" in path else {"text": text}
    return client.post(path, json.dumps({**body, "params": params}), content_type="application/json")


def faults(response: Any) -> dict[str, str]:
    return {fault["field"]: fault["code"] for fault in response.json()["data"]["errors"]}


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    for term, reason in (("blood", "violence"), ("血腥", "violence"), ("кровь", "violence"), ("naked lady", "adult")):
        BlockedTerm.objects.create(term=term, reason=reason)
    rules.reload()
    return client_of(owner)


@pytest.mark.parametrize(
    "text",
    [
        "blood",
        "much BLOOD here",
        "ｂｌｏｏｄ",
        "b l o o d",
        "b.l-o_o d",
        "bl\u200bood",
        "b\u0301lood",
        "bl00d",
        "блоod, ьloоd and blооd",
        "two bloods",
        "画面血腥",
        "血 腥",
        "КРОВЬ на снегу",
    ],
)
def test_a_blocked_term_is_found_in_every_spelling(client: Client, text: str) -> None:
    response = post(client, text)
    assert (response.status_code, faults(response)) == (400, {"text": "policy_violence"})
    assert Task.objects.count() == 0


@pytest.mark.parametrize("text", ["bloodhound", "a red circle", "红色圆形", "naked tree, lady bird", "class assembly"])
def test_other_words_are_allowed(client: Client, text: str) -> None:
    assert post(client, text).status_code == 202


def test_a_refusal_is_recorded_without_the_text(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        post(client, "the naked lady of Shalott")
    row = PolicyRefusal.objects.get()
    assert (row.reason, row.rule) == ("policy_adult", f"term:{BlockedTerm.objects.get(reason='adult').pk}")
    assert "Shalott" not in caplog.text
    assert "Shalott" not in json.dumps(list(PolicyRefusal.objects.values()), default=str)


def test_keywords_and_every_text_of_a_batch_are_checked(client: Client) -> None:
    assert faults(post(client, "x", style_keywords=["blood"])) == {"params.style_keywords": "policy_violence"}
    assert faults(post(client, "blood", "/api/v1/image/batch-generate")) == {"texts[1]": "policy_violence"}


def test_terms_of_a_profile_apply_to_its_keys_only(client: Client, client_of: Any, owner: User) -> None:
    profile = PolicyProfile.objects.create(name="kids", title="Children")
    bound = client_of(owner, profile=profile)
    BlockedTerm.objects.create(term="spider", reason="scary", profile=profile)
    rules.reload()
    assert post(client, "a spider").status_code == 202
    assert faults(post(bound, "a spider")) == {"text": "policy_scary"}


def test_a_child_safe_key_is_bound_to_styles_models_and_subjects(client: Client, client_of: Any, owner: User) -> None:
    bounds = {"child_safe_styles": True, "model_names": ["other"], "subjects": ["cat", "猫"]}
    profile = PolicyProfile.objects.create(name="kids", title="Children", **bounds)
    bound = client_of(owner, profile=profile)
    rules.reload()
    expected = {"params.style": "policy_style", "params.model": "policy_model", "text": "policy_subject"}
    assert faults(post(bound, "a car", style="photorealistic")) == expected
    PolicyProfile.objects.update(model_names=["mini"])
    rules.reload()
    assert post(bound, "two cats", style="cartoon").status_code == 202
    assert post(bound, "可爱的猫", style="cartoon").status_code == 202
    assert faults(post(bound, "two cats")) == {"params.style": "policy_style"}
