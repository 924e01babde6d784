"""Roles in a team: who changes them, that one owner stays, and that they hold at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from generation.accounts import teams
from generation.accounts.models import Role, User
from imagegenx_site.errors import ApiError


@pytest.fixture
def boss(owner: User) -> User:
    owner.role = Role.OWNER
    owner.save()
    return owner


@pytest.fixture
def mate(make_user: Callable[..., User]) -> User:
    return make_user("mate", team="shop")


def change(client: Client, name: str, role: str) -> int:
    path = f"/api/v1/team/members/{name}"
    return int(client.patch(path, {"role": role}, content_type="application/json").status_code)


def test_an_owner_changes_roles_and_they_hold_at_once(
    boss: User, mate: User, client_of: Callable[..., Client], settings: Any
) -> None:
    settings.KEY_KEPT_S = 0
    of_boss, of_mate = client_of(boss), client_of(mate)
    team = of_mate.get("/api/v1/team").json()["data"]
    assert (team["name"], team["plan"]) == ("shop", "paid")
    assert [(one["user"], one["role"], one["you"]) for one in team["members"]] == [
        ("mate", "member", True), ("owner", "owner", False),
    ]  # fmt: skip
    made: dict[str, Any] = {"data": {"text": "x"}, "content_type": "application/json"}
    assert of_mate.post("/api/v1/image/generate", **made).status_code == 202
    assert change(of_mate, "mate", "owner") == 403
    assert change(of_boss, "mate", "viewer") == 200
    assert of_mate.post("/api/v1/image/generate", **made).status_code == 403
    assert of_mate.get("/api/v1/image/tasks").status_code == 200
    assert change(of_boss, "mate", "king") == 400
    assert change(of_boss, "mate", "owner") == 200
    assert of_mate.get("/api/v1/account").json()["data"]["role"] == "owner"


def test_a_removed_member_is_a_stranger(
    boss: User, mate: User, client_of: Callable[..., Client], make_task: Callable[..., Any], settings: Any
) -> None:
    settings.KEY_KEPT_S = 0
    of_boss, of_mate, task = client_of(boss), client_of(mate), make_task()
    path = f"/api/v1/image/task/{task.public_id}"
    assert of_mate.get(path).status_code == 200
    assert of_boss.delete("/api/v1/team/members/mate").status_code == 200
    assert of_mate.get(path).status_code in (400, 404)
    assert of_boss.delete("/api/v1/team/members/mate").status_code == 404


def test_one_owner_stays_and_strangers_have_no_say(
    boss: User, mate: User, make_user: Callable[..., User], client_of: Callable[..., Client]
) -> None:
    of_boss = client_of(boss)
    assert change(of_boss, "owner", "member") == 409
    assert of_boss.delete("/api/v1/team/members/owner").status_code == 409
    other = make_user("other")
    other.role = Role.OWNER
    other.save()
    assert change(client_of(other), "mate", "viewer") == 404
    assert change(of_boss, "other", "viewer") == 404
    assert change(of_boss, "ma\0te", "viewer") == 404
    assert change(client_of(boss, scopes=["read", "keys"]), "mate", "viewer") == 403


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_leave_one(boss: User, mate: User) -> None:
    mate.role = Role.OWNER
    mate.save()

    def remove(pair: tuple[User, str]) -> bool:
        try:
            teams.remove(*pair)
        except ApiError:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(remove, [(boss, "mate"), (mate, "owner")])) == 1
    assert User.objects.filter(team=boss.team, role=Role.OWNER).count() == 1
