"""Sign in with the account, its second factor, and the identity provider: who gets in, and who does not."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyotp
import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connections
from django.test import Client

from generation.accounts import second_factor
from generation.accounts.models import ApiKey, ExternalLogin, SecondFactor, User
from generation.page import oidc
from generation.page.tests import oidc_server
from generation.page.tests.oidc_server import Provider
from generation.page.tests.test_session import Browser
from imagegenx_site import redis_clients
from imagegenx_site.errors import Conflict

PASSWORD = "a long password"
FACTOR = "/session/factor"


@pytest.fixture(autouse=True)
def quick_hashes(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.KEY_KEPT_S = 0


@pytest.fixture
def person(owner: User) -> User:
    owner.set_password(PASSWORD)
    owner.email = "owner@shop.example"
    owner.save()
    return owner


def sign_in(browser: Browser, **changes: Any) -> Any:
    body = {"username": "owner", "password": PASSWORD, **changes}
    return browser.client.post("/session", body, content_type="application/json", headers=browser.token)


def call(browser: Browser, method: str, **body: Any) -> Any:
    return browser.client.generic(
        method, FACTOR, json.dumps(body), content_type="application/json", headers=browser.token
    )


def code_of(secret: str, off: int = 0) -> str:
    return pyotp.TOTP(secret).generate_otp(int(time.time()) // second_factor.STEP_S + off)


def with_factor(user: User) -> tuple[str, list[str]]:
    """The secret and the recovery codes of a factor that is on; the present code was used up."""
    secret, _ = second_factor.begin(user)
    return secret, second_factor.confirm(user, code_of(secret, -1))


def is_in(browser: Browser) -> bool:
    return bool(browser.client.get("/api/v1/account").status_code == 200)


def test_the_account_signs_in_and_acts_with_all_its_rights(person: User) -> None:
    browser = Browser()
    assert sign_in(browser).json()["data"] == {"account": True}
    account = browser.client.get("/api/v1/account").json()["data"]
    assert (account["user"], account["team"]) == ("owner", "shop")
    made = browser.client.post("/api/v1/keys", {"name": "x"}, content_type="application/json", headers=browser.token)
    assert made.status_code == 201
    page = browser.client.get("/").content.decode()
    assert 'data-session="yes" data-account="yes"' in page
    assert browser.client.post("/api/v1/keys", {}, content_type="application/json").status_code == 403, "no CSRF token"


def test_all_sessions_of_an_account_act_through_one_key_that_ends_them(person: User) -> None:
    browsers = [Browser(), Browser()]
    assert [sign_in(browser).status_code for browser in browsers] == [200, 200]
    [row] = ApiKey.objects.filter(of_page=True)
    revoked = browsers[0].client.delete(f"/api/v1/keys/{row.prefix}", headers=browsers[0].token)
    assert revoked.status_code == 200
    assert [is_in(browser) for browser in browsers] == [False, False]
    assert sign_in(browsers[0]).status_code == 200
    assert is_in(browsers[0])


def test_a_session_of_an_account_ends_with_its_password_and_its_logout(person: User) -> None:
    here, there = Browser(), Browser()
    sign_in(here), sign_in(there)
    assert here.client.delete("/session", headers=here.token).status_code == 204
    assert (is_in(here), is_in(there)) == (False, True)
    person.set_password("another long password")
    person.save()
    assert not is_in(there)
    sign_in(here, password="another long password")
    User.objects.filter(pk=person.pk).update(is_active=False)
    assert not is_in(here)


def test_a_browser_that_is_given_away_with_a_key_is_signed_out(person: User, key_of: Callable[..., str]) -> None:
    """The account opens the page for children: nothing of it may stay in the browser."""
    person.is_staff = person.is_superuser = True
    person.save()
    browser = Browser()
    sign_in(browser)
    assert browser.client.get("/admin/").status_code == 200
    assert browser.log_in(key_of(person, scopes=["read"])).status_code == 200
    assert browser.client.get("/admin/").status_code == 302
    assert browser.client.get("/api/v1/keys").status_code == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "wrong"},
        {"username": "nobody"},
        {"username": "ow\0ner"},
        {"username": "\ud800"},
        {"password": "\ud800"},
        {"password": 7},
        {"username": None},
    ],
)
def test_others_stay_out(person: User, changes: dict[str, Any]) -> None:
    browser = Browser()
    assert sign_in(browser, **changes).status_code == 401
    assert not is_in(browser)


def test_guesses_are_slowed_down_and_another_site_can_not_sign_in(person: User) -> None:
    browser = Browser()
    assert [sign_in(browser, password=f"guess {n}").status_code for n in range(7)] == [401] * 5 + [429] * 2
    refused = sign_in(browser)
    assert refused.status_code == 429
    assert refused["Retry-After"]
    sent = browser.client.post("/session", {"username": "owner", "password": PASSWORD}, content_type="application/json")
    assert sent.status_code == 403


def test_who_has_no_team_is_told_so(person: User) -> None:
    person.team = None
    person.save()
    answer = sign_in(Browser())
    assert answer.status_code == 403
    assert "team" in answer.json()["message"]


# ---- the second factor


def test_a_factor_is_set_up_asked_for_and_switched_off(person: User) -> None:
    browser = Browser()
    sign_in(browser)
    assert call(browser, "GET").json()["data"] == {"on": False, "codes_left": 0}
    assert call(browser, "POST", password="wrong").status_code == 400
    begun = call(browser, "POST", password=PASSWORD).json()["data"]
    assert begun["qr"].startswith("data:image/svg+xml")
    assert sign_in(Browser()).status_code == 200, "it does not count yet"
    assert call(browser, "PUT", code="000000").status_code == 400
    shown = code_of(begun["secret"], -1)
    typed = f"{shown[:3]} {shown[3:]}"  # as apps part it
    codes = call(browser, "PUT", code=typed).json()["data"]["recovery_codes"]
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    kept = SecondFactor.objects.get()
    assert begun["secret"].encode() not in bytes(kept.secret)
    assert not set(codes) & set(kept.recovery)
    assert call(browser, "POST", password=PASSWORD).status_code == 409

    other = Browser()
    needed = sign_in(other)
    assert (needed.status_code, needed.json()["data"]["errors"][0]["code"]) == (401, "code_needed")
    assert sign_in(other, code="000000").status_code == 401
    assert sign_in(other, password="wrong", code=code_of(begun["secret"])).status_code == 401, "not without the other"
    assert not is_in(other)
    assert sign_in(other, code=code_of(begun["secret"])).status_code == 200
    assert call(other, "DELETE", code=codes[0]).status_code == 204
    assert sign_in(Browser()).status_code == 200


def test_a_code_is_taken_once_and_a_recovery_code_too(person: User) -> None:
    secret, codes = with_factor(person)
    assert sign_in(Browser(), code=code_of(secret, -1)).status_code == 401, "it confirmed the factor"
    code = code_of(secret)
    assert [sign_in(Browser(), code=code).status_code for _ in range(2)] == [200, 401]
    assert [sign_in(Browser(), code=codes[0].upper().replace("-", " ")).status_code for _ in range(2)] == [200, 401]
    assert second_factor.codes_left(person) == second_factor.RECOVERY_CODES - 1


@pytest.mark.django_db(transaction=True)
def test_of_many_who_send_a_code_at_once_one_comes_in(person: User) -> None:
    secret, codes = with_factor(person)

    def attempt(code: str) -> bool:
        try:
            return second_factor.verify(person, code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, [code_of(secret)] * 8)) == 1
        assert sum(pool.map(attempt, [codes[3]] * 8)) == 1


def test_codes_can_not_be_guessed_from_many_addresses(person: User) -> None:
    with_factor(person)
    browser = Browser()
    answers = [
        browser.client.post(
            "/session",
            {"username": "owner", "password": PASSWORD, "code": f"{n:06}"},
            content_type="application/json",
            headers=browser.token,
            REMOTE_ADDR=f"198.51.100.{n}",
        ).status_code
        for n in range(12)
    ]
    assert answers[-1] == 429
    assert answers.count(401) == 10
    call_command("unlock", "owner", verbosity=0)
    assert not list(redis_clients.text_client().scan_iter("rl:fail:code:*owner*"))


def test_codes_that_would_confirm_a_factor_can_not_be_guessed(person: User) -> None:
    browser = Browser()
    assert sign_in(browser).status_code == 200
    second_factor.begin(person)
    answers = [call(browser, "PUT", code=f"{n:06}").status_code for n in range(8)]
    assert (answers.count(400), answers[-1]) == (5, 429)


@pytest.mark.django_db(transaction=True)
def test_a_factor_that_is_confirmed_and_ended_at_once_is_one_of_both(person: User) -> None:
    def do(work: Callable[[], Any]) -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    for _ in range(5):
        secret, _ = second_factor.begin(person)
        confirming = [partial(second_factor.confirm, person, code_of(secret, off)) for off in (-1, 0, 1)]
        with ThreadPoolExecutor(5) as pool:
            *told, _, _ = pool.map(do, [*confirming, *[partial(second_factor.switch_off, person)] * 2])
        assert sum(bool(codes) for codes in told) <= 1, "recovery codes are shown once"
        second_factor.switch_off(person)


@pytest.mark.django_db(transaction=True)
def test_only_a_secret_whose_code_was_seen_counts(person: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another setting-up between the code and its confirmation waits, and is refused."""
    secret, _ = second_factor.begin(person)
    take, pool = second_factor._take_code, ThreadPoolExecutor(1)

    def again() -> str:
        try:
            return second_factor.begin(person)[0]
        except Conflict:
            return "refused"
        finally:
            connections.close_all()

    def taken(user: User, code: str) -> bool:
        right = take(user, code)
        others.append(pool.submit(again))
        wait(others, timeout=0.3)
        return right

    others: list[Future[str]] = []
    monkeypatch.setattr(second_factor, "_take_code", taken)
    assert second_factor.confirm(person, code_of(secret, -1))
    assert others[0].result(timeout=5) == "refused"
    monkeypatch.undo()
    assert second_factor.verify(person, code_of(secret))


