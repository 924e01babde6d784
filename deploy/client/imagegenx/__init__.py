"""Client of ImageGenX, a self-hosted image generation service."""

from imagegenx.async_client import AsyncClient
from imagegenx.bodies import Batch, Key, Lora, Model, Output, Price, Style, Task, Usage
from imagegenx.client import Client
from imagegenx.errors import (
    ApiError,
    Archived,
    Conflict,
    ConnectionFailed,
    Fault,
    Forbidden,
    HashMismatch,
    ImageGenXError,
    InvalidRequest,
    NotConfigured,
    NotFound,
    RateLimited,
    ServerFault,
    TaskFailed,
    Unauthorised,
    WaitTimeout,
    WebhookError,
)
from imagegenx.event_streams import Event
from imagegenx.retries import Retries
from imagegenx.transport import VERSION as __version__
from imagegenx.webhooks import WebhookEvent, verify_webhook

__all__ = [
    "AsyncClient",
    "Client",
    "Retries",
    "Batch",
    "Event",
    "Key",
    "Lora",
    "Model",
    "Output",
    "Price",
    "Style",
    "Task",
    "Usage",
    "verify_webhook",
    "WebhookEvent",
    "ApiError",
    "Archived",
    "Conflict",
    "ConnectionFailed",
    "Fault",
    "Forbidden",
    "HashMismatch",
    "ImageGenXError",
    "InvalidRequest",
    "NotConfigured",
    "NotFound",
    "RateLimited",
    "ServerFault",
    "TaskFailed",
    "Unauthorised",
    "WaitTimeout",
    "WebhookError",
    "__version__",
]
