"""Members of a team, changed by its owners. People are added by the operator."""

from django.db import transaction

from generation.accounts.models import Role, Team, User
from imagegenx_site.errors import Conflict, NotFound


def members_of(user: User) -> list[User]:
    """The active members of the user's team, by name; the user alone without a team."""
    if user.team_id is None:
        return [user]
    return list(User.objects.filter(team=user.team_id, is_active=True).order_by("username")[:1000])


def change_role(owner: User, username: str, role: Role) -> User:
    """The member with its new role. Raises NotFound, Conflict for the last owner."""
    with transaction.atomic():
        member = _locked(owner, username)
        if role != Role.OWNER:
            _check_other_owner(member)
        member.role = role
        member.save(update_fields=["role"])
    return member


def remove(owner: User, username: str) -> User:
    """The member, who belongs to no team now. Raises NotFound, Conflict for the last owner."""
    with transaction.atomic():
        member = _locked(owner, username)
        _check_other_owner(member)
        member.team, member.role = None, Role.MEMBER
        member.save(update_fields=["team", "role"])
    return member


def _locked(owner: User, username: str) -> User:
    """The member, with the team's row locked: of two owners who remove each other one stays."""
    member = None
    if owner.team_id is not None and "\0" not in username:
        Team.objects.select_for_update().get(pk=owner.team_id)
        member = User.objects.filter(team=owner.team_id, username=username, is_active=True).first()
        still = User.objects.filter(pk=owner.pk, team=owner.team_id, role=Role.OWNER).exists()
        member = member if still else None
    if member is None:
        raise NotFound(f"Your team has no member {username[:60]}.")
    return member


def _check_other_owner(member: User) -> None:
    others = User.objects.filter(team=member.team_id, role=Role.OWNER, is_active=True).exclude(pk=member.pk)
    if member.role == Role.OWNER and not others.exists():
        raise Conflict("A team keeps at least one owner. Make another member an owner first.")