def test_a_key_is_not_enough_to_change_the_factor(person: User, key_of: Callable[..., str]) -> None:
    browser = Browser()
    browser.log_in(key_of(person))
    assert [call(browser, method, password=PASSWORD).status_code for method in ("GET", "POST", "DELETE")] == [403] * 3
    sent = Client(headers={"authorization": f"Bearer {key_of(person)}"}).get(FACTOR)
    assert sent.status_code == 403


@pytest.mark.parametrize("path", ["/admin/login/", "/accounts/login/"])
def test_the_other_logins_ask_for_the_code_too(person: User, path: str) -> None:
    person.is_staff = True
    person.save()
    secret, _ = with_factor(person)
    assert 'name="code"' in Client().get(path).content.decode()

    def log_in(**code: str) -> Any:
        return Client().post(path, {"username": "owner", "password": PASSWORD, **code})

    for wrong in ({}, {"code": "000000"}, {"code": code_of(secret, -9)}):
        refused = log_in(**wrong)
        assert refused.status_code == 200
        assert "sessionid" not in refused.cookies
    assert "code" in refused.content.decode()
    code = code_of(secret)
    assert [log_in(code=code).status_code for _ in range(2)] == [302, 200]


def test_staff_switch_off_no_factor_of_a_superuser(person: User) -> None:
    boss = User.objects.create_superuser("root", password=PASSWORD)
    with_factor(boss), with_factor(person)
    clerk = User.objects.create_user("clerk", password=PASSWORD, is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=("change_user", "view_user")))
    client = Client()
    client.force_login(clerk)
    chosen = {"action": "switch_off_factor", "_selected_action": [boss.pk, person.pk]}
    client.post("/admin/generation/user/", chosen)
    assert list(SecondFactor.objects.values_list("user__username", flat=True)) == ["root"]


