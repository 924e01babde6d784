"""Guessing passwords, secrets and keys: slowed down at every door, exactly, and never a way to lock others out."""

import base64
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth import hashers
from django.core.management import call_command
from django.test import Client
from oauth2_provider.models import Application

from generation.accounts.models import User
from generation.admission import failures
from generation.tasks.models import Task
from imagegenx_site import redis_clients
from imagegenx_site.errors import TooManyRequests

PASSWORD = "a long password"
SHIPPED = failures.PASSWORD
LOGINS = ["/admin/login/", "/accounts/login/"]


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", password=PASSWORD)


@pytest.fixture(autouse=True)
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses begin with a minute instead of a second, so that none is over while a test is under way."""
    for name in ("PASSWORD", "CLIENT", "KEY"):
        door = getattr(failures, name)
        counters = {part: getattr(door, part) for part in ("pair", "account", "address")}
        slow = {part: replace(counter, first_s=60, longest_s=960) for part, counter in counters.items() if counter}
        monkeypatch.setattr(failures, name, replace(door, **slow))


@pytest.fixture(autouse=True)
def quick_hashes(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def log_in(path: str, password: str, address: str = "198.51.100.7", name: str = "root") -> Any:
    return Client(REMOTE_ADDR=address).post(path, {"username": name, "password": password})


def pass_time() -> None:
    """Every pause ends; what was counted stays."""
    client = redis_clients.text_client()
    for key in client.scan_iter("rl:fail:*"):
        client.hset(key, "next", "0")


@pytest.mark.parametrize("path", LOGINS)
def test_guessing_a_password_is_slowed_down(root: User, path: str) -> None:
    assert [log_in(path, f"guess {number}").status_code for number in range(8)] == [200] * 5 + [429] * 3
    refused = log_in(path, PASSWORD)
    assert refused.status_code == 429
    assert 30 < int(refused["Retry-After"]) <= 60
    assert "sessionid" not in refused.cookies, "the right password neither, during the pause"
    pass_time()
    assert log_in(path, PASSWORD).status_code == 302
    assert log_in(path, "one more").status_code == 200, "a success forgets the failures at this address"


def test_pauses_double(root: User) -> None:
    waits = []
    for _ in range(12):
        pass_time()
        log_in(LOGINS[0], "guess")
        waits.append(int(log_in(LOGINS[0], "guess").get("Retry-After", 0)))
    assert waits == pytest.approx(
        [0, 0, 60, 120, 240, 480, 960, 960, 960, 960, 960, 960], abs=20
    )  # first two guesses each


def test_both_logins_share_their_counters_however_the_name_is_written(root: User) -> None:
    for number in range(5):
        log_in(LOGINS[number % 2], "guess", name=("root", "ROOT", "ｒｏｏｔ")[number % 3])
    assert log_in(LOGINS[0], PASSWORD).status_code == 429


def test_no_password_is_hashed_during_a_pause(root: User, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    real = hashers.MD5PasswordHasher.encode

    def encode(self: Any, password: str, salt: str) -> str:
        hashed.append(password)
        return real(self, password, salt)

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", encode)
    for _ in range(30):
        log_in(LOGINS[0], "x" * 1000)
        log_in(LOGINS[0], "y" * 1000, name="nobody of that name")
    assert len(hashed) == 10


def test_the_count_is_exact_under_concurrency() -> None:
    def attempt(_: int) -> bool:
        try:
            failures.begin(failures.PASSWORD, "root", "198.51.100.7")
        except TooManyRequests:
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        assert Counter(pool.map(attempt, range(200)))[True] == 5


def test_nobody_locks_the_owner_out(root: User) -> None:
    """A hundred addresses guess; where the owner has come in before nothing is different."""
    assert log_in(LOGINS[0], PASSWORD, "203.0.113.1").status_code == 302
    answers = Counter(log_in(LOGINS[0], "guess", f"198.51.100.{number}").status_code for number in range(100))
    assert answers[200] == 20, "and all of them together have few tries"
    assert log_in(LOGINS[0], PASSWORD, "203.0.113.1").status_code == 302
    assert log_in(LOGINS[0], PASSWORD, "203.0.113.2").status_code == 429
    assert SHIPPED.account is not None
    assert (SHIPPED.account.first_s, SHIPPED.account.longest_s) == (1, 30), "elsewhere the owner waits so long at most"


def test_one_address_that_tries_many_names_is_slowed_down(root: User) -> None:
    answers = Counter(log_in(LOGINS[0], "guess", name=f"user{number}").status_code for number in range(50))
    assert answers == {200: 30, 429: 20}


def test_an_operator_unlocks(root: User) -> None:
    for _ in range(5):
        log_in(LOGINS[0], "guess")
    assert log_in(LOGINS[0], PASSWORD).status_code == 429
    call_command("unlock", "Root", verbosity=0)
    assert log_in(LOGINS[0], PASSWORD).status_code == 302


def test_so_does_one_in_the_admin(root: User) -> None:
    for _ in range(5):
        log_in(LOGINS[0], "guess")
    staff = Client()
    staff.force_login(root)
    chosen = {"action": "unlock", "_selected_action": [str(root.pk)]}
    page = staff.post("/admin/generation/user/", chosen, follow=True).content.decode()
    assert "1 user(s) had failed logins" in page
    assert log_in(LOGINS[0], PASSWORD).status_code == 302


def test_hashes_at_once_are_bounded(root: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_HASH_PATIENCE_S", 0.01)
    with failures.hashing(), failures.hashing():
        assert log_in(LOGINS[0], PASSWORD).status_code == 429
    pass_time()
    assert log_in(LOGINS[0], PASSWORD).status_code == 302


# ---- OAuth


@pytest.fixture
def application(owner: User) -> tuple[str, str]:
    """A confidential application: id and secret."""
    grants = {"client_type": "confidential", "authorization_grant_type": "client-credentials"}
    row = Application(name="shop", user=owner, **grants)
    secret = row.client_secret
    row.save()
    return row.client_id, secret


@pytest.mark.parametrize("path", ["/oauth/token/", "/oauth/revoke_token/"])
@pytest.mark.parametrize("basic", [True, False])
def test_guessing_the_secret_of_an_application(application: tuple[str, str], path: str, basic: bool) -> None:
    def ask(secret: str) -> Any:
        form = {"grant_type": "client_credentials", "token": "x"}
        if basic:
            pair = base64.b64encode(f"{application[0]}:{secret}".encode()).decode()
            return Client().post(path, form, headers={"authorization": f"Basic {pair}"})
        return Client().post(path, form | {"client_id": application[0], "client_secret": secret})

    answers = [ask(f"guess {number}") for number in range(8)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
    assert 30 < int(answers[-1]["Retry-After"]) <= 60
    assert ask(application[1]).status_code == 429
    pass_time()
    assert ask(application[1]).status_code == 200


def test_a_secret_is_not_counted_for_another_application(owner: User, application: tuple[str, str]) -> None:
    """Who has an application guesses the secret of another one beside its own: in the body, or written otherwise."""
    own = Application(name="own", user=owner, client_type="confidential", authorization_grant_type="client-credentials")
    own_secret = own.client_secret
    own.save()
    client_id, _ = application

    def basic(name: str, secret: str, scheme: str = "Basic") -> dict[str, str]:
        return {"authorization": f"{scheme} {base64.b64encode(f'{name}:{secret}'.encode()).decode()}"}

    form = {"grant_type": "client_credentials"}
    guess = form | {"client_id": client_id, "client_secret": "guess"}
    for scheme in ("Basic", "basic"):
        answer = Client().post("/oauth/token/", guess, headers=basic(own.client_id, own_secret, scheme))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    both = form | {"client_id": own.client_id, "client_secret": own_secret}
    assert Client().post("/oauth/token/", both, headers=basic(client_id, "guess")).status_code == 400
    written = [f"%{ord(client_id[place]):02x}".join((client_id[:place], client_id[place + 1 :])) for place in range(8)]
    answers = [Client().post("/oauth/token/", form, headers=basic(name, "guess")).status_code for name in written]
    assert answers == [401] * 5 + [429] * 3


def test_guessing_applications_at_authorize(owner: User) -> None:
    client = Client()
    client.force_login(owner)
    asked = "/oauth/authorize/?response_type=code&client_id=guess"
    assert Counter(client.get(f"{asked}{number}").status_code for number in range(20)) == {400: 5, 429: 15}


# ---- API keys


@pytest.fixture
def places(make_task: Callable[..., Task]) -> list[tuple[str, str]]:
    """Addresses of every kind."""
    task = make_task().public_id
    return [
        ("get", "/api/v1/models"),
        ("get", f"/api/v1/image/task/{task}/events"),
        ("get", f"/api/v1/image/task/{task}/events?token=guess"),
        ("post", "/api/v1/image/download"),
        ("get", f"/api/v1/image/task/{task}/image"),
        ("post", "/v1/images/generations"),
        ("get", "/sdapi/v1/options"),
    ]


@pytest.mark.parametrize("number", range(7))
def test_wrong_keys_are_counted_at_every_address(places: list[tuple[str, str]], number: int, settings: Any) -> None:
    settings.ANONYMOUS_RPS = 100_000
    method, path = places[number]
    client = Client(headers={"authorization": "Bearer igx_0000000000_guess"})
    answers = [getattr(client, method)(path) for _ in range(40)]
    assert Counter(answer.status_code for answer in answers) == {401: 30, 429: 10}
    assert int(answers[-1]["Retry-After"]) >= 1


def test_all_addresses_count_together_and_a_valid_key_goes_on(
    places: list[tuple[str, str]], client_of: Callable[..., Client], owner: User, settings: Any
) -> None:
    settings.ANONYMOUS_RPS = 100_000
    for number in range(140):
        method, path = places[number % len(places)]
        getattr(Client(headers={"authorization": f"Bearer igx_{number:010}_guess"}), method)(path)
    refused = Client(headers={"x-api-key": "igx_1234567890_guess"}).get("/api/v1/styles")
    assert refused.status_code == 429
    assert client_of(owner).get("/api/v1/styles").status_code == 200


def test_a_key_that_has_ended_is_no_guess(client_of: Callable[..., Client], owner: User, settings: Any) -> None:
    settings.ANONYMOUS_RPS = 100_000
    client = client_of(owner)
    prefix = owner.api_keys.get().prefix
    assert client.delete(f"/api/v1/keys/{prefix}").status_code == 200
    assert {client.get("/api/v1/styles").status_code for _ in range(60)} == {401}
