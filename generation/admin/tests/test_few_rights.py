"""Staff with one right in the admin get no other: what a list may be asked, who changes whom, who reads keys."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client

from generation.accounts.models import ApiKey, User
from generation.admin.tests.test_models import ROW
from generation.catalogue.models import ImageModel, ModelPreset
from generation.webhooks.models import WebhookEndpoint

pytestmark = pytest.mark.attacks
LIST, CHANGE = "/admin/generation/{}/", "/admin/generation/{}/{}/change/"
REMOTE = ROW | {
    "family": "remote-openai", "source": "https://evil.example/v1", "kinds": ["text2img"],
    "options": json.dumps({"api_key_env": "OPENAI_API_KEY"}),
}  # fmt: skip


@pytest.fixture
def staff_with(seeded: None) -> Callable[..., Client]:
    """A member of staff with these rights and no other, signed in."""

    def make(*rights: str) -> Client:
        user = User.objects.create_user("helper", password="a long password", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=rights))
        client = Client()
        client.force_login(user)
        return client

    return make


def test_lists_tell_no_secret_by_what_they_find(
    staff_with: Callable[..., Client], owner: User, key_of: Callable[..., str]
) -> None:
    """The digest of a key signs requests: who reads it has the key."""
    key_of(owner)
    WebhookEndpoint.objects.create(user=owner, url="https://example.com/x", secret="whsec_aaa")
    staff = staff_with("view_apikey", "view_webhookendpoint", "view_user", "view_task")
    digit = ApiKey.objects.get(user=owner).digest[0]
    for table, lookup in (
        ("apikey", f"digest__startswith={digit}"),
        ("apikey", "user__password__startswith=p"),
        ("webhookendpoint", "secret__startswith=whsec_a"),
        ("webhookendpoint", "previous_secret__gt=a"),
        ("user", "password__startswith=p"),
        ("user", "api_keys__digest__startswith=a"),
        ("task", "api_key__digest__startswith=a"),
    ):
        assert staff.get(f"{LIST.format(table)}?{lookup}").status_code == 400, lookup
    plan = owner.team.plan_id if owner.team else 0
    for table, lookup in (
        ("apikey", f"plan__id__exact={plan}"),
        ("apikey", "prefix=x"),
        ("task", "status__exact=queued"),
    ):
        assert staff.get(f"{LIST.format(table)}?{lookup}").status_code == 200, lookup


def test_who_sees_keys_ends_none(staff_with: Callable[..., Client], owner: User, key_of: Callable[..., str]) -> None:
    key_of(owner)
    key, staff = ApiKey.objects.get(user=owner), staff_with("view_apikey", "view_user")
    for table, action, row in (("apikey", "revoke", key.pk), ("user", "unlock", owner.pk)):
        answer = staff.post(LIST.format(table), {"action": action, "_selected_action": [row]}, follow=True)
        assert f'value="{action}"' not in answer.content.decode()
    key.refresh_from_db()
    assert key.revoked_at is None


def test_who_changes_users_makes_nobody_staff(staff_with: Callable[..., Client], owner: User) -> None:
    boss = User.objects.create_superuser("root", password="a long password")
    staff = staff_with("change_user", "view_user", "delete_user", "change_group", "add_group", "view_group")
    helper, before = User.objects.get(username="helper"), boss.password
    rights = {
        "is_staff": "on",
        "is_superuser": "on",
        "is_active": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "1:00",
    }
    for user in (helper, boss, owner):
        staff.post(CHANGE.format("user", user.pk), {"username": user.username, **rights})
        user.refresh_from_db()
    assert (helper.is_superuser, owner.is_staff, owner.is_superuser) == (False, False, False)
    for user in (boss, helper):
        form = {"password1": "another long one", "password2": "another long one"}
        assert staff.post(f"/admin/generation/user/{user.pk}/password/", form).status_code == 403
        assert staff.post(f"/admin/generation/user/{user.pk}/delete/", {"post": "yes"}).status_code == 403
    boss.refresh_from_db()
    assert boss.password == before
    group = Group.objects.create(name="g")
    assert staff.post(f"/admin/auth/group/{group.pk}/change/", {"name": "g", "permissions": [1]}).status_code == 403
    assert staff.post("/admin/auth/group/add/", {"name": "h"}).status_code == 403


def test_a_key_does_not_change_hands(
    staff_with: Callable[..., Client], owner: User, make_user: Callable[..., User], key_of: Callable[..., str]
) -> None:
    other = make_user("other", "others")
    key_of(other)
    key, staff = ApiKey.objects.get(user=other), staff_with("change_apikey", "view_apikey", "view_user")
    form = {"user": owner.pk, "name": "renamed", "scopes": "[]"}
    assert staff.post(CHANGE.format("apikey", key.pk), form).status_code == 302
    key.refresh_from_db()
    assert (key.name, key.user) == ("renamed", other)


def test_who_changes_models_reads_no_secret_of_the_environment(staff_with: Callable[..., Client]) -> None:
    """The value of the variable that `api_key_env` names goes to the model's address."""
    theirs = ImageModel.objects.create(
        name="theirs", title="Theirs", family="remote-openai", source="https://example.com/v1", kinds=["text2img"],
        options={"api_key_env": "OPENAI_API_KEY"},
    )  # fmt: skip
    staff = staff_with("change_imagemodel", "view_imagemodel", "add_imagemodel")
    assert staff.post("/admin/generation/imagemodel/add/", REMOTE).status_code == 200
    address = CHANGE.format("imagemodel", theirs.pk)
    for forged in ({}, {"initial-options": REMOTE["options"]}):
        assert staff.post(address, REMOTE | {"name": "theirs"} | forged).status_code == 200
    theirs.refresh_from_db()
    assert (theirs.source, ImageModel.objects.filter(name="own").exists()) == ("https://example.com/v1", False)
    kept = REMOTE | {"name": "theirs", "title": "Renamed", "source": theirs.source}
    assert staff.post(address, kept).status_code == 302


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL", "HF_TOKEN", "x_API_KEY", "A_API_KEY\nB"])
def test_only_a_models_own_key_is_sent_to_it(admin_client: Client, seeded: None, name: str) -> None:
    form = REMOTE | {"options": json.dumps({"api_key_env": name})}
    assert "ends in _API_KEY" in admin_client.post("/admin/generation/imagemodel/add/", form).content.decode()


@pytest.mark.parametrize("file", ["/dev/zero", "../../secrets.json", "/etc/hostname"])
def test_no_file_but_the_models_own_is_shown_as_its_words(admin_client: Client, seeded: None, file: str) -> None:
    form = ROW | {"options": json.dumps({"vocabulary": file})}
    assert "in the model&#x27;s folder" in admin_client.post("/admin/generation/imagemodel/add/", form).content.decode()


def test_who_pulls_presets_does_not_say_from_where(staff_with: Callable[..., Client]) -> None:
    preset = ModelPreset.objects.exclude(repository="").first()
    assert preset is not None
    staff, before = staff_with("change_modelpreset", "add_modelpreset", "view_modelpreset"), preset.repository
    form: dict[str, Any] = {"name": preset.name, "title": "x", "repository": "https://evil.example/"}
    staff.post(CHANGE.format("modelpreset", preset.pk), form)
    preset.refresh_from_db()
    assert preset.repository == before
    assert staff.post("/admin/generation/modelpreset/add/", form).status_code == 403
    assert 'value="pull"' in staff.get(LIST.format("modelpreset")).content.decode()
