"""Blocked terms in every spelling, the bounds of profiles, and what is recorded of a refusal."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from fixtures.rows import finish
from generation.accounts.models import User
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel, Lora, Style
from generation.catalogue.tests.test_loras import lora_bytes
from generation.policy import rules
from generation.policy.models import BlockedTerm, PolicyProfile, PolicyRefusal
from generation.tasks.models import Status, Task
from generation.tests.graphs import text_graph

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


# ---- every text that ends up in a prompt or a picture


def marked(**mark: Any) -> dict[str, Any]:
    return {"postprocess": {"watermark": mark}}


TEXTS: dict[str, tuple[dict[str, Any], str]] = {
    "negative prompt": ({"negative_text": "blo-od"}, "params.negative_text"),
    "keywords": ({"style_keywords": ["red", "bl", "ood"]}, "params.style_keywords"),
    "text and keyword": ({"style_keywords": ["lady"]}, "text"),
    "text watermark": (marked(kind="text", text="bl00d"), "params.postprocess.watermark"),
    "QR code": (marked(kind="qr", text="https://x.example/blood"), "params.postprocess.watermark"),
    "address in a QR code": (marked(kind="qr", text="https://x.example/%62lood"), "params.postprocess.watermark"),
    "two watermarks": (
        {"postprocess": {"watermark": [{"kind": "text", "text": "blo"}, {"kind": "text", "text": "od"}]}},
        "params.postprocess.watermark",
    ),
}


@pytest.mark.parametrize("where", TEXTS)
def test_a_term_is_found_wherever_it_ends_up(client: Client, where: str) -> None:
    params, field = TEXTS[where]
    answer = post(client, "something naked", **params)
    assert answer.status_code == 400, answer.content
    assert list(faults(answer)) == [field]
    answer = client.post(
        "/api/v1/image/batch-generate",
        json.dumps({"texts": ["a star", "something naked"], "params": params}),
        content_type="application/json",
    )
    assert list(faults(answer)) == ["texts[1]" if field == "text" else field]
    assert Task.objects.count() == 0


@pytest.mark.parametrize(
    "text", ["(naked:1.2) lady", "((naked:1):.5) [lady]", "(bl:1)ood", "(b:1)(l:1)(o:2)(o:3)(d: 4 )"]
)
@pytest.mark.parametrize("field", ["text", "negative_text", "style_keywords"])
def test_a_term_is_found_as_the_engine_reads_it(client: Client, text: str, field: str) -> None:
    """Weights are read away."""
    fields: dict[str, Any] = {field: [text] if field == "style_keywords" else text}
    response = post(client, text) if field == "text" else post(client, "a star", **fields)
    assert response.status_code == 400
    assert response.json()["data"]["errors"][0]["code"].startswith("policy_")


def test_a_lora_is_found_by_its_name(client: Client, owner: User) -> None:
    facts = {"base_family": ImageModel.objects.get(name="mini").family, "state": Lora.State.ACTIVE}
    Lora.objects.create(name="blood", owner=owner, sha256="0" * 64, source="x", **facts)
    answer = post(client, "x", loras=["blood"])
    assert faults(answer) == {"params.loras": "policy_violence"}
    body = {"prompt": "x <lora:blood:1>", "steps": 4}
    assert client.post("/sdapi/v1/txt2img", json.dumps(body), content_type="application/json").status_code == 400
    body = {"prompt": "bl<lora:blood:1>ood", "steps": 4}
    assert client.post("/sdapi/v1/txt2img", json.dumps(body), content_type="application/json").status_code == 400


@pytest.mark.parametrize(
    ("name", "file", "words"), [("blo-od", "x", ""), ("ink", "blood.safetensors", ""), ("ink", "x", "naked, blo od")]
)
def test_an_upload_of_a_lora_is_refused_by_its_words(client: Client, name: str, file: str, words: str) -> None:
    data = SimpleUploadedFile(file, lora_bytes(4, **{"modelspec.trigger_phrase": words}))
    answer = client.post("/api/v1/lora/upload", {"name": name, "file": data})
    assert answer.status_code == 400, answer.content
    assert set(faults(answer).values()) == {"policy_violence"}
    assert Lora.objects.count() == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/generations", {"prompt": "b.lood", "model": "mini"}),
        ("/v1/images/generations", {"prompt": "x", "model": "mini", "negative_prompt": "b l o o d"}),
        ("/v1/images/generations", {"prompt": "x", "model": "mini+blood:0.5"}),
        ("/api/v2/generate/async", {"prompt": "bl-ood"}),
        ("/api/v2/generate/async", {"prompt": "x ### bl ood"}),
        ("/prompt", {"prompt": text_graph("bl00d")}),
        ("/sdapi/v1/txt2img", {"prompt": "bl\u3164ood"}),
        ("/sdapi/v1/txt2img", {"prompt": "x", "negative_prompt": "BL00D"}),
    ],
)
def test_the_compatible_doors_are_no_way_round(client: Client, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json.dumps(body), content_type="application/json")
    assert answer.status_code == 400
    assert Task.objects.count() == 0


def test_words_of_a_style_are_the_operators(client: Client) -> None:
    Style.objects.filter(name="cartoon").update(prompt="{text} lady, no blood", negative_prompt="blood, naked lady")
    ImageModel.objects.filter(name="mini").update(options={"style_prompts": True})
    snapshot.reload()
    assert post(client, "a tall", style="cartoon").status_code == 202
    assert faults(post(client, "a naked", style="cartoon")) == {"text": "policy_adult"}
    task = finish(Task.objects.get())
    assert client.post(f"/api/v1/image/task/{task.public_id}/retry").status_code == 202


def test_a_retry_is_checked_for_all_texts(client: Client, make_task: Callable[..., Task]) -> None:
    for change in ({"negative_text": "blood"}, marked(kind="text", text="blood"), {"text": "circle, blo od"}):
        task = make_task(Status.FAILED)
        task.params |= change
        task.save(update_fields=["params"])
        answer = client.post(f"/api/v1/image/task/{task.public_id}/retry")
        assert (answer.status_code, faults(answer)) == (400, {"text": "policy_violence"}), change


CHINESE = ("一只熊拿着枪", "熊和手 枪", "喝酒的熊", "流-血的狗")


def test_the_child_safe_profile_refuses_weapons_in_both_languages(
    client: Client, client_of: Callable[..., Client], owner: User
) -> None:
    bound = client_of(owner, profile=PolicyProfile.objects.get(name="child-safe"))
    for text in ("a bear", "一只熊", "two cats and a ball", "a rabbit in a castle", "可爱的熊猫在树上"):
        assert post(bound, text, style="cartoon").status_code == 202, text
    for text in ("a bear with a gun", "a bear with a g-u-n", "a naked princess", "dog bl00d", *CHINESE):
        assert post(bound, text, style="cartoon").status_code == 400, text
    assert faults(post(bound, "a bear", style="cartoon", **marked(kind="text", text="naked gun"))) == {
        "params.postprocess.watermark": "policy_child_safe"
    }
    assert post(client, "a bear with a gun").status_code == 202, "for keys of the profile only"
