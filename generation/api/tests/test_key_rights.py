"""No call makes, changes or leaves behind a key that may do more than the one that asked."""

import base64
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import get_access_token_model, get_application_model, get_refresh_token_model

from generation.accounts import signatures
from generation.accounts.models import ApiKey, Plan, User
from generation.policy import rules
from generation.policy.models import BlockedTerm, PolicyProfile

KEYS = "/api/v1/keys"
GENERATE = "/api/v1/image/generate"


@dataclass(frozen=True)
class Caller:
    """A credential: a key's text, or an OAuth token."""

    text: str
    signs: bool = False

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body or {}).encode()
        headers = self._signed(method, path, data) if self.signs else {"authorization": f"Bearer {self.text}"}
        return Client().generic(method, path, data, content_type="application/json", headers=headers)

    def _signed(self, method: str, path: str, body: bytes) -> dict[str, str]:
        _, prefix, secret = self.text.split("_", 2)
        stamp, nonce = str(int(time.time())), secrets.token_hex(8)
        text = signatures.canonical(method, path, "", stamp, nonce, body)
        proof = signatures.signature(ApiKey.digest_of(secret), text)
        return {"x-key-id": prefix, "x-timestamp": stamp, "x-nonce": nonce, "x-signature": proof}


def made(user: User, **fields: Any) -> tuple[ApiKey, Caller]:
    row, text = ApiKey.make(user, **fields)
    return row, Caller(text, signs=row.must_sign)


def caller_of(answer: Any) -> Caller:
    data = answer.json()["data"]
    return Caller(data["api_key"], signs=data["must_sign"])


def works(caller: Caller) -> bool:
    return bool(caller.send("GET", "/api/v1/styles").status_code != 401)


@pytest.fixture
def plans(seeded: None) -> dict[str, Plan]:
    """The team's plan, and one that is smaller and marks its pictures."""
    Plan.objects.update(requests_per_second=100_000)
    mark = {"kind": "text", "text": "preview"}
    small = Plan.objects.create(name="small", title="Small", max_side=256, max_images=1, watermark=mark)
    Plan.objects.filter(pk=small.pk).update(requests_per_second=100_000)
    return {"paid": Plan.objects.get(name="paid"), "small": small}


@pytest.fixture
def application(owner: User) -> Any:
    model = get_application_model()
    return model.objects.create(
        name="Shop plugin",
        user=owner,
        client_type=model.CLIENT_CONFIDENTIAL,
        authorization_grant_type=model.GRANT_AUTHORIZATION_CODE,
        client_secret="a client secret",
    )


def token_of(application: Any, user: User | None, scope: str, *, refreshed_by: str = "") -> tuple[Any, Caller]:
    """An access token of an hour, with a refresh token where one is named."""
    text = secrets.token_urlsafe(20)
    row = get_access_token_model()(
        user=user, application=application, scope=scope, expires=timezone.now() + timedelta(hours=1)
    )
    row._raw_token = text
    row.save()
    if refreshed_by:
        refresh = get_refresh_token_model()(user=user, application=application, access_token=row)
        refresh._raw_token, refresh.token_family = refreshed_by, "0a1b2c3d-0000-4000-8000-000000000000"
        refresh.save()
    return row, Caller(text)


# ---- a key that rotates another


