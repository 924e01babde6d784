"""The page on which a user allows an application takes whatever a browser sends, and gives away what it showed."""

import html
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from oauth2_provider.models import get_application_model, get_grant_model

from generation.accounts.models import User

pytestmark = pytest.mark.attacks
ASKED = {
    "response_type": "code", "redirect_uri": "https://app.example/cb", "scope": "read", "state": "s",
    "code_challenge": "c" * 43, "code_challenge_method": "S256",
}  # fmt: skip


@pytest.fixture
def asked(owner: User) -> dict[str, str]:
    application = get_application_model().objects.create(
        name="<script>", user=owner, client_type="confidential", authorization_grant_type="authorization-code",
        redirect_uris="https://app.example/cb",
    )  # fmt: skip
    return ASKED | {"client_id": application.client_id}


def allow(user: User, asked: dict[str, str], **changes: str) -> Any:
    client, address = Client(), f"/oauth/authorize/?{urlencode(asked)}"
    client.force_login(user)
    page = client.get(address).content.decode()
    fields = re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)
    form = {name: html.unescape(value) for name, value in fields}
    return client.post(address, form | {"allow": "Authorize"} | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "another"}, {"client_id": "x" * 5000}, {"nonce": "x" * 300}, {"code_challenge": "x" * 300},
        {"code_challenge_method": "x" * 300}, {"nonce": "\0"}, {"state": "\0"}, {"redirect_uri": "https://evil.example/"},
    ],
)  # fmt: skip
def test_a_changed_form_is_refused(owner: User, asked: dict[str, str], changes: dict[str, str]) -> None:
    assert allow(owner, asked, **changes).status_code == 400
    assert get_grant_model().objects.count() == 0


def test_the_page_is_shown_in_no_frame_and_makes_a_code_once(owner: User, asked: dict[str, str]) -> None:
    client = Client()
    client.force_login(owner)
    page = client.get("/oauth/authorize/", asked)
    assert (page["X-Frame-Options"], "<script>" in page.content.decode()) == ("DENY", False)
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]
    answer = allow(owner, asked)
    assert (answer.status_code, answer["Location"][:27]) == (302, "https://app.example/cb?code")
    assert get_grant_model().objects.get().scope == "read"
