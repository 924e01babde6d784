"""Sign in with the account and its second factor, and the roles of a team, in the browser."""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from django.utils import timezone

from generation.accounts.models import Role, User
from generation.page.tests.browser.conftest import go, look, until
from generation.tasks.models import Status, Task
from generation.telemetry import throughput

PASSWORD = "a long password"


@pytest.fixture
def person(owner: User, settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.KEY_KEPT_S = 0
    owner.set_password(PASSWORD)
    owner.role = Role.OWNER
    owner.save()
    return owner


def sign_in(page: Any, password: str = PASSWORD) -> None:
    page.get_by_label("User name").fill("owner")
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")


def test_the_account_signs_in_with_a_second_factor(
    live: str, person: User, open_page: Callable[..., Any], settings: Any
) -> None:
    settings.OIDC_ISSUER, settings.OIDC_NAME = "https://id.shop.example", "Shop login"
    page = open_page(live, refusals=(401,))
    assert page.get_by_role("link", name="Log in with Shop login").get_attribute("href") == "/accounts/oidc/"
    sign_in(page, "wrong")
    page.get_by_text("Wrong user name or password.").wait_for()
    sign_in(page)
    page.wait_for_selector(".make")
    go(page, "account")
    page.locator(".factor input[type=password]").fill(PASSWORD)
    page.get_by_role("button", name="Set up").click()
    secret = page.locator(".scan code").inner_text().replace(" ", "")
    assert page.evaluate("document.querySelector('.scan img').naturalWidth") > 50
    look(page, "second-factor")
    page.locator(".factor").get_by_label("Code").fill(pyotp.TOTP(secret).generate_otp(int(time.time()) // 30))
    page.get_by_role("button", name="Switch on").click()
    page.locator(".recovery").wait_for()
    codes = page.locator(".recovery code").all_inner_texts()
    assert len(codes) == 10
    page.get_by_role("button", name="Done").click()
    page.get_by_text("10 recovery codes are left").wait_for()
    page.get_by_role("button", name="Log out").click()

    sign_in(page)
    page.locator("#login-account").get_by_label("Code").fill(codes[0])
    page.keyboard.press("Enter")
    left = page.get_by_text("9 recovery codes are left")  # on the screen where the account was left
    left.wait_for()
    page.reload()
    left.wait_for()


def test_an_owner_changes_the_roles_of_the_team(
    live: str, person: User, make_user: Callable[..., User], key_of: Callable[..., str], log_in: Callable[..., Any]
) -> None:
    make_user("mate", team="shop")
    page = log_in(live, key_of(person))
    go(page, "account")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        page.locator(".team tr", has_text="mate").get_by_role("combobox").select_option("viewer")
    until(page, "() => document.querySelector('.team select').value === 'viewer'")
    assert User.objects.get(username="mate").role == Role.VIEWER
    look(page, "team")

    viewer = log_in(live, key_of(User.objects.get(username="mate")), refusals=(403,))
    go_to = viewer.evaluate
    go_to("location.hash = '#account'")
    viewer.locator(".team").wait_for()
    assert viewer.locator(".team select").count() == 0
    assert re.search(r"owner\s+Owner", viewer.locator(".team").inner_text())


def test_an_operator_opens_the_overview(
    live: str, person: User, make_task: Callable[..., Task], open_page: Callable[..., Any]
) -> None:
    """With the admin's own login; nothing within the page is refused by its policy."""
    person.is_staff = person.is_superuser = True
    person.save()
    for minutes in range(0, 55, 2):
        for _ in range(1 + minutes % 7):
            ended = timezone.now() - timedelta(minutes=minutes)
            failed = {"status": Status.FAILED, "error_code": "not_finite"} if minutes % 10 == 4 else {}
            make_task(**{"status": Status.SUCCEEDED, "finished_at": ended, **failed})
    throughput._kept.drop()
    page = open_page(f"{live}/admin/login/?next=/admin/generation/task/overview/")
    page.get_by_label("Username").fill("owner")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.locator(".overview svg").first.wait_for()
    assert page.locator(".overview svg").first.locator("g").count() == 60
    assert page.locator("tr", has_text="not_finite").count() == 1
    look(page, "overview", axe=False)  # the frame round it is Unfold's
