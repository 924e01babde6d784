"""The events that a webhook endpoint can ask for."""

from typing import Final

SUCCEEDED: Final = "task.succeeded"
FAILED: Final = "task.failed"
CANCELED: Final = "task.canceled"
EXPIRED: Final = "task.expired"
UPDATED: Final = "task.updated"  # of a succeeded task: the larger version is there, or will not come
EVENTS: Final = (SUCCEEDED, FAILED, CANCELED, EXPIRED, UPDATED)
