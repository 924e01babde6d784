"""A browser that knows a key as HTTP Basic credentials sends them whoever asks: pages of other sites change nothing."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from fixtures.rows import picture_bytes
from generation.accounts.models import User
from generation.catalogue.models import ImageModel
from generation.tasks.models import Task

pytestmark = pytest.mark.attacks
OTHERS = (
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://["},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://testserver"},
)


@pytest.fixture
def browser(owner: User, key_of: Callable[..., str], able_model: ImageModel) -> Callable[..., Client]:
    basic = "Basic " + b64encode(f"me:{key_of(owner)}".encode()).decode()
    return lambda **more: Client(headers={"host": "testserver", "authorization": basic, **more})


@pytest.mark.parametrize("said", OTHERS)
@pytest.mark.parametrize(
    "path", ["/api/v1/image/generate", "/v1/images/edits", "/upload/image", "/interrupt", "/sdapi/v1/interrupt"]
)
def test_a_page_of_another_site_changes_nothing(browser: Any, path: str, said: dict[str, str]) -> None:
    form = {"text": "a cat", "prompt": "a cat", "image": SimpleUploadedFile("a.png", picture_bytes((64, 64)))}
    assert browser(**said).post(path, form).status_code == 403
    assert Task.objects.count() == 0


@pytest.mark.parametrize("said", [{}, {"origin": "http://testserver"}, {"sec-fetch-site": "same-origin"}])
def test_programs_and_our_own_pages_do(browser: Any, said: dict[str, str]) -> None:
    assert browser(**said).post("/api/v1/image/generate", {"text": "a cat"}).status_code == 202
    assert browser(**{**said, "origin": "https://evil.example"}).get("/api/v1/models").status_code == 200


def test_what_a_page_sends_itself_needs_no_origin(owner: User, key_of: Callable[..., str], able_model: Any) -> None:
    """A header that the page had to know is the page's own."""
    client = Client(headers={"authorization": f"Bearer {key_of(owner)}", "origin": "https://partner.example"})
    assert client.post("/api/v1/image/generate", {"text": "a cat"}).status_code == 202
