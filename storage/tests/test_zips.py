import io
import os
import tracemalloc
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import keys
from storage.errors import StoreUnavailable
from storage.store import SpooledStore, images
from storage.zips import REPORT, ZipEntry, measured, safe_name, stream_zip, zip_length


def key_of(task_id, index: int) -> str:
    return keys.image_key(task_id, index, "ab" * 32, "image/webp")


def unpacked(chunks) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(b"".join(chunks)))
    assert archive.testzip() is None
    return archive


def test_zipped_pictures_are_unchanged(task_id):
    store = images()
    contents = [os.urandom(1000 * index) for index in range(4)]
    for index, data in enumerate(contents):
        store.put(key_of(task_id, index), data)
    archive = unpacked(
        stream_zip(store, [ZipEntry(f"红狐狸 {index}.webp", key_of(task_id, index)) for index in range(4)])
    )
    assert archive.namelist() == [f"红狐狸 {index}.webp" for index in range(4)]
    assert [archive.read(name) for name in archive.namelist()] == contents
    assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def test_missing_objects_are_reported_inside(task_id):
    store = images()
    store.put(key_of(task_id, 1), b"here")
    archive = unpacked(stream_zip(store, [ZipEntry(f"{index}.webp", key_of(task_id, index)) for index in range(3)]))
    assert archive.namelist() == ["1.webp", REPORT]
    report = archive.read(REPORT).decode()
    assert "0.webp\tno longer stored" in report
    assert "2.webp\tno longer stored" in report


def test_the_length_is_known_before_the_first_byte(task_id):
    store = images()
    for index in range(3):
        store.put(key_of(task_id, index), os.urandom(1000 * index))
    entries = [ZipEntry("雪 same.webp", key_of(task_id, index)) for index in range(3)]
    known = measured(store, entries)
    assert [entry.size for entry in known] == [0, 1000, 2000]
    written = b"".join(stream_zip(store, known, sized=True))
    assert len(written) == zip_length(known)
    assert [info.file_size for info in unpacked([written]).infolist()] == [0, 1000, 2000]


def test_no_length_is_promised_for_missing_objects(task_id):
    store = images()
    store.put(key_of(task_id, 0), b"here")
    assert measured(store, [ZipEntry("a.webp", key_of(task_id, 0)), ZipEntry("b.webp", key_of(task_id, 1))]) is None


@pytest.mark.parametrize(
    ("name", "noted"), [("雪 b.webp", "雪 b_.txt"), ("b.png", "b.txt"), ("b", "b"), ("b.a.jpeg", "b.a_.txt")]
)
def test_an_object_deleted_after_the_length_was_promised_is_replaced_by_a_text(task_id, name, noted):
    store = images()
    for index in range(3):
        store.put(key_of(task_id, index), os.urandom(300_000))
    names = ["a.webp", name, "c.webp"]
    known = measured(store, [ZipEntry(each, key_of(task_id, index)) for index, each in enumerate(names)])
    written = b""
    for chunk in stream_zip(store, known, sized=True):
        written += chunk
        store.delete(key_of(task_id, 1))  # while the first one is under way
    archive = unpacked([written])
    assert len(written) == zip_length(known)
    assert archive.namelist() == ["a.webp", noted, "c.webp"]
    text = archive.read(noted)
    assert text.decode().strip() == f"{name} could not be included: no longer stored."
    assert [info.file_size for info in archive.infolist()] == [300_000] * 3


def test_an_object_with_another_size_than_announced_is_refused(task_id):
    store = images()
    store.put(key_of(task_id, 0), b"x" * 500)
    entries = [ZipEntry("a.webp", key_of(task_id, 0), 400)]
    written = b"".join(stream_zip(store, entries, sized=True))
    assert len(written) == zip_length(entries)
    assert unpacked([written]).namelist() == ["a_.txt"]


class Interrupted(io.RawIOBase):
    """A file that breaks after `good` bytes, as a lost connection does."""

    def __init__(self, data: bytes, good: int) -> None:
        self._data, self._good = io.BytesIO(data), good

    def read(self, size: int = -1) -> bytes:
        if self._data.tell() >= self._good:
            raise StoreUnavailable("connection lost")
        return self._data.read(min(size, self._good - self._data.tell()))


@pytest.mark.parametrize("failures", [1, 2])
def test_an_interrupted_read_is_resumed_once(task_id, monkeypatch, failures):
    store = images()
    data = os.urandom(700_000)
    store.put(key_of(task_id, 0), data)
    store.put(key_of(task_id, 1), b"next")
    opened = []

    def open_badly(self: SpooledStore, key: str):
        opened.append(key)
        if key == key_of(task_id, 0) and opened.count(key) <= failures:
            return Interrupted(data, 300_000 + 50_000 * opened.count(key))
        return original_open(self, key)

    original_open = type(store).open
    monkeypatch.setattr(type(store), "open", open_badly)
    archive = unpacked(
        stream_zip(store, [ZipEntry("a.webp", key_of(task_id, 0)), ZipEntry("b.webp", key_of(task_id, 1))])
    )
    assert archive.read("b.webp") == b"next"
    if failures == 1:
        assert archive.read("a.webp") == data
        assert REPORT not in archive.namelist()
    else:
        assert archive.namelist() == ["b.webp", REPORT], "no half of a picture"
        assert "a.webp\tthe store did not answer" in archive.read(REPORT).decode()


def test_thousands_of_files_in_constant_memory(task_id):
    store = images()
    store.put(key_of(task_id, 0), os.urandom(100_000))
    entries = (ZipEntry(f"{number:05d}.webp", key_of(task_id, 0)) for number in range(3000))
    total = 0
    tracemalloc.start()
    for chunk in stream_zip(store, entries):
        total += len(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 300_000_000
    assert peak < 12_000_000


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("雪中的红狐狸/a: b?.webp", "雪中的红狐狸_a_ b_.webp"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\x\\y.png", "C__x_y.png"),
        ("con.webp", "image con.webp"),
        ("\u202egpj.exe\u0000", "gpj.exe"),
        ("", "image"),
        ("   .  ", "image"),
        ("e\u0301.png", "é.png"),
        ("字" * 200 + ".webp", "字" * 26 + ".webp"),
    ],
)
def test_names(name, safe):
    assert safe_name(name) == safe


@given(st.text(max_size=300))
def test_every_name_is_safe(text):
    name = safe_name(text)
    assert name
    assert len(name.encode()) <= 100
    assert not set(name) & set('<>:"/\\|?*\0\n')
    assert not name.startswith((".", " "))
    assert safe_name(name) == name


def test_equal_names_get_numbers(task_id):
    store = images()
    store.put(key_of(task_id, 0), b"x")
    archive = unpacked(
        stream_zip(store, [ZipEntry(name, key_of(task_id, 0)) for name in ("a.webp", "A.webp", "a.webp", "b")])
    )
    assert archive.namelist() == ["a.webp", "A (2).webp", "a (3).webp", "b"]
