"""Every error of the client, one tree.

ImageGenXError
+-- ApiError            the server refused: status, code, message, faults, request_id, retry_after
|   +-- InvalidRequest  400, 413, 415, 422: something is wrong with the request; `faults` names every field
|   +-- Unauthorised    401: no key, or one that is not valid
|   +-- Forbidden       403: the plan or the key's scopes do not allow it
|   +-- NotFound        404, 410
|   +-- Conflict        409: not in this state
|   +-- RateLimited     429: a limit of the plan
|   +-- ServerFault     5xx
+-- ConnectionFailed    no answer, after all tries
+-- TaskFailed          the task ended without a picture; `task` says why
+-- WaitTimeout         the task has not ended in time; it goes on
+-- Archived            the picture comes back from the archive later; `retry_after`
+-- HashMismatch        a download is not what the server says it is; no file is left
+-- NotConfigured       no address or key
+-- WebhookError        a webhook's signature is wrong, or too old
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from imagegenx.bodies import Task


class ImageGenXError(Exception):
    """What this package raises."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a request: `field` is its path, such as `params.steps`; empty for the whole."""

    field: str
    code: str
    message: str


class ApiError(ImageGenXError):
    """The server refused. `code` is the first fault's word for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        faults: tuple[Fault, ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.faults = status, message, faults
        self.request_id, self.retry_after = request_id, retry_after
        self.code = faults[0].code if faults else f"http_{status}"

    def __str__(self) -> str:
        lines = [f"{fault.field}: {fault.message}" for fault in self.faults if fault.field]
        return "\n  ".join([self.message, *lines])


class InvalidRequest(ApiError):
    """Something is wrong with the request."""


class Unauthorised(ApiError):
    """No key, or one that is not valid."""


class Forbidden(ApiError):
    """The plan or the key's scopes do not allow it."""


class NotFound(ApiError):
    """Not there, or another user's."""


class Conflict(ApiError):
    """The state of things does not allow it now."""


class RateLimited(ApiError):
    """A limit of the plan; `retry_after` seconds."""


class ServerFault(ApiError):
    """The server broke, or has no room."""


class ConnectionFailed(ImageGenXError):
    """No answer, after all tries."""


class TaskFailed(ImageGenXError):
    """The task ended without a picture."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.code = task.error.code if task.error else task.status
        super().__init__(task.error.message if task.error else f"The task was {task.status}.")


class WaitTimeout(ImageGenXError):
    """The task has not ended in time; it goes on."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"{task_id} has not ended in time; it goes on.")


class Archived(ImageGenXError):
    """The picture comes back from the archive in `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"The picture comes back from the archive; ask again in {retry_after:g} s.")


class HashMismatch(ImageGenXError):
    """A download is not what the server says it is."""


class NotConfigured(ImageGenXError):
    """No address or key."""


class WebhookError(ImageGenXError):
    """A webhook's signature is wrong, or too old."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorised,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}


def error_of(response: httpx.Response) -> ApiError:
    """A refused answer as an error; also of answers that a proxy made."""
    kind = _BY_STATUS.get(response.status_code, ServerFault if response.status_code >= 500 else ApiError)
    body = _json(response)
    data = body.get("data") if isinstance(body.get("data"), dict) else {}
    faults = tuple(
        Fault(str(one.get("field") or ""), str(one.get("code") or ""), str(one.get("message") or ""))
        for one in (data or {}).get("errors") or ()
        if isinstance(one, dict)
    )
    message = str(body.get("message") or f"The server answered {response.status_code} {response.reason_phrase}.")
    if response.is_redirect:
        message += f" It points to {response.headers.get('Location')}: is that the right address?"
    request_id = response.headers.get("X-Request-Id") or (data or {}).get("request_id")
    return kind(response.status_code, message, faults, request_id, retry_after_of(response))


def retry_after_of(response: httpx.Response) -> float | None:
    """Seconds of `Retry-After`, which may be a number or a date."""
    text = response.headers.get("Retry-After", "")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return None


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
