"""The tables of the product."""

from generation.models.accounts import ApiKey, Plan, Team, User
from generation.models.catalogue import ImageModel, Lora, Style
from generation.models.tasks import OPEN, TERMINAL, Batch, IdempotencyKey, Image, Status, Task
from generation.models.webhooks import Delivery, WebhookEndpoint

__all__ = [
    "ApiKey",
    "Plan",
    "Team",
    "User",
    "ImageModel",
    "Lora",
    "Style",
    "OPEN",
    "TERMINAL",
    "Batch",
    "IdempotencyKey",
    "Image",
    "Status",
    "Task",
    "Delivery",
    "WebhookEndpoint",
]
