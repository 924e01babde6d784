"""What can go wrong with stored bytes, sorted by who should act.

StorageError
├── BadKey             a programming error or a forged request: the key is not of our scheme
├── NotFound           nothing under this key, here or in the spool
├── Archived           it is there, but the archive must bring it back first; `ready_at` says when to ask again
└── StoreUnavailable   retry: the store did not answer, answered with an error, or is full
    ├── VerifyFailed   what came back is not what was sent (half-written, changed on the way)
    └── SpoolFull      neither the store nor the local spool can take the bytes
"""

from datetime import datetime


class StorageError(Exception):
    """Any failure of this package. `retryable` says whether the same call may work later."""

    retryable = False


class BadKey(StorageError):
    pass


class NotFound(StorageError):
    def __init__(self, key: str) -> None:
        super().__init__(f"Nothing is stored under {key!r}.")
        self.key = key


class Archived(StorageError):
    retryable = True

    def __init__(self, key: str, ready_at: datetime) -> None:
        super().__init__(
            f"{key!r} is being brought back from the archive; ask again after {ready_at:%Y-%m-%dT%H:%M:%SZ}."
        )
        self.key = key
        self.ready_at = ready_at


class StoreUnavailable(StorageError):
    retryable = True


class VerifyFailed(StoreUnavailable):
    pass


class SpoolFull(StoreUnavailable):
    pass
