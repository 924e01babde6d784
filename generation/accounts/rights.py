"""Who may do what, decided in one place.

A key may what its scopes and the role of its user allow (`scopes_of`), on what is its user's or the team's (`may_see`,
`may_change`). Its rights are a value that can be compared (`Rights`): a key makes, replaces and ends only what is not
above itself.

    role      scopes            things of team-mates
    owner     all               sees and changes them; changes the members and their roles
    member    all but team      sees and changes them
    viewer    read              sees them
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from generation.accounts.models import SCOPES, ApiKey, Plan, Role, User

# Limits of a plan by which way leads up. What is not named here has no order: it must be equal.
_MORE_IS_ABOVE: Final = (
    "paid",
    "max_side",
    "max_images",
    "super_resolution",
    "lora_upload",
    "requests_per_second",
    "concurrent_tasks",
    "daily_images",
    "daily_megapixel_steps",
    "queue_seconds",
)
_LESS_IS_ABOVE: Final = ("priority_cap", "priority_default")
_OF_ROLE: Final = {
    Role.OWNER: frozenset(SCOPES),
    Role.MEMBER: frozenset(SCOPES) - {"team"},
    Role.VIEWER: frozenset({"read"}),
}


def scopes_of(key: ApiKey) -> frozenset[str]:
    """What the key may do: its own scopes, as far as the role of its user goes."""
    return frozenset(key.scopes or SCOPES) & _OF_ROLE[Role(key.user.role)]


def may_see(owner: User, user: User) -> bool:
    """Whether the user sees what belongs to `owner`: the own, and the team's."""
    return owner.pk == user.pk or is_team_mate(owner.team_id, user)


def may_change(owner: User, user: User) -> bool:
    """Whether the user changes and deletes what belongs to `owner`; a viewer nothing."""
    return may_see(owner, user) and user.role != Role.VIEWER


def is_team_mate(team_id: int | None, user: User) -> bool:
    """Whether the user belongs to the team."""
    return team_id is not None and team_id == user.team_id


@dataclass(frozen=True)
class Rights:
    """The rights of one key. `scopes`: all of them where the key is bound to none. `terms`: the keys whose blocked
    terms hold for it. `grant`: what of OAuth it ends with, empty for nothing.
    """

    user: int
    scopes: frozenset[str]
    plan: Plan | None
    own_plan: bool
    profile: int | None
    must_sign: bool
    ends: datetime | None
    terms: frozenset[int]
    grant: str

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """The rights of a key; `ends` and `grant` of an access token are its own (accounts/oauth.py)."""
        return cls(
            user=key.user_id,
            scopes=scopes_of(key),
            plan=key.effective_plan,
            own_plan=key.plan_id is not None,
            profile=key.profile_id,
            must_sign=key.must_sign,
            ends=key.expires_at,
            terms=frozenset({key.pk, *key.terms_of}),
            grant=key.oauth_grant,
        )

    def above(self, other: "Rights", *, terms: frozenset[int]) -> list[str]:
        """In what these rights go beyond the other's; empty when they do not. `terms`: the keys that have any."""
        return list(self._above(other, terms))

    def _above(self, other: "Rights", terms: frozenset[int]) -> Iterator[str]:
        if self.user != other.user:
            yield "user"
        if not self.scopes <= other.scopes:
            yield "scopes"
        if not self._plan_within(other):
            yield "plan"
        if other.profile is not None and self.profile != other.profile:
            yield "profile"
        if other.must_sign and not self.must_sign:
            yield "must_sign"
        if other.ends is not None and (self.ends is None or self.ends > other.ends):
            yield "expires_at"
        if not other.terms & terms <= self.terms:
            yield "blocked terms"
        if other.grant and self.grant != other.grant:
            yield "application"

    def _plan_within(self, other: "Rights") -> bool:
        """A key without a plan of its own follows the team's, also to a larger one: it is above every key that has
        its own.
        """
        if other.own_plan and not self.own_plan:
            return False
        return self.plan is None or (other.plan is not None and not exceeded(self.plan, other.plan))


def exceeded(plan: Plan, other: Plan) -> list[str]:
    """The limits in which `plan` allows more than `other`."""
    if plan.pk == other.pk:
        return []
    found = [name for name in _MORE_IS_ABOVE if _number(plan, name) > _number(other, name)]
    found += [name for name in _LESS_IS_ABOVE if _number(plan, name) < _number(other, name)]
    if not set(plan.kinds) <= set(other.kinds):
        found.append("kinds")
    if other.watermark and plan.watermark != other.watermark:
        found.append("watermark")
    return found


def _number(plan: Plan, name: str) -> float:
    value = getattr(plan, name)
    return float("inf") if value is None else float(value)