def test_who_has_lost_the_device_is_helped_by_the_operator(person: User) -> None:
    with_factor(person)
    call_command("second_factor_off", "owner")
    assert sign_in(Browser()).status_code == 200


# ---- the identity provider


@pytest.fixture
def at(settings: Any, person: User) -> Iterator[Provider]:
    with oidc_server.provider() as running:
        settings.OIDC_ISSUER, settings.OIDC_NAME = running.issuer, "Shop login"
        settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = oidc_server.CLIENT, oidc_server.SECRET
        running.person = {"sub": "1234", "email": "Owner@Shop.example", "email_verified": True}
        yield running


def through(browser: Browser) -> Any:
    """The way of a browser to the provider and back."""
    there = browser.client.get("/accounts/oidc/")
    back = urlsplit(httpx.get(there["Location"]).headers["Location"])
    return browser.client.get(f"{back.path}?{back.query}")


def test_a_verified_address_of_one_user_links_the_account(at: Provider, person: User) -> None:
    browser = Browser()
    assert 'data-provider="Shop login"' in browser.page.content.decode()
    assert through(browser).status_code == 302
    assert is_in(browser)
    assert ExternalLogin.objects.get().user == person
    at.person = {"sub": "1234"}  # known from now on, whatever becomes of the address
    again = Browser()
    assert through(again).status_code == 302
    assert is_in(again)


