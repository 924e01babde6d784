"""The team of the caller: its members and their roles. What a role may: generation/accounts/rights.py."""

from typing import Annotated, ClassVar, Literal, TypedDict

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from generation.accounts import teams
from generation.accounts.models import Role, User
from generation.accounts.plans import plan_of
from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.requests.choices import OneOf
from generation.api.validation import StrictSerializer, checked


class MemberSerializer(StrictSerializer):
    """What a member may do from now on."""

    role = OneOf(tuple(Role.values))


class MemberBody(TypedDict):
    user: str
    role: Literal["owner", "member", "viewer"]
    you: bool


class TeamBody(TypedDict):
    name: str | None
    plan: str
    members: Annotated[list[MemberBody], "Owners change their roles; the operator adds people."]


def member_body(member: User, user: User) -> MemberBody:
    """A member as the user sees it."""
    return {"user": member.get_username(), "role": Role(member.role).value, "you": member.pk == user.pk}  # type: ignore[typeddict-item]  # a word of Role


class TeamView(ApiView):
    """The caller's team."""

    scopes: ClassVar = {"GET": "read"}

    @extend_schema(**openapi_docs.operation("team", "Get your team and its members", "account", data=TeamBody))
    def get(self, request: KeyRequest) -> Response:
        """The name, the plan, and who belongs to it."""
        team, user = request.user.team, request.user
        members = [member_body(one, user) for one in teams.members_of(user)]
        return Response({"name": team.name if team else None, "plan": plan_of(request.auth).name, "members": members})


class MemberView(ApiView):
    """One member of the caller's team."""

    scopes: ClassVar = {"PATCH": "team", "DELETE": "team"}

    @extend_schema(
        **openapi_docs.operation(
            "member-change", "Change the role of a member", "account", data=MemberBody, also=(404, 409),
            request=MemberSerializer,
        )
    )  # fmt: skip
    def patch(self, request: KeyRequest, username: str) -> Response:
        """Only owners may; a team keeps at least one owner."""
        role = Role(checked(MemberSerializer, request.data)["role"])
        return Response(member_body(teams.change_role(request.user, username, role), request.user))

    @extend_schema(
        **openapi_docs.operation(
            "member-remove", "Remove a member from the team", "account", data=MemberBody, also=(404, 409)
        )
    )
    def delete(self, request: KeyRequest, username: str) -> Response:
        """Its keys have no plan then, and its pictures are no longer the team's."""
        return Response(member_body(teams.remove(request.user, username), request.user))
