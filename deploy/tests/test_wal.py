"""Backups of a real Postgres that is written to all the time; it is killed and restored."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest

from deploy import wal_catalogue as catalogue
from deploy.embedded_postgres import EmbeddedPostgres, PostgresConfig
from deploy.processes import DeployError, stop
from deploy.services import free_port, wait_ready
from deploy.wal_backups import BackupRunner
from deploy.wal_catalogue import BackupConfig, Copy
from deploy.wal_restore import restore

PASSWORD = "of-the-test"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Server:
    """A durable server in a folder, and what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.postgres = EmbeddedPostgres(PostgresConfig(folder, free_port(), PASSWORD, durable=True))
        self.postgres.initialise()
        self.log = folder.parent / f"{folder.name}.log"
        with self.log.open("wb") as output:
            self.process = self.postgres.start(output)
        wait_ready(self.postgres, self.process, self.log)
        self.postgres.create_database()

    def do(self, statement: str) -> None:
        with closing(psycopg2.connect(self.postgres.url)) as link, link, link.cursor() as cursor:
            cursor.execute(statement)

    def ask(self, query: str) -> list[tuple]:
        with closing(psycopg2.connect(self.postgres.url)) as link, link.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()

    def kill(self) -> None:
        """As a machine dies: no shutdown, no checkpoint."""
        self.process.kill()
        self.process.wait()
        self.postgres.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "live")
    made.do("CREATE TABLE things (number int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())")
    yield made
    stop(made.process, signal.SIGQUIT)


@pytest.fixture
def runner(server: Server, tmp_path: Path) -> Iterator[BackupRunner]:
    made = BackupRunner(server.postgres.url, tmp_path / "backups", BackupConfig())
    yield made
    made.close()


def restored(root: Path, folder: Path, at: datetime | None) -> list[int]:
    """The numbers in the table of a server that was restored to a moment."""
    restore(root, folder, at)
    server = Server(folder)
    try:
        return [number for (number,) in server.ask("SELECT number FROM things ORDER BY number")]
    finally:
        stop(server.process, signal.SIGINT)
        server.postgres.close()


def test_kill_and_restore(server: Server, runner: BackupRunner, tmp_path: Path) -> None:
    """Full copy, incremental copy, a mistake, writing on, kill: back to before the mistake, and to the end."""
    runner.tick()
    server.do("INSERT INTO things SELECT generate_series(1, 1000)")
    copy = runner.copy("incremental")
    assert copy.parent
    server.do("INSERT INTO things SELECT generate_series(1001, 1010)")
    before = server.ask("SELECT clock_timestamp()")[0][0]
    server.do("DELETE FROM things")
    acknowledged: list[tuple[int, float]] = []
    ended = threading.Event()

    def write() -> None:
        with closing(psycopg2.connect(server.postgres.url)) as link, link.cursor() as cursor:
            link.autocommit = True
            for number in range(5000, 9000):
                try:
                    cursor.execute("INSERT INTO things VALUES (%s)", [number])
                except psycopg2.Error:
                    break
                acknowledged.append((number, time.monotonic()))
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    while len(acknowledged) < 200:
        time.sleep(0.01)
    server.kill()
    died = time.monotonic()
    writer.join()
    runner.close()
    assert restored(runner.root, tmp_path / "before", before) == list(range(1, 1011))
    last = restored(runner.root, tmp_path / "end", None)
    lost = [at for number, at in acknowledged if number not in set(last)]
    print(f"{len(acknowledged)} rows acknowledged, {len(lost)} lost, {died - min(lost, default=died):.3f} s")
    assert last
    assert last == list(range(5000, last[-1] + 1))
    assert all(died - at < 60 for at in lost)


def test_a_time_that_cannot_be_restored_is_an_error(server: Server, runner: BackupRunner, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="There is no backup of that time"):
        restore(runner.root, tmp_path / "a", None)
    runner.tick()
    with pytest.raises(DeployError, match="The earliest restorable time is"):
        restore(runner.root, tmp_path / "b", datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(DeployError, match="nothing was written after that time"):
        restore(runner.root, tmp_path / "c", datetime.now(UTC) + timedelta(hours=1))


def test_the_runner_overcomes_a_dead_stream_and_leftovers(server: Server, runner: BackupRunner) -> None:
    runner.tick()
    assert runner.receiver is not None
    runner.receiver.kill()
    runner.receiver.wait()
    leftover = runner.root / runner.line / "base" / ".20200101T000000-full"
    leftover.mkdir()
    server.do("INSERT INTO things VALUES (1)")
    done = runner.copy("incremental")  # waits for WAL that only a new stream brings
    assert done.parent
    runner.clear(datetime.now(UTC))
    assert not leftover.exists()
    assert len(catalogue.read(runner.root)) == 2


def made(hours: float, parent: str = "", line: str = "1-1") -> Copy:
    """A copy of so many hours before noon."""
    at = NOON - timedelta(hours=hours)
    return Copy(line, f"{hours}", parent, at, at, "0" * 24)


def test_a_full_copy_a_day_and_an_incremental_one_an_hour() -> None:
    config = BackupConfig()
    assert catalogue.due([], NOON, config) == "full"
    assert catalogue.due([made(0.5)], NOON, config) == ""
    assert catalogue.due([made(1)], NOON, config) == "incremental"
    assert catalogue.due([made(23), made(0.5, "23")], NOON, config) == ""
    assert catalogue.due([made(24), made(0.5, "24")], NOON, config) == "full"


def test_every_time_within_the_retention_is_restorable() -> None:
    old, bridge, young = made(24 * 9), made(24 * 7.5), made(24 * 6)
    copies = [old, made(24 * 8.9, old.name), bridge, made(24 * 7.4, bridge.name), young]
    gone = catalogue.outdated(copies, NOON, BackupConfig())
    assert {copy.name for copy in gone} == {copies[0].name, copies[1].name}
    other = made(24 * 20, line="1-0")
    assert catalogue.outdated([other, *copies], NOON, BackupConfig())[0] in (other, copies[0])
    assert other in catalogue.outdated([other, *copies], NOON, BackupConfig())


def test_a_chain_begins_with_its_full_copy() -> None:
    copies = [made(5), made(4, "5"), made(3, "4"), made(2)]
    assert [copy.name for copy in catalogue.chain(copies, NOON - timedelta(hours=2.5))] == ["5", "4", "3"]
    assert [copy.name for copy in catalogue.chain(copies, None)] == ["2"]
    with pytest.raises(DeployError, match="which is gone"):
        catalogue.chain(copies[1:3], None)


def test_a_time_without_a_zone_is_utc() -> None:
    assert catalogue.parse_time("2026-11-25T12:00:00") == catalogue.parse_time("2026-11-25T14:00:00+02:00") == NOON
    with pytest.raises(DeployError, match="write it like"):
        catalogue.parse_time("yesterday")


def test_the_segment_of_a_position() -> None:
    assert catalogue.segment_name(1, "0/2A000060") == "00000001000000000000002A"
    assert catalogue.segment_name(2, "3/FF000000") == "0000000200000003000000FF"