@pytest.mark.parametrize(
    "said",
    [
        {"sub": "1", "email": "owner@shop.example"},
        {"sub": "1", "email": "owner@shop.example", "email_verified": False},
        {"sub": "1", "email": "owner@shop.example", "email_verified": "true"},
        {"sub": "1", "email": "someone@else.example", "email_verified": True},
        {"sub": "1", "email": "", "email_verified": True},
        {"sub": "1"},
        {"email": "owner@shop.example", "email_verified": True},
    ],
)
def test_strangers_stay_out(at: Provider, said: dict[str, Any]) -> None:
    at.person = said
    browser = Browser()
    assert through(browser).status_code == 403
    assert not is_in(browser)
    assert not ExternalLogin.objects.exists()


def test_an_address_of_two_users_or_of_another_person_links_none(at: Provider, make_user: Callable[..., User]) -> None:
    twin = make_user("twin")
    User.objects.filter(pk=twin.pk).update(email="OWNER@shop.example")
    assert through(Browser()).status_code == 403
    twin.delete()
    assert through(Browser()).status_code == 302
    at.person = {**at.person, "sub": "5678"}  # the address was given to a new person there
    assert through(Browser()).status_code == 403


@pytest.mark.parametrize(
    "changes",
    [{"aud": "another"}, {"aud": "another", "azp": oidc_server.CLIENT}, {"iss": "https://evil.example"},
     {"nonce": "replayed"}, {"exp": 1}],
)  # fmt: skip
def test_a_token_that_is_not_for_this_login_is_refused(at: Provider, changes: dict[str, Any]) -> None:
    at.spoil = lambda claims: claims.update(changes)
    browser = Browser()
    assert through(browser).status_code == 403
    assert not is_in(browser)


def test_a_token_of_another_key_and_a_stolen_code_are_refused(at: Provider) -> None:
    at.signing_key = oidc_server.RSAKey.generate_key(2048, {"kid": "one"})
    assert through(Browser()).status_code == 403
    at.signing_key = None
    browser = Browser()
    back = urlsplit(httpx.get(browser.client.get("/accounts/oidc/")["Location"]).headers["Location"])
    victim = Browser()
    assert victim.client.get(f"{back.path}?{back.query}").status_code == 403, "another browser began it"
    assert victim.client.get("/accounts/oidc/callback?error=access_denied&state=x").status_code == 403
    assert not is_in(victim)
    assert browser.client.get(f"{back.path}?{back.query}").status_code == 302
    assert browser.client.get(f"{back.path}?{back.query}").status_code == 403, "once"


def test_who_comes_from_the_provider_owes_the_code(at: Provider, person: User) -> None:
    secret, _ = with_factor(person)
    browser = Browser()
    assert through(browser).status_code == 302
    assert not is_in(browser)
    assert 'data-session="code"' in browser.client.get("/").content.decode()
    sent: dict[str, Any] = {"content_type": "application/json", "headers": browser.token}
    assert browser.client.post("/session", {"code": "000000"}, **sent).status_code == 401
    assert browser.client.post("/session", {"code": code_of(secret)}, **sent).status_code == 200
    assert is_in(browser)


def test_a_code_without_a_login_opens_nothing(person: User) -> None:
    secret, _ = with_factor(person)
    browser = Browser()
    sent: dict[str, Any] = {"content_type": "application/json", "headers": browser.token}
    assert browser.client.post("/session", {"code": code_of(secret)}, **sent).status_code == 401


def test_a_provider_that_hangs_holds_two_threads_at_most(at: Provider) -> None:
    claim = ("provider", oidc._AT_ONCE)
    with oidc._waiting.hold(claim), oidc._waiting.hold(claim):
        refused = Browser().client.get("/accounts/oidc/")
    assert (refused.status_code, refused["Retry-After"]) == (503, "3")
    assert "slow" in refused.content.decode()
    assert through(Browser()).status_code == 302


def test_without_a_provider_there_is_none(person: User) -> None:
    assert Client().get("/accounts/oidc/").status_code == 404
    assert 'data-provider=""' in Browser().page.content.decode()
