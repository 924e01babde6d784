"""Telling the client's server that a task ended, or that its pictures were replaced by larger ones: an outbox row
first, signed attempts afterwards (Standard Webhooks).

1 `outbox.write` runs in the transaction that ends the task (or its late step), so an end and its delivery exist
together or not at all.
2 `due` lists the rows whose time has come, `send` posts one. A crash between post and note repeats the post with
  the same webhook-id, which the receiver uses to drop the second.

The body is the task as the API shows it. 2xx is success, a redirect is a failure and never followed, 410 disables the
endpoint.
"""

import json
import logging
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from standardwebhooks import Webhook

from generation.webhooks.models import Delivery, WebhookEndpoint
from imagegenx_site.outbound_http import OutboundError, post

# Waits in s before attempts 2, 3, ...: about a day in all, with jitter (the schedule that Standard Webhooks
# recommends).
BACKOFF_S: Final = (5, 300, 1800, 7200, 18000, 36000, 50400)
_LEASE_S: Final = 60  # a row taken for sending is left alone for so long; a crashed sender's row comes back after it

Payload = Callable[[Delivery], Mapping[str, Any]]
_log = logging.getLogger(__name__)


def due(limit: int = 100) -> list[UUID]:
    """Deliveries whose time has come."""
    rows = Delivery.objects.filter(state=Delivery.State.PENDING, next_at__lte=timezone.now()).order_by("next_at")
    return list(rows.values_list("id", flat=True)[:limit])


def send(delivery_id: UUID, payload: Payload) -> bool:
    """Make one attempt, when it is due and nobody else is at it. Answers whether the receiver took it."""
    now = timezone.now()
    mine = Delivery.objects.filter(pk=delivery_id, state=Delivery.State.PENDING, next_at__lte=now)
    if not mine.update(next_at=now + timedelta(seconds=_LEASE_S)):
        return False
    delivery = Delivery.objects.select_related("task", "endpoint").get(pk=delivery_id)
    status, fault = _attempt(delivery, payload(delivery))
    return _note(delivery, status, fault)


def _attempt(delivery: Delivery, event: Mapping[str, Any]) -> tuple[int | None, str]:
    """Post it once: the status of the answer and, when there was none, why."""
    body = json.dumps(event, ensure_ascii=False).encode()
    moment = datetime.now(UTC).replace(microsecond=0)
    headers = {
        "content-type": "application/json",
        "user-agent": "ImageGenX-Webhooks/1",
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature(delivery.endpoint, delivery.event_id, moment, body),
    }
    try:
        answer = post(
            delivery.url, body, headers, timeout=settings.WEBHOOK_TIMEOUT_S, allowed=settings.PRIVATE_CALLBACKS
        )
    except OutboundError as error:
        return None, str(error)
    return answer, "" if 200 <= answer < 300 else f"the receiver answered {answer}"


def signature(endpoint: WebhookEndpoint, event_id: str, moment: datetime, body: bytes) -> str:
    """The webhook-signature header: one signature for each living secret. `moment` must be UTC with whole seconds."""
    secrets = [endpoint.secret, *([endpoint.previous_secret] if endpoint.previous_secret else [])]
    return " ".join(Webhook(secret).sign(event_id, moment, body.decode()) for secret in secrets)


def _note(delivery: Delivery, status: int | None, fault: str) -> bool:
    """Write the outcome down and decide what follows."""
    now = timezone.now()
    entry = {"at": now.isoformat(timespec="milliseconds"), "status": status, "fault": fault}
    changes: dict[str, Any] = {
        "attempts": delivery.attempts + 1,
        "response_status": status,
        "log": [*delivery.log, entry],
    }
    gave_up = False
    if not fault:
        changes |= {"state": Delivery.State.DELIVERED, "delivered_at": now}
    elif status == 410 or delivery.attempts >= len(BACKOFF_S):
        gave_up = True
        changes |= {"state": Delivery.State.GIVEN_UP}
    else:
        changes |= {"next_at": now + timedelta(seconds=BACKOFF_S[delivery.attempts] * random.uniform(0.9, 1.2))}
    with transaction.atomic():
        Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.PENDING).update(**changes)
        _judge(delivery.endpoint, arrived=not fault, gave_up=gave_up, gone=status == 410)
    if fault:
        _log.info("webhook not delivered", extra={"task_id": str(delivery.task_id), "fault": fault})
    return not fault


def _judge(endpoint: WebhookEndpoint, *, arrived: bool, gave_up: bool, gone: bool) -> None:
    """Disable a registered endpoint that is gone, or at which WEBHOOK_GIVE_UP_AFTER events in a row were given up."""
    row = WebhookEndpoint.objects.filter(pk=endpoint.pk)
    if arrived:
        row.exclude(given_up=0).update(given_up=0)
    elif gave_up:
        row.update(given_up=F("given_up") + 1)
    failing = row.exclude(url="").filter(disabled_at=None)
    if gone:
        failing.update(disabled_at=timezone.now(), disabled_reason="the receiver answered 410 Gone")
    elif gave_up:
        reason = f"{settings.WEBHOOK_GIVE_UP_AFTER} events in a row could not be delivered"
        failing = failing.filter(given_up__gte=settings.WEBHOOK_GIVE_UP_AFTER)
        failing.update(disabled_at=timezone.now(), disabled_reason=reason)
