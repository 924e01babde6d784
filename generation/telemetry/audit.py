"""The audited tables: django-auditlog writes an entry with the values before and after for each saved or deleted row.

Tasks and deliveries are not audited: only the product changes them, and each row has its own history. Columns with
secrets, or with values that the product counts, are left out.
"""

from typing import Final

from auditlog.registry import auditlog
from django.db import models

from generation.accounts.models import ApiKey, ExternalLogin, Plan, SecondFactor, Team, User
from generation.catalogue.models import ImageModel, Lora, ModelImport, Style
from generation.policy.models import BlockedTerm, PolicyProfile
from generation.webhooks.models import WebhookEndpoint

AUDITED: Final[dict[type[models.Model], list[str]]] = {
    ApiKey: ["digest", "last_used_at"],
    BlockedTerm: [],
    ExternalLogin: [],
    ImageModel: ["updated_at"],
    Lora: ["uses"],
    ModelImport: ["state", "note", "at"],
    Plan: [],
    PolicyProfile: [],
    SecondFactor: ["secret", "last_step", "recovery"],
    Style: [],
    Team: [],
    User: ["password", "last_login"],
    WebhookEndpoint: ["secret", "previous_secret", "given_up"],
}


def register_tables() -> None:
    """Called once, when the process starts."""
    for model, left_out in AUDITED.items():
        auditlog.register(model, exclude_fields=left_out)
