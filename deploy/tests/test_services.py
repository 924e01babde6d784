"""Throw-away services: a command gets them, and they vanish with everything below them however the command ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
import redis

from deploy.binaries import postgres_programs
from deploy.embedded_postgres import EmbeddedPostgres, PostgresConfig
from deploy.embedded_redis import EmbeddedRedis, RedisConfig
from deploy.processes import server_account, stop
from deploy.services import free_port, remove_stale_folders, wait_ready

RUN = [sys.executable, "-m", "deploy.services", "run", "--"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of our own, so that a test sees only what it caused itself."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def processes_with(text: str) -> list[int]:
    """Ids of the processes whose command line or environment names `text`."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if text.encode() in seen and not zombie and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def wait_until_gone(folder: Path, patience_s: float = 10.0) -> None:
    """Return when no process and no file of `folder` is left."""
    deadline = time.monotonic() + patience_s
    while processes_with(str(folder)) or any(folder.glob("imagegenx-*")):
        assert time.monotonic() < deadline, (processes_with(str(folder)), list(folder.iterdir()))
        time.sleep(0.05)


@contextmanager
def running_command(temporary: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command with a grandchild beside services: the run's process and its child's id, once the command runs."""
    sign = temporary.parent / "sign"
    script = f"sleep 1000 & echo up > {sign}; sleep 1000"
    process = subprocess.Popen([*RUN, "sh", "-c", script])
    try:
        deadline = time.monotonic() + 30
        while not sign.exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        yield process, child
    finally:
        process.kill()
        process.wait()


def test_the_command_gets_both_services_and_its_exit_code_is_passed_on(temporary: Path) -> None:
    program = (
        "import os, sys, psycopg2, redis\n"
        "cursor = psycopg2.connect(os.environ['DATABASE_URL']).cursor()\n"
        "cursor.execute('SELECT 40 + 2')\n"
        "assert cursor.fetchone() == (42,)\n"
        "assert redis.from_url(os.environ['REDIS_URL']).ping()\n"
        "sys.exit(7)\n"
    )
    assert subprocess.run([*RUN, sys.executable, "-c", program], check=False).returncode == 7
    wait_until_gone(temporary)


def test_a_command_that_does_not_exist_is_one_sentence(temporary: Path) -> None:
    result = subprocess.run([*RUN, "/no/such/program"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (
        1,
        "error: /no/such/program can't be run: No such file or directory.\n",
    )
    wait_until_gone(temporary)


def test_sigterm_ends_the_command_and_the_services(temporary: Path) -> None:
    with running_command(temporary) as (process, _):
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
        wait_until_gone(temporary)


def test_nothing_is_left_when_the_run_is_killed(temporary: Path) -> None:
    with running_command(temporary) as (process, _):
        process.kill()
        wait_until_gone(temporary)


def test_nothing_is_left_when_its_child_is_killed(temporary: Path) -> None:
    with running_command(temporary) as (process, child):
        os.kill(child, signal.SIGKILL)
        assert process.wait(20) == 128 + signal.SIGKILL
        wait_until_gone(temporary)


def test_what_two_kills_leave_behind_goes_at_the_next_start(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_command(temporary) as (process, child):
        os.kill(process.pid, signal.SIGSTOP)  # so that it can't clean up between the two kills
        os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
        for pid in processes_with(str(temporary)):
            if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    remove_stale_folders()
    wait_until_gone(temporary)


def test_durable_servers_keep_their_data_and_ask_for_the_password(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        postgres = EmbeddedPostgres(PostgresConfig(tmp_path / "postgres", free_port(), "sesame", durable=True))
        redis_server = EmbeddedRedis(RedisConfig(tmp_path / "redis", free_port(), "sesame", durable=True))
        processes = []
        for server in (postgres, redis_server):
            server.initialise()
            log = tmp_path / f"{type(server).__name__}.log"
            with log.open("ab") as output:
                processes.append((server, server.start(output)))
            wait_ready(server, processes[-1][1], log)
        postgres.create_database()
        seen.append((_count_in_postgres(postgres.url), _count_in_redis(redis_server.url)))
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(postgres.url.replace("sesame", "wrong"))
        for server, process in processes:
            assert stop(process, server.stop_signal)
            server.close()
    assert seen == [(1, 1), (2, 2)]
    cluster = postgres.data.stat().st_uid
    others = [path for path in postgres.data.rglob("*") if path.stat().st_uid != cluster]
    assert others == [], "a backup is made by the server, which must read every file"
    assert [path.name for path in tmp_path.glob("*-programs")] == []


def test_the_programs_are_copied_where_the_account_cannot_reach_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.binaries.can_use", lambda path, _: "site-packages" not in str(path))
    before = os.umask(0o077)  # as the run script sets it
    try:
        programs = postgres_programs(server_account(), tmp_path / "programs")
    finally:
        os.umask(before)
    assert programs.is_relative_to(tmp_path)
    way = [folder for folder in programs.parents if folder.is_relative_to(tmp_path / "programs")]
    assert [str(folder) for folder in (programs, *way) if folder.stat().st_mode & 0o005 != 0o005] == []
    assert subprocess.run([programs / "psql", "--version"], capture_output=True, check=False).returncode == 0


def _count_in_postgres(url: str) -> int:
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS visits (number int)")
        cursor.execute("INSERT INTO visits VALUES (1)")
        cursor.execute("SELECT count(*) FROM visits")
        (count,) = cursor.fetchone()
    return int(count)


def _count_in_redis(url: str) -> int:
    return int(redis.from_url(url).incr("visits"))
