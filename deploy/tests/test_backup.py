"""Every dump can be restored."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from deploy import backup
from deploy.processes import DeployError


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a database of our own on the tests' server."""
    server = os.environ["DATABASE_URL"]
    name = f"backup_{secrets.token_hex(4)}"
    address = server.rpartition("/")[0] + f"/{name}"
    admin = psycopg2.connect(server)
    admin.autocommit = True
    admin.cursor().execute(f"CREATE DATABASE {name}")
    yield address
    admin.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")
    admin.close()


def rows(address: str) -> list[int]:
    with psycopg2.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT number FROM things ORDER BY number")
        return [number for (number,) in cursor.fetchall()]


def write(address: str, statement: str) -> None:
    with psycopg2.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


def test_what_was_saved_comes_back(database: str, tmp_path: Path) -> None:
    write(database, "CREATE TABLE things (number int PRIMARY KEY); INSERT INTO things VALUES (1), (2)")
    dump = tmp_path / "x.dump"
    backup.save(database, dump)
    assert dump.stat().st_mode & 0o777 == 0o600
    write(database, "DELETE FROM things; INSERT INTO things VALUES (3)")
    backup.restore(database, dump)
    assert rows(database) == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["x.dump"]


def test_a_damaged_dump_changes_nothing(database: str, tmp_path: Path) -> None:
    write(database, "CREATE TABLE things (number int PRIMARY KEY); INSERT INTO things VALUES (1)")
    dump = tmp_path / "x.dump"
    backup.save(database, dump)
    dump.write_bytes(dump.read_bytes()[:-40])
    with pytest.raises(DeployError, match="pg_restore failed"):
        backup.restore(database, dump)
    assert rows(database) == [1]


def test_a_server_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"pg_dump failed: .*Connection refused"):
        backup.save("postgres://u:p@127.0.0.1:1/x", tmp_path / "x.dump")
    assert not list(tmp_path.iterdir())
