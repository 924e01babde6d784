"""No call makes, changes or leaves behind a key that may do more than the one that asked."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from oauth2_provider.models import get_access_token_model, get_application_model, get_refresh_token_model

from generation.accounts import signatures
from generation.accounts.models import SCOPES, ApiKey, Plan, User
from generation.accounts.oauth import key_of_token
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


def test_a_token_without_scopes_is_not_one_with_all(application: Any, owner: User) -> None:
    _, caller = token_of(application, owner, "")
    assert caller.send("GET", KEYS).status_code == 401


# ---- which scope each call needs

CALLS = {
    "generate": [
        ("POST", "/api/v1/image/generate"),
        ("POST", "/api/v1/image/img2img"),
        ("POST", "/api/v1/image/batch-generate"),
        ("POST", "/api/v1/image/task/x/cancel"),
        ("POST", "/api/v1/image/task/x/retry"),
        ("POST", "/api/v1/image/batch/x/cancel"),
        ("POST", "/v1/images/generations"),
        ("POST", "/sdapi/v1/txt2img"),
        ("POST", "/sdapi/v1/interrupt"),
        ("POST", "/sdapi/v1/options"),
    ],
    "read": [
        ("GET", "/api/v1/image/tasks"),
        ("GET", "/api/v1/image/task/x"),
        ("GET", "/api/v1/image/task/x/image"),
        ("GET", "/api/v1/image/task/x/events"),
        ("POST", "/api/v1/image/task/x/events/token"),
        ("GET", "/api/v1/image/batch/x"),
        ("GET", "/api/v1/image/batch/x/download"),
        ("POST", "/api/v1/image/download"),
        ("GET", "/api/v1/usage"),
        ("GET", "/api/v1/lora"),
        ("GET", "/v1/models"),
        ("GET", "/sdapi/v1/progress"),
        ("GET", "/sdapi/v1/options"),
    ],
    "delete": [("DELETE", "/api/v1/image/task/x")],
    "lora": [
        ("POST", "/api/v1/lora/upload"),
        ("DELETE", "/api/v1/lora/x/1"),
        ("POST", "/api/v1/lora/x/1/enable"),
        ("POST", "/api/v1/lora/x/1/disable"),
    ],
    "webhooks": [
        ("GET", "/api/v1/webhooks"),
        ("POST", "/api/v1/webhooks"),
        ("PATCH", "/api/v1/webhooks/1"),
        ("DELETE", "/api/v1/webhooks/1"),
        ("POST", "/api/v1/webhooks/1/rotate"),
        ("GET", "/api/v1/webhooks/1/deliveries"),
    ],
    "keys": [
        ("GET", KEYS),
        ("POST", KEYS),
        ("DELETE", f"{KEYS}/x"),
        ("POST", f"{KEYS}/x/rotate"),
    ],
}


@pytest.mark.parametrize("scope", CALLS)
def test_a_call_needs_its_scope_and_no_other(owner: User, plans: dict[str, Plan], scope: str) -> None:
    _, all_but_this = made(owner, scopes=[name for name in SCOPES if name != scope])
    _, only_this = made(owner, scopes=[scope])
    for method, path in CALLS[scope]:
        assert all_but_this.send(method, path).status_code == 403, (method, path)
        assert only_this.send(method, path).status_code not in (401, 403), (method, path)


# ---- the property: whatever is called, by whatever, nothing has more rights than what called


@dataclass(frozen=True)
class Held:
    """What a row allows, read from its columns without the code under test."""

    user: int
    scopes: frozenset[str]
    side: int
    marked: bool
    profile: int | None
    must_sign: bool
    ends: float
    terms: frozenset[int]
    application: int | None

    @classmethod
    def of(cls, key: ApiKey) -> "Held":
        plan = key.plan or key.user.team.plan  # type: ignore[union-attr]
        terms = BlockedTerm.objects.filter(api_key__in=[key.pk, *key.terms_of]).values_list("pk", flat=True)
        return cls(
            user=key.user_id,
            scopes=frozenset(key.scopes or SCOPES),
            side=plan.max_side,
            marked=bool(plan.watermark),
            profile=key.profile_id,
            must_sign=key.must_sign,
            ends=key.expires_at.timestamp() if key.expires_at else float("inf"),
            terms=frozenset(terms),
            application=key.made_through_id,
        )

    def within(self, other: "Held") -> bool:
        return (
            self.user == other.user
            and self.scopes <= other.scopes
            and self.side <= other.side
            and self.marked >= other.marked
            and other.profile in (None, self.profile)
            and self.must_sign >= other.must_sign
            and self.ends <= other.ends
            and self.terms >= other.terms
            and other.application in (None, self.application)
        )


@dataclass
class World:
    """Credentials by what they hold, and what may be asked of them."""

    held: list[tuple[Caller, str]]

    def rights_of(self, place: int) -> Held:
        """Of a token: those of its application's row, with the token's scopes and end."""
        caller, kind = self.held[place]
        if kind == "key":
            return Held.of(ApiKey.objects.select_related("user__team__plan", "plan").get(prefix=prefix_of(caller)))
        key = key_of_token(caller.text)
        row = Held.of(key)
        return Held(**{**vars(row), "application": key.pk})


def prefix_of(caller: Caller) -> str:
    return caller.text.split("_")[1]


_fields = st.fixed_dictionaries(
    {},
    optional={
        "scopes": st.lists(st.sampled_from(sorted(SCOPES)), unique=True),
        "expires_in_days": st.none() | st.integers(1, 3650),
        "must_sign": st.booleans(),
    },
)
_bounds = st.fixed_dictionaries(
    {
        "scopes": st.lists(st.sampled_from(["generate", "read", "lora"]), unique=True).map(lambda some: [*some, "keys"])
        | st.just([]),
        "plan": st.sampled_from([None, "paid", "small"]),
        "profile": st.booleans(),
        "must_sign": st.booleans(),
        "hours": st.none() | st.integers(1, 100),
        "term": st.booleans(),
    }
)
_calls = st.lists(
    st.tuples(st.sampled_from(["create", "rotate", "revoke", "patch"]), st.integers(0, 20), st.integers(0, 20), _fields),
    min_size=1,
    max_size=8,
)


@pytest.fixture
def world(owner: User, plans: dict[str, Plan], application: Any) -> Callable[[list[dict[str, Any]], str], World]:
    profile = PolicyProfile.objects.get(name="child-safe")

    def make(bounds: list[dict[str, Any]], token_scope: str) -> World:
        held = []
        for bound in bounds:
            ends = timezone.now() + timedelta(hours=bound["hours"]) if bound["hours"] else None
            fields = {"plan": plans[bound["plan"]] if bound["plan"] else None, "expires_at": ends}
            fields |= {"profile": profile if bound["profile"] else None}
            row, caller = made(owner, scopes=bound["scopes"], must_sign=bound["must_sign"], **fields)
            if bound["term"]:
                BlockedTerm.objects.create(term="spider", api_key=row)
            held.append((caller, "key"))
        held.append((token_of(application, owner, token_scope)[1], "token"))
        return World(held)

    return make


@given(
    bounds=st.lists(_bounds, min_size=1, max_size=3),
    token_scope=st.sampled_from(["keys", "keys generate", "read"]),
    calls=_calls,
)
@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_call_leaves_more_rights_than_there_were(
    world: Callable[[list[dict[str, Any]], str], World],
    bounds: list[dict[str, Any]],
    token_scope: str,
    calls: list[tuple[str, int, int, dict[str, Any]]],
) -> None:
    with undone():
        here = world(bounds, token_scope)
        for what, asking, target, asked in calls:
            one_call(here, what, asking % len(here.held), target % len(here.held), asked)


def one_call(here: World, what: str, asking: int, target: int, asked: dict[str, Any]) -> None:
    """Ask, and compare each key that there is with what there was."""
    keys = ApiKey.objects.filter(oauth_client="").select_related("user__team__plan", "plan")
    before = {key.pk: Held.of(key) for key in keys}
    caller = here.held[asking][0]
    prefix = prefix_of(here.held[target][0]) if here.held[target][1] == "key" else "x"
    method, path, body = {
        "create": ("POST", KEYS, asked),
        "rotate": ("POST", f"{KEYS}/{prefix}/rotate", {}),
        "revoke": ("DELETE", f"{KEYS}/{prefix}", {}),
        "patch": ("PATCH", f"{KEYS}/{prefix}", asked),
    }[what]
    rights, of_target = here.rights_of(asking), here.rights_of(target)
    answer = caller.send(method, path, body)
    for key in keys.all():
        limit = before.get(key.pk, rights)
        assert Held.of(key).within(limit), (what, answer.content)
    if answer.status_code == 201:
        here.held.append((caller_of(answer), "key"))
        if what == "rotate":
            assert here.rights_of(len(here.held) - 1).within(of_target)


@contextmanager
def undone() -> Iterator[None]:
    """What the block writes is taken back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
