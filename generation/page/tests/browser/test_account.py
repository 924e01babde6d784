"""Sign in with the account and its second factor, and the roles of a team, in the browser."""

import re
import time
from collections.abc import Callable
from typing import Any

import pyotp
import pytest

from generation.accounts.models import Role, User
from generation.page.tests.browser.conftest import go, look, until

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
    codes = page.locator(".recovery code").all_inner_texts()
    assert len(codes) == 10
    page.get_by_role("button", name="Done").click()
    page.get_by_text("10 recovery codes are left").wait_for()
    page.get_by_role("button", name="Log out").click()

    sign_in(page)
    page.locator("#login-account").get_by_label("Code").fill(codes[0])
    page.keyboard.press("Enter")
    page.wait_for_selector(".make")
    page.reload()
    page.wait_for_selector(".make")


def test_an_owner_changes_the_roles_of_the_team(
    live: str, person: User, make_user: Callable[..., User], key_of: Callable[..., str], log_in: Callable[..., Any]
) -> None:
    make_user("mate", team="shop")
    page = log_in(live, key_of(person))
    go(page, "account")
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
