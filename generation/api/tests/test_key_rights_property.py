"""Whatever is called, by key, signed request or token: nothing has more rights afterwards than what called."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from generation.accounts.models import SCOPES, ApiKey, Plan, User
from generation.accounts.oauth import key_of_token
from generation.api.tests.test_key_rights import KEYS, Caller, application, caller_of, made, plans, token_of  # noqa: F401
from generation.policy.models import BlockedTerm, PolicyProfile


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
        return replace(Held.of(key), application=key.pk)


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
_place = st.integers(0, 20)
_calls = st.lists(
    st.tuples(
        st.sampled_from(["create", "rotate", "revoke", "patch"]), st.integers(0, 20), st.integers(0, 20), _fields
    ),
    min_size=1,
    max_size=6,
)


MakeWorld = Callable[[list[dict[str, Any]], str], World]


@pytest.fixture
def world(owner: User, plans: dict[str, Plan], application: Any) -> MakeWorld:  # noqa: F811
    profile = PolicyProfile.objects.get(name="child-safe")

    def make(bounds: list[dict[str, Any]], token_scope: str) -> World:
        held = []
        for bound in bounds:
            ends = timezone.now() + timedelta(hours=bound["hours"]) if bound["hours"] else None
            fields: dict[str, Any] = {"plan": plans[bound["plan"]] if bound["plan"] else None, "expires_at": ends}
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
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_call_leaves_more_rights_than_there_were(
    world: MakeWorld,
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
