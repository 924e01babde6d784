"""Who a key acts for, what binds it, what is left of today; the caller's keys and usage."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal, NotRequired, TypedDict

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from generation.accounts.models import SCOPES, ApiKey
from generation.accounts.plans import plan_of
from generation.accounts.rights import scopes_of
from generation.admission import quotas
from generation.api import new_keys, openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.requests.choices import OneOf
from generation.api.requests.idempotency import PARAMETER, once
from generation.api.validation import DayField, StrictSerializer, checked
from generation.policy import rules
from generation.tasks import open_tasks, usage
from generation.tasks.presentation import Moment
from imagegenx_site.errors import Fault, InvalidRequest, NotFound

LONGEST_REPORT: Final = timedelta(days=366)


class KeySerializer(StrictSerializer):
    """A new key. What is left out is as the asking key has it; no key can make one that may do more than itself, or
    lasts longer.
    """

    name = serializers.CharField(required=False, max_length=100, default="key")
    scopes = serializers.ListField(child=OneOf(SCOPES), required=False)
    expires_in_days = serializers.IntegerField(required=False, min_value=1, max_value=3650, allow_null=True)
    must_sign = serializers.BooleanField(required=False)
    profile = serializers.CharField(
        required=False, max_length=50, help_text="Name of a policy profile, such as `child-safe`, that bounds it."
    )


class RotateSerializer(StrictSerializer):
    """How long the old key goes on working."""

    grace_seconds = serializers.IntegerField(required=False, min_value=0, max_value=7 * 86400, default=3600)


class UsageSerializer(StrictSerializer):
    """The days of a report (UTC, inclusive), and what its lines stand for."""

    since = DayField(required=False)
    until = DayField(required=False)
    group_by = OneOf(usage.GROUPS, required=False, default="day")


class KeyBody(TypedDict):
    prefix: str
    name: str
    scopes: Annotated[list[str], "Empty: all."]
    plan: Annotated[str | None, "Null: the team's plan."]
    profile: Annotated[str | None, "The policy profile that bounds it."]
    must_sign: bool
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None


class NewKeyBody(KeyBody):
    api_key: Annotated[str, "The key itself: shown this once."]
    replaces: NotRequired[str]


class UsageSums(TypedDict):
    tasks: int
    succeeded: int
    images: int
    megapixel_steps: float


class UsageLine(UsageSums):
    group: str


class UsageBody(TypedDict):
    items: list[UsageLine]
    total: UsageSums
    group_by: str
    since: str
    until: str


class QuotaBody(TypedDict):
    name: Annotated[str, "`concurrent`, `daily-images` or `daily-work` (megapixel-steps)."]
    limit: int
    left: int
    resets_in: Annotated[int, "Seconds; 0 where nothing resets."]


class ProfileBody(TypedDict):
    name: str
    child_safe_styles: bool
    subjects: Annotated[list[str], "A prompt must name one of these; empty: any."]


class AccountBody(TypedDict):
    user: str
    team: str | None
    role: Literal["owner", "member", "viewer"]
    plan: str
    key: Annotated[str, "The prefix of this key."]
    scopes: list[str]
    profile: Annotated[ProfileBody | None, "The policy profile that bounds this key."]
    quotas: Annotated[list[QuotaBody], "Limits of the plan and what they leave; those without a limit are left out."]


class AccountView(ApiView):
    """The account of the key that asks."""

    scopes: ClassVar = {"GET": "read"}

    @extend_schema(
        **openapi_docs.operation("account", "Get your account and what is left of today", "account", data=AccountBody)
    )
    def get(self, request: KeyRequest) -> Response:
        """The user and team behind the key, its plan, scopes and profile, and its quotas."""
        key, plan, allowed = request.auth, plan_of(request.auth), scopes_of(request.auth)
        left = [
            {"name": one.name, "limit": one.quota, "left": one.left, "resets_in": one.reset}
            for one in quotas.standing(request.user, plan, open_tasks.look_up)
        ]
        team = request.user.team
        return Response(
            {
                "user": request.user.get_username(),
                "team": team.name if team else None,
                "plan": plan.name,
                "key": key.prefix,
                "role": request.user.role,
                "scopes": [scope for scope in key.scopes or SCOPES if scope in allowed],
                "profile": _profile(request),
                "quotas": left,
            }
        )


class KeysView(ApiView):
    """The caller's keys."""

    scopes: ClassVar = {"GET": "keys", "POST": "keys"}

    @extend_schema(**openapi_docs.operation("keys", "List your keys", "account", data=openapi_docs.listed(KeyBody)))
    def get(self, request: KeyRequest) -> Response:
        """Every key of the user, without its secret."""
        return Response({"items": [key_body(key) for key in _keys_of(request)]})

    @extend_schema(
        **openapi_docs.operation(
            "key-create",
            "Create a key",
            "account",
            data=NewKeyBody,
            code=201,
            also=(409, 422),
            request=KeySerializer,
            parameters=[PARAMETER],
        )
    )
    def post(self, request: KeyRequest) -> Response:
        """A new key. Its text is in the answer, and nowhere else ever again."""
        asked = checked(KeySerializer, request.data)

        def make() -> Response:
            row, text = new_keys.create(request.auth, asked)
            return Response({**key_body(row), "api_key": text}, status=201)

        return once(request, "keys", request.data, make)


