"""The spool, with stores that really fail: a folder that cannot be made, and an S3 address where nobody listens."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import UUID

import pytest
from django.test import AsyncClient

from storage import keys
from storage.errors import ObjectNotFound, SpoolFull
from storage.spool import Spool, SpoolConfig
from storage.store import SpooledStore, Store, get_store, images


def picture(task_id: UUID, index: int) -> tuple[str, bytes]:
    data = os.urandom(1000)
    return keys.image_key(task_id, index, hashlib.sha256(data).hexdigest(), "image/webp"), data


@pytest.fixture
def broken(stores_on_disk: Path):
    """Makes the disk store unusable: a file lies where its folder should be. Call the answer to repair it."""
    wall = stores_on_disk / "media"
    wall.write_bytes(b"")
    return wall.unlink


def test_pictures_are_spooled_while_the_store_fails_and_their_urls_work(broken, task_id):
    store = images()
    key, data = picture(task_id, 0)
    stored = store.put(key, data)
    assert stored.spooled
    assert store.read(key) == data
    assert store.size(key) == len(data)
    assert store.exists(key)
    state = store.spool.state()
    assert (state.files, state.bytes, state.store_down) == (1, len(data), True)

    broken()
    assert store.sync() == 1
    assert not store.spool.has(key)
    assert Store("images", store.driver).read(key) == data
    assert not store.spool.state().store_down
    assert not store.put(*picture(task_id, 1)).spooled


@pytest.mark.asyncio
async def test_the_temporary_url_is_answered(broken, task_id):
    store = images()
    key, data = picture(task_id, 0)
    store.put(key, data)
    answer = await AsyncClient().get(store.url(key, 60))
    assert (answer.status_code, answer.content) == (200, data)


def test_three_tries_then_none_while_the_store_counts_as_down(settings, stores_on_disk, task_id):
    """An S3 address where a socket listens but never answers a request properly: each connection is one try."""
    server = socket.create_server(("127.0.0.1", 0))
    connections = []

    def hang_up() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            connections.append(1)
            peer.close()

    threading.Thread(target=hang_up, daemon=True).start()
    settings.STORAGES = {**settings.STORAGES, "images": s3_at(server.getsockname()[1])}
    store = images()
    assert store.put(*picture(task_id, 0)).spooled
    assert len(connections) == 3
    started = time.monotonic()
    assert store.put(*picture(task_id, 1)).spooled
    assert len(connections) == 3
    assert time.monotonic() - started < 0.2
    assert store.sync() == 0
    assert store.spool.state().files == 2
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def s3_at(port: int) -> dict:
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": "b",
            "endpoint_url": f"http://127.0.0.1:{port}",
            "region_name": "us-east-1",
            "access_key": "a",
            "secret_key": "s",
            "addressing_style": "path",
        },
    }


def test_entries_are_uploaded_in_order_of_arrival(broken, task_id):
    store = images()
    sent = [picture(task_id, index) for index in (3, 1, 2)]
    for key, data in sent:
        store.put(key, data)
    assert store.spool.entries() == [key for key, _ in sent]
    arrived: list[str] = []

    class Recorder:
        def put(self, key: str, data: bytes, content_type: str = "") -> None:
            arrived.append(key)

    store.spool.sync(Recorder())
    assert arrived == [key for key, _ in sent]


def test_the_spool_is_bounded(tmp_path, task_id):
    spool = Spool(SpoolConfig(tmp_path / "s", max_bytes=2500, max_files=100))
    for index in range(2):
        spool.add(*picture(task_id, index))
    with pytest.raises(SpoolFull):
        spool.add(*picture(task_id, 2))
    assert spool.state().full == pytest.approx(0.8)
    spool = Spool(SpoolConfig(tmp_path / "s", max_files=2))
    with pytest.raises(SpoolFull):
        spool.add(*picture(task_id, 2))
    assert spool.state().files == 2


def test_a_failing_entry_does_not_block_the_others(stores_on_disk, task_id):
    """The folder of one task cannot be made in the store; another task's pictures pass it."""
    store = images()
    other = UUID(int=task_id.int + 1)
    bad, good = picture(task_id, 0), picture(other, 0)
    wall = stores_on_disk / "media" / bad[0]
    wall.parent.parent.mkdir(parents=True)
    wall.parent.write_bytes(b"")
    store.spool.add(*bad)
    store.spool.add(*good)
    assert store.sync() == 1
    assert store.spool.entries() == [bad[0]]
    assert store.read(good[0]) == good[1]


def test_only_one_process_synchronises(broken, task_id):
    store = images()
    store.put(*picture(task_id, 0))
    broken()
    inside = threading.Event()
    go_on = threading.Event()

    class Slow:
        def put(self, key: str, data: bytes, content_type: str = "") -> None:
            inside.set()
            assert go_on.wait(10)

    first = threading.Thread(target=store.spool.sync, args=(Slow(),))
    first.start()
    assert inside.wait(10)
    assert store.sync() == 0
    go_on.set()
    first.join()
    assert store.spool.entries() == []


def test_a_deleted_picture_is_gone_from_the_spool_too(stores_on_disk, task_id):
    store = images()
    key, data = picture(task_id, 0)
    store.spool.add(key, data)
    store.delete(key)
    assert not store.exists(key)
    with pytest.raises(ObjectNotFound):
        store.read(key)


def test_kills_at_any_step_lose_and_duplicate_nothing(stores_on_disk, task_id):
    """A process puts pictures into spool and store and synchronises, and is killed at random moments; another goes on.

    It prints a key only after `put` has returned: every printed key must be readable afterwards, with its own bytes,
    once.
    """
    script = (
        "import hashlib, os, sys, random; from pathlib import Path; from uuid import UUID; import django\n"
        "from django.conf import settings\n"
        "settings.configure(SECRET_KEY='x', SPOOL_ROOT=sys.argv[1] + '/spool', SPOOL_MAX_BYTES=1 << 30,\n"
        " ARCHIVE_RESTORE_TIER='Standard', STORAGES={\n"
        " 'images': {'BACKEND': 'django.core.files.storage.FileSystemStorage',\n"
        " 'OPTIONS': {'location': sys.argv[1] + '/media'}}})\n"
        "django.setup()\n"
        "from storage import keys; from storage.store import images\n"
        "store, task = images(), UUID(sys.argv[2])\n"
        "for number in range(10_000):\n"
        "    data = os.urandom(3000); index = random.randrange(1000)\n"
        "    key = keys.image_key(task, index, hashlib.sha256(data).hexdigest(), 'image/webp')\n"
        "    store.spool.add(key, data) if number % 2 else store.put(key, data)\n"
        "    print(key, hashlib.sha256(data).hexdigest(), flush=True)\n"
        "    if number % 5 == 4: store.sync()\n"
    )
    promised: dict[str, str] = {}  # key: SHA-256
    for run in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(stores_on_disk), str(task_id)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(3 + run * 3):
            key, digest = process.stdout.readline().split()
            promised[key] = digest
        time.sleep(0.003 * run)
        process.kill()
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                key, digest = line.split()
                promised[key] = digest
        process.wait()
        process.stdout.close()
    store = images()
    store.sync()
    assert store.spool.entries() == []
    plain = Store("images", store.driver)
    assert len(promised) > 30
    for key, digest in promised.items():
        assert hashlib.sha256(plain.read(key)).hexdigest() == digest


def test_the_spool_belongs_to_images_only():
    assert isinstance(get_store("images"), SpooledStore)
    assert not isinstance(get_store("raw"), SpooledStore)
