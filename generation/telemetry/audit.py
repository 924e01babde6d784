"""Which tables are audited: one entry for each saved or deleted row, with the values before and after.

Written by django-auditlog. Tasks and deliveries are not among them: the product moves them, and each carries its own
history. Columns that hold secrets, or that the product counts up by itself, are left out.
"""

from typing import Final

from auditlog.registry import auditlog
from django.db import models

from generation.accounts.models import ApiKey, Plan, Team, User
from generation.catalogue.models import ImageModel, Lora, Style
from generation.policy.models import BlockedTerm, PolicyProfile
from generation.webhooks.models import WebhookEndpoint

AUDITED: Final[dict[type[models.Model], list[str]]] = {
    ApiKey: ["digest", "last_used_at"],
    BlockedTerm: [],
    ImageModel: ["updated_at"],
    Lora: ["uses"],
    Plan: [],
    PolicyProfile: [],
    Style: [],
    Team: [],
    User: ["password", "last_login"],
    WebhookEndpoint: ["secret", "previous_secret", "given_up"],
}


def connect() -> None:
    """Begin to watch the tables; called once, when the process starts."""
    for model, left_out in AUDITED.items():
        auditlog.register(model, exclude_fields=left_out)