def above_each_other(owner: User, plans: dict[str, Plan]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By what: the asking key's bound, and a sibling that lacks it."""
    profile = PolicyProfile.objects.get(name="child-safe")
    soon = timezone.now() + timedelta(minutes=10)
    return {
        "scopes": ({"scopes": ["keys"]}, {}),
        "profile": ({"profile": profile}, {}),
        "plan": ({"plan": plans["small"]}, {"plan": plans["paid"]}),
        "the team's plan": ({"plan": plans["small"]}, {}),
        "expires_at": ({"expires_at": soon}, {}),
        "later": ({"expires_at": soon}, {"expires_at": soon + timedelta(days=1)}),
        "must_sign": ({"must_sign": True}, {}),
    }


@pytest.mark.parametrize("what", ["scopes", "profile", "plan", "the team's plan", "expires_at", "later", "must_sign"])
def test_a_key_neither_replaces_nor_ends_one_above_itself(owner: User, plans: dict[str, Plan], what: str) -> None:
    lower, higher = above_each_other(owner, plans)[what]
    _, asking = made(owner, **lower)
    sibling, _ = made(owner, **higher)
    before = ApiKey.objects.count()
    for method, path in (("POST", f"{KEYS}/{sibling.prefix}/rotate"), ("DELETE", f"{KEYS}/{sibling.prefix}")):
        answer = asking.send(method, path)
        assert answer.status_code == 403, (method, answer.content)
        assert "api_key" not in answer.content.decode()
    sibling.refresh_from_db()
    assert (ApiKey.objects.count(), sibling.revoked_at) == (before, None)
    assert sibling.expires_at == higher.get("expires_at")


@pytest.mark.parametrize("what", ["scopes", "profile", "plan", "the team's plan", "expires_at", "later", "must_sign"])
def test_a_key_replaces_one_below_itself_and_that_stays_below(owner: User, plans: dict[str, Plan], what: str) -> None:
    lower, higher = above_each_other(owner, plans)[what]
    _, asking = made(owner, **higher)
    sibling, _ = made(owner, **lower)
    answer = asking.send("POST", f"{KEYS}/{sibling.prefix}/rotate")
    assert answer.status_code == 201, answer.content
    new = ApiKey.objects.get(prefix=answer.json()["data"]["prefix"])
    for name, value in lower.items():
        assert getattr(new, name) == value


def test_every_key_replaces_itself(owner: User, plans: dict[str, Plan]) -> None:
    for lower, _ in above_each_other(owner, plans).values():
        row, asking = made(owner, **{"scopes": ["keys"], **lower})
        assert asking.send("POST", f"{KEYS}/{row.prefix}/rotate").status_code == 201


def test_an_ended_key_is_not_brought_back(owner: User) -> None:
    _, asking = made(owner)
    ended, _ = made(owner, expires_at=timezone.now() - timedelta(seconds=1))
    assert asking.send("POST", f"{KEYS}/{ended.prefix}/rotate").status_code == 404


def test_replacing_for_ever_is_bounded(owner: User, plans: dict[str, Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generation.api.new_keys.MAX_KEYS", 2)
    row, asking = made(owner)
    answers = [asking.send("POST", f"{KEYS}/{row.prefix}/rotate", {"grace_seconds": 600}).status_code for _ in range(5)]
    assert answers == [201, 201, 201, 403, 403]


# ---- signing


def test_must_sign_is_not_dropped(owner: User) -> None:
    row, signer = made(owner, must_sign=True)
    assert signer.send("POST", KEYS, {"must_sign": False}).status_code == 403
    child = signer.send("POST", KEYS, {})
    assert child.json()["data"]["must_sign"]
    assert not works(Caller(child.json()["data"]["api_key"], signs=False)), "the key was taken without a signature"
    replaced = signer.send("POST", f"{KEYS}/{row.prefix}/rotate").json()["data"]
    assert replaced["must_sign"]


# ---- terms that are blocked for one key


def test_terms_of_a_key_hold_for_those_that_come_from_it(owner: User) -> None:
    row, asking = made(owner)
    BlockedTerm.objects.create(term="spider", api_key=row)
    rules.reload()
    child = caller_of(asking.send("POST", KEYS, {}))
    grandchild = caller_of(child.send("POST", KEYS, {}))
    replaced = caller_of(child.send("POST", f"{KEYS}/{row.prefix}/rotate"))
    for caller in (asking, child, grandchild, replaced):
        assert caller.send("POST", GENERATE, {"text": "a spider"}).status_code == 400
    free, _ = made(owner)
    assert asking.send("POST", f"{KEYS}/{free.prefix}/rotate").status_code == 403


# ---- applications


def test_a_token_makes_no_key_that_outlives_it(application: Any, owner: User) -> None:
    token, caller = token_of(application, owner, "keys generate")
    for asked in ({"scopes": ["generate"]}, {"scopes": ["generate"], "expires_in_days": 3650}):
        answer = caller.send("POST", KEYS, asked)
        assert answer.status_code == 201, answer.content
        assert ApiKey.objects.get(prefix=answer.json()["data"]["prefix"]).expires_at <= token.expires
    above, _ = made(owner)
    assert caller.send("POST", f"{KEYS}/{above.prefix}/rotate").status_code == 403


def revoke_by_row(application: Any, owner: User) -> None:
    row = ApiKey.objects.get(oauth_client=application.client_id)
    row.revoked_at = timezone.now()
    row.save(update_fields=["revoked_at"])


def revoke_by_update(application: Any, owner: User) -> None:
    ApiKey.objects.filter(oauth_client=application.client_id).update(revoked_at=timezone.now())


def delete_row(application: Any, owner: User) -> None:
    ApiKey.objects.get(oauth_client=application.client_id).delete()


def delete_application(application: Any, owner: User) -> None:
    application.delete()


def give_back_refresh_token(application: Any, owner: User) -> None:
    form = {"token": "a refresh token", "client_id": application.client_id, "client_secret": "a client secret"}
    assert Client().post("/oauth/revoke_token/", form).status_code == 200


ENDS = (revoke_by_row, revoke_by_update, delete_row, delete_application, give_back_refresh_token)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_what_came_from_an_application_ends_with_it(
    application: Any, owner: User, end: Callable[[Any, User], None]
) -> None:
    _, token = token_of(application, owner, "keys generate read", refreshed_by="a refresh token")
    child = caller_of(token.send("POST", KEYS, {}))
    grandchild = caller_of(child.send("POST", KEYS, {}))
    prefix = child.text.split("_")[1]
    replaced = caller_of(child.send("POST", f"{KEYS}/{prefix}/rotate", {"grace_seconds": 600}))
    everything = (token, child, grandchild, replaced)
    assert all(map(works, everything))
    end(application, owner)
    assert not any(map(works, everything))
    refreshed = refresh(application, "a refresh token")
    assert refreshed.status_code in (400, 401), refreshed.content


def refresh(application: Any, text: str) -> Any:
    basic = base64.b64encode(f"{application.client_id}:a client secret".encode()).decode()
    form = {"grant_type": "refresh_token", "refresh_token": text}
    return Client().post("/oauth/token/", form, headers={"authorization": f"Basic {basic}"})


def test_a_key_made_through_an_application_lives_on_when_the_grant_is_refreshed(application: Any, owner: User) -> None:
    _, token = token_of(application, owner, "keys read", refreshed_by="first")
    child = caller_of(token.send("POST", KEYS, {}))
    assert refresh(application, "first").status_code == 200
    assert works(child)
    assert not works(token), "its refresh token was used"


def test_a_used_refresh_token_that_comes_again_ends_the_grant(application: Any, owner: User) -> None:
    _, token = token_of(application, owner, "keys read", refreshed_by="first")
    child = caller_of(token.send("POST", KEYS, {}))
    second = refresh(application, "first").json()
    assert works(Caller(second["access_token"]))
    assert refresh(application, "first").status_code == 400
    assert not works(Caller(second["access_token"]))
    assert not works(child)
    assert refresh(application, second["refresh_token"]).status_code == 400


def test_a_kept_answer_is_not_given_to_a_token_with_less(application: Any, owner: User) -> None:
    """All tokens of an application share a row of keys, and with it the Idempotency-Keys."""
    _, wide = token_of(application, owner, "keys generate read")
    _, narrow = token_of(application, owner, "keys")

    def ask(caller: Caller) -> Any:
        headers = {"authorization": f"Bearer {caller.text}", "idempotency-key": "one"}
        return Client().post(KEYS, "{}", content_type="application/json", headers=headers)

    first, again = ask(wide), ask(wide)
    assert (first.status_code, again.json()["data"]["api_key"]) == (201, first.json()["data"]["api_key"])
    other = ask(narrow)
    assert (other.status_code, "igx_" in other.content.decode()) == (422, False)


def test_a_token_without_scopes_is_not_one_with_all(application: Any, owner: User) -> None:
    _, caller = token_of(application, owner, "")
    assert caller.send("GET", KEYS).status_code == 401
