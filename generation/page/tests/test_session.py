"""The page's session: a key is given once, stays out of the browser, and other sites can't use the cookie."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from generation.accounts.models import ApiKey, User

GENERATE = "/api/v1/image/generate"


class Browser:
    """One that has opened the page: it checks CSRF tokens, and knows its own."""

    def __init__(self) -> None:
        self.client = Client(enforce_csrf_checks=True)
        self.page = self.client.get("/")

    @property
    def token(self) -> dict[str, str]:
        return {"x-csrftoken": self.client.cookies["csrftoken"].value}

    def log_in(self, key: str, **headers: str) -> Any:
        sent = headers or self.token
        return self.client.post("/session", {"key": key}, content_type="application/json", headers=sent)


@pytest.fixture
def key(owner: User, key_of: Callable[..., str]) -> str:
    return key_of(owner)


@pytest.fixture
def browser(key: str) -> Browser:
    made = Browser()
    assert made.log_in(key).status_code == 200
    return made


def test_the_cookie_acts_for_the_key_and_scripts_can_not_read_it(browser: Browser, key: str) -> None:
    cookie = browser.client.cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert browser.client.get("/api/v1/models").status_code == 200
    made = browser.client.post(GENERATE, {"text": "a star"}, content_type="application/json", headers=browser.token)
    assert made.status_code == 202
    assert 'data-session="yes"' in browser.client.get("/").content.decode()


def test_no_secret_is_in_the_session(browser: Browser, key: str) -> None:
    kept = str(Session.objects.get().get_decoded())
    row = ApiKey.objects.get()
    assert row.prefix in kept
    assert key not in kept
    assert key.rpartition("_")[2] not in kept
    assert row.digest not in kept, "it signs requests"


def test_the_session_id_changes_at_login_and_logout(key: str) -> None:
    browser = Browser()
    browser.client.session.save()
    seen = [browser.log_in(key) and browser.client.cookies["sessionid"].value]
    seen.append(browser.log_in(key) and browser.client.cookies["sessionid"].value)
    assert browser.client.delete("/session", headers=browser.token).status_code == 204
    assert len(set(seen)) == 2
    for old in seen:
        thief = Client()
        thief.cookies["sessionid"] = old
        assert thief.get("/api/v1/models").status_code == 401
    assert browser.client.get("/api/v1/models").status_code == 401


def test_a_planted_session_id_is_not_taken_over(key: str) -> None:
    browser = Browser()
    browser.client.cookies["sessionid"] = "planted" * 4
    assert browser.log_in(key).status_code == 200
    assert browser.client.cookies["sessionid"].value != "planted" * 4


@pytest.mark.parametrize("headers", [{}, {"x-csrftoken": "x" * 64}, {"origin": "https://evil.example"}])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_another_site_can_not_act_with_the_cookie(browser: Browser, headers: dict[str, str], kind: str) -> None:
    sent = {**(browser.token if "origin" in headers else {}), **headers}
    made = browser.client.post(GENERATE, '{"text": "a star"}', content_type=kind, headers=sent)
    assert made.status_code == 403, made.content
    assert browser.client.get("/api/v1/image/tasks").json()["data"]["items"] == []


def test_another_site_can_not_log_a_browser_in_or_out(browser: Browser, key: str) -> None:
    assert browser.log_in(key, **{"x-csrftoken": "guess"}).status_code == 403
    assert browser.client.delete("/session").status_code == 403
    assert browser.client.get("/api/v1/models").status_code == 200


@pytest.mark.parametrize(
    "end",
    [
        lambda row: ApiKey.objects.filter(pk=row.pk).update(revoked_at=timezone.now()),
        lambda row: ApiKey.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1)),
        lambda row: ApiKey.objects.filter(pk=row.pk).update(must_sign=True),
        lambda row: ApiKey.objects.filter(pk=row.pk).update(digest="0" * 64),
        lambda row: User.objects.filter(pk=row.user_id).delete(),
        lambda row: row.delete(),
    ],
    ids=["revoked", "expired", "must sign", "another secret", "user gone", "deleted"],
)
def test_the_session_ends_with_its_key(browser: Browser, settings: Any, end: Callable[[ApiKey], Any]) -> None:
    settings.KEY_KEPT_S = 0
    end(ApiKey.objects.get())
    assert browser.client.get("/api/v1/models").status_code == 401
    assert 'data-session="no"' in browser.client.get("/").content.decode()


def test_the_session_is_bounded_as_its_key_is(owner: User, key_of: Callable[..., str]) -> None:
    browser = Browser()
    assert browser.log_in(key_of(owner, scopes=["read"])).status_code == 200
    made = browser.client.post(GENERATE, {"text": "a star"}, content_type="application/json", headers=browser.token)
    assert made.status_code == 403


def test_a_key_that_signs_gets_no_session(owner: User, key_of: Callable[..., str]) -> None:
    browser = Browser()
    assert browser.log_in(key_of(owner, must_sign=True)).status_code == 401
    assert browser.client.get("/api/v1/models").status_code == 401


def test_the_cookie_counts_at_the_api_only(browser: Browser) -> None:
    for path in ("/v1/models", "/sdapi/v1/options"):
        assert browser.client.get(path).status_code == 401


@pytest.mark.parametrize("body", ["", "null", "[]", '{"key": 1}', '{"key": ["x"]}', "[" * 4000, "x" * 100_000])
def test_guesses_are_counted_and_nonsense_is_refused(seeded: None, body: str) -> None:
    browser = Browser()
    sent: dict[str, Any] = {"content_type": "application/json", "headers": browser.token}
    assert browser.client.post("/session", body, **sent).status_code == 401
    codes = [browser.log_in("igx_0000000000_guess").status_code for _ in range(40)]
    assert (codes[0], codes[-1]) == (401, 429)


def test_the_page_and_its_scripts_keep_no_key(browser: Browser) -> None:
    from generation.page.tests.test_page import SCRIPTS

    for script in SCRIPTS.values():
        assert 'setItem("key"' not in script
        assert "Authorization" not in script
    assert browser.page["Cache-Control"] == "private, no-store"
