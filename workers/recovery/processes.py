"""Processes without a sign of life (imagegenx_site/heartbeat.py): an alert. Alerts whose pool is whole are cleared."""

import time

from generation.telemetry import alerts
from generation.telemetry.models import Alert
from imagegenx_site.heartbeat import LEASE_S, RENEW_S

_PAUSE_S = 5.0  # since the last run: this process or Redis was away, and nobody could renew anything


class Processes:
    """Judges nobody until all had time to renew, after its start and after a pause."""

    def __init__(self) -> None:
        self._ran = float("-inf")
        self._judge_from = 0.0

    def run(self) -> None:
        pools, now = alerts.pools(), time.monotonic()
        expired = pools.expired()
        if now - self._ran > _PAUSE_S:
            self._judge_from = now + 2 * RENEW_S
        self._ran = time.monotonic()
        for member, until_ms in expired.items() if now >= self._judge_from else ():
            message = f"no sign of life for {LEASE_S:.0f} s"
            alerts.raise_alert(Alert.Kind.PROCESS_LOST, member, message, until_ms - int(LEASE_S * 1000))
        alerts.clear_whole()
