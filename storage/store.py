"""Stores: put (proved), open, exists, delete, url, list, over the two aliases "images" and "raw" of
`settings.STORAGES`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from django.core.files.storage import storages

from storage import keys
from storage.drivers import Driver, Listed, driver_for
from storage.errors import NotFound


@dataclass(frozen=True)
class Stored:
    """An object as it now lies in its store. `size` in bytes, `sha256` in hex."""

    key: str
    size: int
    sha256: str
    content_type: str


class Store:
    """One place for objects. Keys are checked against the scheme of storage/keys.py; every method raises
    StorageError only.
    """

    def __init__(self, name: str, driver: Driver) -> None:
        self.name = name
        self.driver = driver

    def put(self, key: str, data: bytes, content_type: str = "") -> Stored:
        """Store `data` and return when it is proved to lie there, whole. The same key with the same bytes may be put
        again.
        """
        content_type = content_type or keys.content_type(key)
        self.driver.write(keys.check(key), data, content_type)
        self.driver.prove(key, data)
        return Stored(key, len(data), hashlib.sha256(data).hexdigest(), content_type)

    def open(self, key: str) -> BinaryIO:
        """A binary file to read from and close. Raises NotFound."""
        return self.driver.open(keys.check(key))

    def read(self, key: str) -> bytes:
        with self.open(key) as file:
            return file.read()

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def size(self, key: str) -> int:
        """Size in bytes. Raises NotFound."""
        return self.driver.size(keys.check(key))

    def delete(self, key: str) -> None:
        """Delete; nothing happens when it is not there."""
        self.driver.delete(keys.check(key))

    def url(self, key: str, seconds: int) -> str:
        """An address where anybody can read the object for `seconds` from now. A path of this server for stores on
        local disk.
        """
        return self.driver.url(keys.check(key), seconds)

    def list(self, prefix: str) -> Iterator[Listed]:
        """Objects whose keys start with `prefix`, in the order of their keys on disk and S3."""
        return self.driver.list(prefix)


def get_store(name: str) -> Store:
    """The store "images" or "raw", as the settings define it now."""
    return Store(name, driver_for(storages[name]))
