"""Sends webhooks when a task has ended or its pictures were replaced by larger ones: first an outbox row, then signed
attempts (Standard Webhooks).

1 `outbox.write` runs in the transaction that ends the task or replaces its pictures: both happen or neither.
2 A message on a queue of `webhooks` (messages.py) lets a webhook worker `send`: one attempt, of WEBHOOK_TIMEOUT_S at
  most in all. A user or a host with too many attempts under way (turns.py) is tried again in seconds; that counts as
  none.
3 `due` lists the pending deliveries whose time has come, for which the sweep sends messages. After a crash between the
  POST and its record the POST is repeated with the same webhook-id, by which the receiver recognises the duplicate.

The body is the task as the API shows it. 2xx is success, a redirect is a failure and never followed, 410 disables the
endpoint.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from standardwebhooks import Webhook

from generation.webhooks import turns
from generation.webhooks.models import Delivery, WebhookEndpoint
from imagegenx_site import metrics
from imagegenx_site.http.outbound import HostBusy, OutboundError, post
from imagegenx_site.tracing import spans
from imagegenx_site.tracing.values import TaskSpan

# Waits in s before attempts 2, 3, ...: about a day in all, with jitter (the schedule that Standard Webhooks
# recommends).
BACKOFF_S: Final = (5, 300, 1800, 7200, 18000, 36000, 50400)
_LEASE_S: Final = 30  # of a sender's claim, beyond WEBHOOK_TIMEOUT_S: after a crash it is due again after this time
_PUT_BACK_S: Final = 3  # until a delivery comes again that was not tried because of other attempts
_DUE_PER_USER: Final = 20  # of one look: a user with thousands hides nobody else's

Payload = Callable[[Delivery], Mapping[str, Any]]
_log = logging.getLogger(__name__)


def due(since: UUID | None = None, limit: int = 500) -> dict[int, list[UUID]]:
    """Pending deliveries from the id `since` on whose time has come, the oldest first, by the class of their task; of
    each user the same number at most.
    """
    place = Window(RowNumber(), partition_by=F("endpoint__user_id"), order_by=F("next_at").asc())
    rows = Delivery.objects.filter(state=Delivery.State.PENDING, next_at__lte=timezone.now())
    rows = rows.filter(id__gte=since) if since else rows
    fair = rows.annotate(place=place).filter(place__lte=_DUE_PER_USER).order_by("next_at")
    ids = list(fair.values_list("id", flat=True)[:limit])
    listed = Delivery.objects.filter(pk__in=ids).order_by("next_at")  # by ids: not every day's partition is planned
    found: dict[int, list[UUID]] = {}
    for delivery_id, priority in listed.values_list("id", "task__priority"):
        found.setdefault(priority, []).append(delivery_id)
    return found


def send(delivery_id: UUID, payload: Payload) -> bool:
    """Make one attempt, if the delivery is due and no other sender has claimed it. Returns whether it was accepted."""
    now = timezone.now()
    claimable = Delivery.objects.filter(pk=delivery_id, state=Delivery.State.PENDING, next_at__lte=now)
    if not claimable.update(next_at=now + timedelta(seconds=settings.WEBHOOK_TIMEOUT_S + _LEASE_S)):
        return False
    delivery = Delivery.objects.select_related("task", "endpoint").get(pk=delivery_id)
    try:
        with turns.hold(delivery.endpoint.user_id, delivery.url):
            status, fault = _observed_attempt(delivery, payload(delivery))
    except (turns.NoTurn, HostBusy):
        again = timezone.now() + timedelta(seconds=_PUT_BACK_S * random.uniform(0.7, 1.3))
        Delivery.objects.filter(pk=delivery_id, state=Delivery.State.PENDING).update(next_at=again)
        return False
    return _record(delivery, status, fault)


def _observed_attempt(delivery: Delivery, event: Mapping[str, Any]) -> tuple[int | None, str]:
    """`_attempt`, counted and traced."""
    began = time.time()
    status, fault = _attempt(delivery, event)
    ended = time.time()
    metrics.WEBHOOK.labels(f"{status // 100}xx" if status else "none").observe(max(0.0, ended - began))
    fields: dict[str, str | int] = {"try": delivery.attempts + 1, "event": delivery.event_type}
    if status:
        fields["http.response.status_code"] = status
    spans.record(TaskSpan(delivery.task_id, "webhook", began, ended, fields, fault, kind="client"))
    return status, fault


def _attempt(delivery: Delivery, event: Mapping[str, Any]) -> tuple[int | None, str]:
    """POST once. Returns the status of the answer (None without one), and why the attempt failed ("" if it did not).
    Raises HostBusy.
    """
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
        timeout, allowed = settings.WEBHOOK_TIMEOUT_S, settings.PRIVATE_CALLBACKS
        answer = asyncio.run(post(delivery.url, body, headers, timeout=timeout, allowed=allowed))
    except HostBusy:
        raise
    except OutboundError as error:
        return None, str(error)
    return answer, "" if 200 <= answer < 300 else f"the receiver answered {answer}"


def signature(endpoint: WebhookEndpoint, event_id: str, moment: datetime, body: bytes) -> str:
    """The webhook-signature header: one signature per valid secret. `moment` must be UTC with whole seconds."""
    secrets = [endpoint.secret, *([endpoint.previous_secret] if endpoint.previous_secret else [])]
    return " ".join(Webhook(secret).sign(event_id, moment, body.decode()) for secret in secrets)


def _record(delivery: Delivery, status: int | None, fault: str) -> bool:
    """Record the attempt and schedule the next one, or give the delivery up. Returns whether it succeeded."""
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
        if not fault or gave_up:
            outcome = "given_up" if gave_up else "delivered"
            transaction.on_commit(lambda: metrics.WEBHOOKS_ENDED.labels(outcome).inc())
        _update_endpoint(delivery.endpoint, arrived=not fault, gave_up=gave_up, gone=status == 410)
    if fault:
        _log.info("webhook not delivered", extra={"task_id": str(delivery.task_id), "fault": fault})
    return not fault


def _update_endpoint(endpoint: WebhookEndpoint, *, arrived: bool, gave_up: bool, gone: bool) -> None:
    """Count given-up deliveries. Disables a registered endpoint that answered 410, or with WEBHOOK_GIVE_UP_AFTER
    deliveries given up in a row.
    """
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
