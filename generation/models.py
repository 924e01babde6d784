"""The tables of the product."""

from generation.accounts.models import ApiKey, ExternalLogin, Plan, Role, SecondFactor, Team, User
from generation.catalogue.models import ImageModel, Lora, ModelImport, ModelPreset, Style
from generation.policy.models import BlockedTerm, PolicyProfile, PolicyRefusal
from generation.tasks.models import (
    OPEN,
    OWNER_GIVEN_UP,
    TERMINAL,
    Batch,
    Board,
    BoardPicture,
    IdempotencyKey,
    Image,
    Status,
    Task,
    UsageDay,
)
from generation.telemetry.job_leases import JobLease
from generation.telemetry.models import Alert
from generation.webhooks.models import Delivery, WebhookEndpoint

__all__ = [
    "ApiKey",
    "ExternalLogin",
    "SecondFactor",
    "Plan",
    "Role",
    "Team",
    "User",
    "Alert",
    "ImageModel",
    "Lora",
    "ModelImport",
    "ModelPreset",
    "Style",
    "BlockedTerm",
    "PolicyProfile",
    "PolicyRefusal",
    "OWNER_GIVEN_UP",
    "OPEN",
    "TERMINAL",
    "Batch",
    "Board",
    "BoardPicture",
    "IdempotencyKey",
    "Image",
    "JobLease",
    "Status",
    "Task",
    "UsageDay",
    "Delivery",
    "WebhookEndpoint",
]
