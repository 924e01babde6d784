"""Alerts about a GPU worker: its device failed, it works again."""

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


def report_working(worker: str) -> None:
    """This worker can work: alerts about its predecessors are over. Best effort."""
    close_old_connections()
    try:
        alerts.clear(worker)
    except Error as fault:
        logger.warning("alerts about %s are not cleared: %s", worker, fault)
