"""Which lines of a log a person sees at once."""

from pathlib import Path

import pytest

from deploy.logs import LogWatcher, log_tail, severe_text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"event": "all is well", "level": "info"}', None),
        ('{"event": "an ERROR in the text of an info line", "level": "info"}', None),
        ('{"event": "the store is away\\nand more", "level": "warning"}', "warning: the store is away"),
        ("2026-11-20 19:47:22 UTC [1] FATAL:  out of memory", "2026-11-20 19:47:22 UTC [1] FATAL:  out of memory"),
        ("2026-11-20 19:47:22 UTC [1] FATAL:  the database system is starting up", None),
        ("ValueError: no such size", "ValueError: no such size"),
        ("an ordinary line", None),
    ],
)
def test_warnings_and_worse_are_shown(line: str, shown: str | None) -> None:
    assert severe_text(line) == shown


def test_new_lines_only_each_once_and_never_half(tmp_path: Path) -> None:
    path, reported = tmp_path / "web.log", list[str]()
    path.write_text("ERROR of an earlier run\n")
    follower = LogWatcher("web", path, reported.append)
    with path.open("a") as log:
        for text in ("ERROR one\n", "ERROR one\n", "fine\n", "ERROR tw"):
            log.write(text)
            log.flush()
            follower.check()
        log.write("o\n")
        log.flush()
        follower.check()
    assert reported == ["[web] ERROR one", "[web] ERROR two"]


def test_a_flood_is_cut(tmp_path: Path) -> None:
    path, reported = tmp_path / "web.log", list[str]()
    follower = LogWatcher("web", path, reported.append)
    path.write_text("".join(f"ERROR {number}\n" for number in range(100)))
    follower.check()
    assert len(reported) == 6
    assert reported[-1].startswith("[web] and 95 more such lines")


def test_a_large_file_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.logs.ROTATE_BYTES", 100)
    path = tmp_path / "web.log"
    follower = LogWatcher("web", path, lambda _: None)
    path.write_text("x" * 99 + "\n" + "y\n")
    follower.check()
    assert path.read_text() == ""
    assert (tmp_path / "web.log.1").read_text().endswith("y\n")
    path.write_text("ERROR after\n")
    assert log_tail(path) == "ERROR after"
