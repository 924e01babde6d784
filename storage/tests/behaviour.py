"""What every store must do, whatever lies below it. Called with a store of each kind."""

import hashlib
import os

import pytest

from storage import keys
from storage.errors import BadKey, ObjectNotFound
from storage.store import Store


def check_store(store: Store, task_id) -> None:
    """Put, read, list, size, repeat and delete; keys outside the scheme are refused."""
    data = os.urandom(70_000)
    digest = hashlib.sha256(data).hexdigest()
    key = keys.image_key(task_id, 0, digest, "image/webp")
    other = keys.image_key(task_id, 1, digest, "image/png")
    stored = store.put(key, data)
    assert (stored.key, stored.size, stored.sha256, stored.content_type) == (key, len(data), digest, "image/webp")
    assert not stored.spooled
    store.put(other, b"x")
    store.put(key, data)
    assert store.exists(key)
    assert store.size(key) == len(data)
    assert store.read(key) == data
    with store.open(key) as file:
        assert file.read(10) + file.read(5) == data[:15]
    assert [(found.key, found.size) for found in store.list("images/")] == [(key, len(data)), (other, 1)]
    assert list(store.list("thumbs/")) == []
    for _ in range(2):
        store.delete(key)
        assert not store.exists(key)
    with pytest.raises(ObjectNotFound):
        store.read(key)
    with pytest.raises(ObjectNotFound):
        store.open(key)
    for bad in ("../x", "images/x"):
        with pytest.raises(BadKey):
            store.put(bad, b"")
    store.delete(other)
    assert list(store.list("")) == []
