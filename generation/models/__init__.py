"""The tables of the product."""

from generation.models.accounts import ApiKey, Plan, Team, User
from generation.models.alerts import Alert
from generation.models.catalogue import ImageModel, Lora, Style
from generation.models.policy import BlockedTerm, PolicyProfile, PolicyRefusal
from generation.models.tasks import GIVEN_UP, OPEN, TERMINAL, Batch, IdempotencyKey, Image, Status, Task
from generation.models.usage import UsageDay
from generation.models.webhooks import Delivery, WebhookEndpoint

__all__ = [
    "ApiKey",
    "Plan",
    "Team",
    "User",
    "Alert",
    "ImageModel",
    "Lora",
    "Style",
    "BlockedTerm",
    "PolicyProfile",
    "PolicyRefusal",
    "GIVEN_UP",
    "OPEN",
    "TERMINAL",
    "Batch",
    "IdempotencyKey",
    "Image",
    "Status",
    "Task",
    "UsageDay",
    "Delivery",
    "WebhookEndpoint",
]
