"""GET /readyz before, while and after the schema is migrated."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client

from generation.api import health


@pytest.fixture(autouse=True)
def fresh_process(db: None) -> Iterator[None]:
    health._migrated = False
    yield
    health._migrated = False


def ready() -> tuple[int, bool, bool]:
    answer = Client().get("/readyz")
    return answer.status_code, answer.json()["postgres"], answer.json()["schema"]


def test_a_process_whose_migrations_are_not_applied_is_not_ready() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'generation' AND name = '0008_model_settings'")
    assert ready() == (503, True, False)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('generation', %s, now())",
            ["0008_model_settings"],
        )
    assert ready() == (200, True, True)


def test_an_empty_database_is_not_ready() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_migrations RENAME TO elsewhere")
    assert ready() == (503, True, False)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE elsewhere RENAME TO django_migrations")
    assert ready() == (200, True, True)


def test_a_ready_process_does_not_ask_again(django_assert_num_queries: object) -> None:
    ready()
    with django_assert_num_queries(1):  # type: ignore[operator]
        assert ready()[0] == 200
