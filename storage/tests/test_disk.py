import os
import subprocess
import sys
import time

import pytest

from storage.disk import remove_durably, remove_leftovers, write_durably


def test_a_write_replaces_whole_files(tmp_path):
    path = tmp_path / "a" / "b" / "c.bin"
    write_durably(path, b"first")
    write_durably(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["c.bin"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "c.bin"
    write_durably(path, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["c.bin"]


def test_a_kill_in_the_middle_leaves_old_or_new(tmp_path):
    """A process that rewrites one file for ever is killed ten times: the file is always one of the two contents,
    whole.
    """
    path = tmp_path / "c.bin"
    script = (
        "import sys; from pathlib import Path; from storage.disk import write_durably\n"
        "while True:\n"
        "    for byte in (b'a', b'b'): write_durably(Path(sys.argv[1]), byte * 300000); print(1, flush=True)"
    )
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        assert path.read_bytes() in (b"a" * 300000, b"b" * 300000)
    remove_leftovers(tmp_path, older_than=time.time() + 1)
    assert os.listdir(tmp_path) == ["c.bin"]


def test_remove_says_whether_it_was_there(tmp_path):
    write_durably(tmp_path / "x", b"")
    assert remove_durably(tmp_path / "x")
    assert not remove_durably(tmp_path / "x")
