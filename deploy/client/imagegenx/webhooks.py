"""Verification of webhooks, which are signed as the Standard Webhooks specification says."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagegenx.bodies import Task, read
from imagegenx.errors import WebhookError

TOLERANCE_S = 300.0


@dataclass(frozen=True)
class WebhookEvent:
    """`id` is the same when an event is sent again. `type`: task.succeeded, task.failed, ..."""

    id: str
    type: str
    task: Task
    raw: Mapping[str, Any]


def verify_webhook(
    body: bytes | str, headers: Mapping[str, str], secret: str, *, tolerance_s: float = TOLERANCE_S
) -> WebhookEvent:
    """The event of a request, if it was signed with `secret` (`whsec_…`) at most `tolerance_s` ago. `body`: as it
    came, not parsed and written again. Raises WebhookError.
    """
    content = body.encode() if isinstance(body, str) else body
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        event_id, moment = lower["webhook-id"], lower["webhook-timestamp"]
        signatures = lower["webhook-signature"].split()
        age = abs(time.time() - int(moment))
    except (KeyError, ValueError) as error:
        raise WebhookError("The request has not the headers of a signed webhook.") from error
    if age > tolerance_s:
        raise WebhookError(f"The webhook was signed {age:.0f} s ago: it may be a repetition.")
    proof = _signature(secret, f"{event_id}.{moment}.".encode() + content)
    if not any(hmac.compare_digest(proof, given.encode()) for given in signatures):
        raise WebhookError("The signature is not of this secret and body.")
    try:
        event = json.loads(content)
        return WebhookEvent(event_id, event["type"], read(Task, event["data"]), event)
    except (ValueError, KeyError, TypeError) as error:
        raise WebhookError(f"The body is no event: {error}.") from error


def _signature(secret: str, content: bytes) -> bytes:
    prefix = "whsec_"
    try:
        key = base64.b64decode(secret[len(prefix) :] if secret.startswith(prefix) else secret)
    except binascii.Error as error:
        raise WebhookError("The secret is not of the form whsec_… (base64).") from error
    return b"v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest())
