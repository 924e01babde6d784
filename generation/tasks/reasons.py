"""Why a row moved: in each entry of its history a code for programs beside a sentence for people."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

MAX_REASON_CHARS = 300  # characters of a sentence


class Code(StrEnum):
    """Codes of the moves back to `queued` and of operators. An entry to `failed` has the task's error code instead."""

    INFERENCE_FAILED = "inference_failed"
    FELL_BACK = "fell_back"  # another model stands in for the one that failed twice
    DEVICE_LOST = "device_lost"  # the device or the engine failed under it and its batch
    DEVICE_LOST_ALONE = "device_lost_alone"  # ... while it ran alone
    WORKER_LOST = "worker_lost"
    PAUSED_MEMORY = "paused_memory"  # paused work held too much memory
    STOPPED = "stopped"  # its worker was stopped
    NOT_STORED = "not_stored"  # its pictures could not be kept
    NO_HOLDER = "no_holder"  # running by its row, held by no worker
    PRIORITY_CHANGED = "priority_changed"


@dataclass(frozen=True)
class Reason:
    """`model` is the name of the one that stands in, `cause` the sentence about why, both of FELL_BACK only."""

    code: str
    text: str
    model: str = ""
    cause: str = ""

    def entry(self) -> dict[str, str]:
        """As it stands in a row's history."""
        named = {"reason": self.text[:MAX_REASON_CHARS], **asdict(self), "cause": self.cause[:MAX_REASON_CHARS]}
        return {name: str(value) for name, value in named.items() if value and name != "text"}


def codes(history: Iterable[Mapping[str, Any]]) -> list[str]:
    """The code of each entry, in order; "" where there is none, as in all that were written before there were codes."""
    return [str(entry.get("code", "")) for entry in history]
