"""What an answer says about itself: nobody keeps what is private, no page runs a script that is not ours."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.contrib.admin import site
from django.test import Client

from fixtures.rows import finish
from generation.accounts.models import ApiKey, User
from generation.tasks.models import Task

PRIVATE = "private, no-store"
INLINE = re.compile(r"<script(?![^>]*(?:\bsrc=|application/json))[^>]*>|\son[a-z]+=[\"']|javascript:", re.I)


def policy(answer: Any) -> dict[str, str]:
    parts = [part.strip().partition(" ") for part in answer["Content-Security-Policy"].split(";")]
    return {name: values for name, _, values in parts}


@pytest.fixture
def staff(owner: User) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    return client


def test_every_page_has_a_policy_and_needs_no_script_within(staff: Client, owner: User, make_task: Any) -> None:
    finish(make_task())
    ApiKey.make(owner)
    pages = ["/", "/accounts/login/", "/admin/", "/api/docs", "/no/such/page", "/admin/generation/task/queues/"]
    pages += ["/admin/password_change/", "/oauth/authorize/?client_id=none"]
    for model in site._registry:
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        row = model._default_manager.order_by().first()
        pages += [base, f"{base}add/", *([f"{base}{row.pk}/change/"] if row else [])]
    shown = 0
    for page in pages:
        answer = staff.get(page)
        if answer.status_code in (302, 403):
            continue
        shown += 1
        found = policy(answer)
        assert found["default-src"] == "'self'", page
        assert found["frame-ancestors"] == "'none'", page
        assert found["base-uri"] == "'none'", page
        assert found["object-src"] == "'none'", page
        assert "'unsafe-inline'" not in found.get("script-src", ""), page
        assert "http" not in found.get("script-src", ""), page
        assert INLINE.findall(answer.content.decode()) == [], page
    assert shown > 40


def test_pages_without_a_login_are_strictest() -> None:
    for page in ("/", "/accounts/login/"):
        assert "unsafe" not in Client().get(page)["Content-Security-Policy"]
    assert policy(Client().get("/healthz")) == {"default-src": "'none'", "frame-ancestors": "'none'"}


def test_nobody_keeps_what_is_private(
    client_of: Callable[..., Client], staff: Client, owner: User, make_task: Callable[..., Task]
) -> None:
    client, task = client_of(owner), finish(make_task())
    made = client.post("/api/v1/keys", {}, content_type="application/json")
    hook = client.post("/api/v1/webhooks", {"url": "https://x.example/"}, content_type="application/json")
    assert (made.status_code, hook.status_code) == (201, 201)
    answers = [made, hook, client.get("/v1/models"), client.get("/sdapi/v1/options"), Client().get("/api/v1/models")]
    answers += [
        client.get(f"/api/v1/{name}") for name in ("models", "usage", "keys", "webhooks", "image/tasks", "none")
    ]
    answers += [client.get(f"/api/v1/image/task/{task.public_id}{rest}") for rest in ("", "/events")]
    answers += [
        staff.get(page) for page in ("/admin/", "/admin/generation/apikey/", "/", "/accounts/login/", "/admin/x/")
    ]
    answers += [Client().get(page) for page in ("/admin/", "/healthz/workers", "/metrics", "/readyz")]
    answers += [Client().post("/oauth/token/", {"grant_type": "client_credentials"}), Client().get("/files/x")]
    for answer in answers:
        kept = answer.get("Cache-Control", "")
        assert "no-store" in kept, (answer.request["PATH_INFO"], kept)
        assert "public" not in kept
    assert client.get(f"/api/v1/image/task/{task.public_id}/image")["Cache-Control"].startswith("private, ")


def test_what_is_the_same_for_everybody_may_be_kept(live: str) -> None:
    assert Client().get("/api/schema")["Cache-Control"].startswith("public")
    browser = Client()
    for _ in range(2):  # the second time Django sends no cookie with its token
        script = browser.get("/api/docs?script=")
        assert "X-CSRF" in script.content.decode()
        assert script["Cache-Control"] == PRIVATE, "a token of the browser is in it"
    static = httpx.get(f"{live}/static/generation/studio/app.js", trust_env=False)
    assert "no-store" not in static.headers.get("cache-control", "")


def test_a_signed_picture_is_kept_by_its_browser_only(make_task: Any, client_of: Any, owner: User) -> None:
    task = finish(make_task())
    [output] = client_of(owner).get(f"/api/v1/image/task/{task.public_id}").json()["data"]["outputs"]
    answer = Client().get(output["url"].removeprefix("http://testserver"))
    assert (answer.status_code, answer["Cache-Control"]) == (200, "private, max-age=31536000, immutable")


@pytest.mark.parametrize("secure", [True, False])
def test_cookies_go_over_tls_only_where_it_is_there(settings: Any, owner: User, secure: bool) -> None:
    """With BEHIND_TLS; never to scripts (but the token that they send), never with requests of other sites."""
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = secure
    User.objects.create_superuser("root", password="a long password")
    client = Client()
    before = client.get("/admin/login/").cookies
    planted = client.session
    planted["x"] = "planted by somebody who knows the id"
    planted.save()
    old = planted.session_key
    client.cookies["sessionid"] = str(old)
    after = client.post("/admin/login/", {"username": "root", "password": "a long password"}).cookies
    assert after["sessionid"].value != old, "a new id at each login"
    for cookie in (before["csrftoken"], after["sessionid"], after["csrftoken"]):
        assert (bool(cookie["secure"]), cookie["samesite"]) == (secure, "Lax")
    assert after["sessionid"]["httponly"]


@pytest.mark.parametrize("tls", ["0", "1"])
def test_settings_bind_the_cookies_to_tls(tls: str) -> None:
    code = "from imagegenx_site import settings as s; print(int(s.SESSION_COOKIE_SECURE), int(s.CSRF_COOKIE_SECURE))"
    env = os.environ | {"BEHIND_TLS": tls}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [tls, tls]


def test_strangers_learn_no_names_and_numbers(staff: Client, settings: Any) -> None:
    stranger = Client(REMOTE_ADDR="203.0.113.7")
    assert stranger.get("/healthz/workers").json().keys() == {"status"}
    assert stranger.get("/readyz").json() == {"status": "ok"}
    assert stranger.get("/metrics").status_code == 403
    staff.defaults["REMOTE_ADDR"] = "203.0.113.7"
    assert "workers" in staff.get("/healthz/workers").json()
    settings.METRICS_TOKEN = "secret"
    assert Client().get("/healthz/workers").json().keys() == {"status"}, "a token was set: it is asked for here too"
    right = Client(headers={"authorization": "Bearer secret"})
    assert "workers" in right.get("/healthz/workers").json()


def test_guessing_the_token_of_metrics_is_slowed_down(db: None, settings: Any) -> None:
    settings.METRICS_TOKEN = "secret"
    client = Client(headers={"authorization": "Bearer guess"})
    codes = [client.get("/metrics").status_code for _ in range(40)]
    assert (codes[0], codes[-1]) == (403, 429)
