"""What of a request will not count is said in the answer to its submission."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from generation.accounts.models import User
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel

Ask = Callable[..., list[str]]


@pytest.fixture
def ask(client_of: Callable[..., Client], owner: User, able_model: ImageModel) -> Ask:
    """Warnings of a request."""
    client = client_of(owner)

    def post(text: str = "a cat", **params: Any) -> list[str]:
        body = {"text": text, "params": {"resolution": "256x256", **params}}
        answer = client.post("/api/v1/image/generate", body, content_type="application/json")
        assert answer.status_code == 202, answer.content
        return answer.json()["data"]["warnings"]

    return post


def test_the_words_of_a_style_that_the_model_does_not_get_are_named(ask: Ask) -> None:
    (warning,) = ask(style="cartoon", model="mini")
    assert warning == "model mini does not know the words of the style cartoon: only its tone was applied"
    assert ask(style="cartoon", model="able") == []


@pytest.mark.parametrize(
    ("model", "text", "said"),
    [
        ("able", "一只猫 in the garden", "the prompt has Chinese words, and model able reads only English"),
        ("able", "кошка", "Cyrillic"),
        ("able", "ねこ", "Japanese"),
        ("able", "a café in Zürich – 5 °C, 😀", ""),
        ("mini", "一只红色的猫", ""),
        ("mini", "кошка", "model mini reads only English and Chinese"),
    ],
)
def test_words_that_a_model_was_not_trained_on_are_named(ask: Ask, model: str, text: str, said: str) -> None:
    warnings = ask(text, model=model)
    assert len(warnings) == bool(said)
    assert all(said in warning for warning in warnings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a photo of a leather handbag, studio light", "leather, handbag"),
        ("two red cats and tiny boxes with a hat", ""),
        ("a red t-shirt on a white background, 红色的猫", ""),
        (" ".join(f"word{chr(97 + number) * 3}" for number in range(9)), "wordaaa"),
    ],
)
def test_words_that_a_model_of_few_words_has_never_read_are_named(ask: Ask, text: str, said: str) -> None:
    warnings = ask(text, model="mini")
    assert len(warnings) == bool(said)
    assert all(f"model mini knows none of these words, they hardly count: {said}" in one for one in warnings)


def test_an_operator_says_what_a_model_reads(ask: Ask, able_model: ImageModel) -> None:
    able_model.options = {**able_model.options, "languages": ["en", "ru"]}
    able_model.save()
    snapshot.reload()
    assert ask("кошка", model="able") == []
    assert "negative prompt has Chinese" in ask("a cat", model="able", negative_text="模糊")[0]


@pytest.mark.parametrize(
    ("params", "said"), [({"format": "jpeg"}, True), ({"format": "webp"}, False),
                         ({"postprocess": {"format": "jpeg", "metadata": "minimal"}}, False)],
)  # fmt: skip
def test_prompts_that_a_jpeg_cannot_hold_are_announced(ask: Ask, params: dict[str, Any], said: bool) -> None:
    warnings = ask("😀" * 9000, negative_text="😀" * 9000, model="mini", **params)
    assert any("a JPEG holds 64 KB" in warning for warning in warnings) is said
