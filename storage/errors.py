"""What can go wrong with stored bytes, sorted by who should act.

StorageError
├── BadKey             a programming error or a forged request: the key is not of our scheme
├── NotFound           nothing under this key, here or in the spool
├── Archived           it is there, but the archive must bring it back first; `ready_at` says when to ask again
├── NeedsRestore       the store has it in a class that is read only after a restore call (Driver.restore)
└── StoreUnavailable   retry: the store did not answer, answered with an error, or is full
    ├── VerifyFailed   what came back is not what was sent (half-written, changed on the way)
    └── SpoolFull      neither the store nor the local spool can take the bytes
"""

import math
from datetime import UTC, datetime


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

    @property
    def retry_after(self) -> int:
        """Seconds from now until `ready_at`, at least one."""
        return max(1, math.ceil((self.ready_at - datetime.now(UTC)).total_seconds()))


class NeedsRestore(StorageError):
    retryable = True

    def __init__(self, key: str) -> None:
        super().__init__(f"{key!r} lies in a class of the store that must restore it before it is read.")
        self.key = key


class StoreUnavailable(StorageError):
    retryable = True


class VerifyFailed(StoreUnavailable):
    pass


class SpoolFull(StoreUnavailable):
    pass