class KeyView(ApiView):
    """One key."""

    scopes: ClassVar = {"DELETE": "keys"}

    @extend_schema(**openapi_docs.operation("key-revoke", "Revoke a key", "account", data=KeyBody, also=(404,)))
    def delete(self, request: KeyRequest, prefix: str) -> Response:
        """End a key at once. It stays in the list. A key can't end one that may do more than itself."""
        return Response(key_body(new_keys.revoke(request.auth, _find(request, prefix))))


class KeyRotateView(ApiView):
    """A new secret for a key."""

    scopes: ClassVar = {"POST": "keys"}

    @extend_schema(
        **openapi_docs.operation(
            "key-rotate",
            "Replace a key",
            "account",
            data=NewKeyBody,
            code=201,
            also=(404, 409, 422),
            request=RotateSerializer,
            parameters=[PARAMETER],
        )
    )
    def post(self, request: KeyRequest, prefix: str) -> Response:
        """A key of the same kind; the old one works for `grace_seconds` more. A key can replace itself, and what may
        do no more than itself.
        """
        grace = timedelta(seconds=checked(RotateSerializer, request.data)["grace_seconds"])

        def make() -> Response:
            row, text = new_keys.rotate(request.auth, _find(request, prefix), grace)
            return Response({**key_body(row), "api_key": text, "replaces": prefix}, status=201)

        return once(request, "keys/rotate", {"key": prefix, "body": request.data}, make)


class UsageView(ApiView):
    """What was used."""

    @extend_schema(
        **openapi_docs.operation(
            "usage",
            "Usage by day, model, kind or key",
            "account",
            data=UsageBody,
            parameters=[UsageSerializer],
        )
    )
    def get(self, request: KeyRequest) -> Response:
        """Tasks, pictures and megapixel-steps, one line a group and their sums."""
        asked = checked(UsageSerializer, request.query_params.dict())
        last = asked.get("until") or datetime.now(UTC).date()
        first = asked.get("since") or last - timedelta(days=29)
        if not timedelta(0) <= last - first <= LONGEST_REPORT:
            message = f"`until` must be on `since` or up to {LONGEST_REPORT.days} days after it."
            raise InvalidRequest([Fault("until", "out_of_range", message)])
        lines = [asdict(line) for line in usage.report(request.user, first, last, asked["group_by"])]
        names = ("tasks", "succeeded", "images", "megapixel_steps")
        total = {name: round(sum(line[name] for line in lines), 4) for name in names}
        days = {"since": first.isoformat(), "until": last.isoformat()}
        return Response({"items": lines, "total": total, "group_by": asked["group_by"], **days})


def key_body(key: ApiKey) -> KeyBody:
    """A key as its owner sees it."""
    return {
        "prefix": key.prefix,
        "name": key.name,
        "scopes": key.scopes,
        "plan": key.plan.name if key.plan else None,
        "profile": key.profile.name if key.profile else None,
        "must_sign": key.must_sign,
        "created_at": key.created_at.isoformat(timespec="seconds"),
        "expires_at": _iso(key.expires_at),
        "revoked_at": _iso(key.revoked_at),
        "last_used_at": _iso(key.last_used_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _keys_of(request: KeyRequest) -> Any:
    return ApiKey.objects.filter(user=request.user, oauth_client="").select_related(
        "plan", "profile", "user__team__plan"
    )


def _find(request: KeyRequest, prefix: str) -> ApiKey:
    key: ApiKey | None = _keys_of(request).filter(prefix=prefix).first() if "\0" not in prefix else None
    if key is None:
        raise NotFound("You have no such key. `GET /api/v1/keys` lists them by their prefix.")
    return key


def _profile(request: KeyRequest) -> ProfileBody | None:
    if request.auth.profile is None:
        return None
    child_safe, subjects = rules.allowed_styles_and_subjects(request.auth)
    return {"name": request.auth.profile.name, "child_safe_styles": child_safe, "subjects": list(subjects)}
