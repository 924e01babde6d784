"""Errors of storage, sorted by who should act.

StorageError
├── BadKey             a programming error or a forged request: the key is not in the scheme of keys.py
├── ObjectNotFound     nothing under this key, here or in the spool
├── Archived           in the archive, its return was requested; `ready_at` says when to retry
├── NeedsRestore       in a storage class that must be restored before it is read (Driver.restore)
└── StoreUnavailable   retry: the store did not answer, answered with an error, or is full
    ├── VerifyFailed   the stored bytes are not those that were sent
    └── SpoolFull      neither the store nor the local spool can take the bytes
"""

import math
from datetime import UTC, datetime


class StorageError(Exception):
    """`retryable`: whether the same call may succeed later."""

    retryable = False


class BadKey(StorageError):
    pass


class ObjectNotFound(StorageError):
    def __init__(self, key: str) -> None:
        super().__init__(f"Nothing is stored under {key!r}.")
        self.key = key


class Archived(StorageError):
    retryable = True

    def __init__(self, key: str, ready_at: datetime) -> None:
        super().__init__(f"{key!r} is being restored from the archive; retry after {ready_at:%Y-%m-%dT%H:%M:%SZ}.")
        self.key = key
        self.ready_at = ready_at

    @property
    def retry_after(self) -> int:
        """Seconds from now until `ready_at`, at least one."""
        return max(1, math.ceil((self.ready_at - datetime.now(UTC)).total_seconds()))


class NeedsRestore(StorageError):
    retryable = True

    def __init__(self, key: str) -> None:
        super().__init__(f"{key!r} is in a storage class that must be restored before it is read.")
        self.key = key


class StoreUnavailable(StorageError):
    retryable = True


class VerifyFailed(StoreUnavailable):
    pass


class SpoolFull(StoreUnavailable):
    pass
