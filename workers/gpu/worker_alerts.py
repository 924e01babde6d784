"""The alert of a GPU worker whose device failed."""

import logging

from django.db import Error, close_old_connections

from generation.telemetry import alerts
from generation.telemetry.models import Alert

logger = logging.getLogger(__name__)


def report_broken(worker: str, error: BaseException) -> None:
    """An alert: this worker's device or engine has failed. Best effort, the log has it in any case."""
    close_old_connections()
    try:
        alerts.raise_alert(Alert.Kind.DEVICE_LOST, worker, f"the device or the engine failed: {error}")
    except Error as fault:
        logger.error("the alert about %s is not kept: %s", worker, fault)
