"""Webhook endpoints, deliveries and their attempts."""

import base64
import secrets

from django.db import models
from django.utils import timezone

from imagegenx_site.ids import uuid7


def new_secret() -> str:
    """A signing secret in the form of Standard Webhooks: `whsec_` and base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class WebhookEndpoint(models.Model):
    """A URL that a user registered, or the account's default endpoint (empty URL), whose secret signs the deliveries to
    a `callback_url`.
    """

    user = models.ForeignKey("generation.User", on_delete=models.CASCADE, related_name="webhook_endpoints")
    url = models.CharField(max_length=2000, blank=True)
    secret = models.CharField(max_length=100, default=new_secret)
    previous_secret = models.CharField(
        max_length=100, blank=True, help_text="Signs beside the new one after a rotation."
    )
    events = models.JSONField(default=list, blank=True, help_text="Empty: all.")
    given_up = models.PositiveSmallIntegerField(default=0, help_text="Events given up since the last that arrived.")
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "url"], name="webhook_once")]

    def __str__(self) -> str:
        return self.url or f"callbacks of {self.user}"


class Delivery(models.Model):
    """One event for one URL: written in the transaction that ends the task or replaces its pictures, then sent and
    retried until it succeeds or is given up.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        GIVEN_UP = "given_up"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    task = models.ForeignKey("generation.Task", on_delete=models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    event_id = models.CharField(max_length=64, help_text="The webhook-id header: the same at every attempt.")
    event_type = models.CharField(max_length=40)
    url = models.CharField(max_length=2000)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(default=timezone.now)
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    log = models.JSONField(default=list, blank=True, help_text="Time, status and fault of each attempt.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["next_at"], name="delivery_due", condition=models.Q(state="pending")),
            models.Index(fields=["task"], name="delivery_task"),
        ]
