"""Who is called: Alertmanager's configuration, routed by severity.

ALERT_CRITICAL_URLS, ALERT_WARNING_URLS   addresses for Alertmanager's webhooks, separated by commas: a gateway to
                                          DingTalk, a phone, a chat
ALERT_CRITICAL_MAIL, ALERT_WARNING_MAIL   mail addresses; ALERT_SMTP (host:port), ALERT_MAIL_FROM, and if the server
                                          asks for them ALERT_SMTP_USER and ALERT_SMTP_PASSWORD_FILE
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

SEVERITIES: Final = ("critical", "warning")
_URLS: Final = {"critical": "ALERT_CRITICAL_URLS", "warning": "ALERT_WARNING_URLS"}
_MAILS: Final = {"critical": "ALERT_CRITICAL_MAIL", "warning": "ALERT_WARNING_MAIL"}
_REPEAT: Final = {"critical": "1h", "warning": "12h"}


@dataclass(frozen=True)
class Receivers:
    """By severity. `smtp`: settings of Alertmanager's `global`, empty without mail."""

    urls: Mapping[str, tuple[str, ...]]
    mails: Mapping[str, str]
    smtp: Mapping[str, str]

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Receivers":
        """Raises ValueError with the variable's name."""
        urls = {one: tuple(_listed(env.get(_URLS[one], ""))) for one in SEVERITIES}
        for severity, listed in urls.items():
            if wrong := [url for url in listed if not url.startswith(("http://", "https://"))]:
                raise ValueError(f"{_URLS[severity]} has {wrong[0]!r}; it may have http and https addresses.")
        mails = {one: mail for one in SEVERITIES if (mail := env.get(_MAILS[one], ""))}
        smtp = {
            "smtp_smarthost": env.get("ALERT_SMTP", ""),
            "smtp_from": env.get("ALERT_MAIL_FROM", ""),
            "smtp_auth_username": env.get("ALERT_SMTP_USER", ""),
            "smtp_auth_password_file": env.get("ALERT_SMTP_PASSWORD_FILE", ""),
        }
        if mails and not (smtp["smtp_smarthost"] and smtp["smtp_from"]):
            raise ValueError("ALERT_SMTP and ALERT_MAIL_FROM are needed to send mail.")
        return cls(urls, mails, {name: value for name, value in smtp.items() if value} if mails else {})


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def alertmanager_file(receivers: Receivers) -> dict[str, Any]:
    """A critical alert comes at once and again each hour; a warning is held a little for others of its kind. One of the
    same process or model that is critical makes the warnings about it silent.
    """
    routes = [
        {"receiver": one, "matchers": [f'severity="{one}"'], "repeat_interval": _REPEAT[one]} for one in SEVERITIES
    ]
    routes[0]["group_wait"] = "5s"
    return {
        **({"global": dict(receivers.smtp)} if receivers.smtp else {}),
        "route": {
            "receiver": "warning",
            "group_by": ["alertname"],
            "group_wait": "30s",
            "group_interval": "5m",
            "routes": routes,
        },
        "inhibit_rules": [
            {
                "source_matchers": ['alertname="NoGpuWorker"'],
                "target_matchers": ['alertname=~"TasksWait|UrgentTasksWait|WorkersMissing|TasksExpire"'],
            },
            {
                "source_matchers": ['alertname="DiskAlmostFull"'],
                "target_matchers": ['alertname="DiskFillsUp"'],
                "equal": ["place"],
            },
        ],
        "receivers": [_receiver(one, receivers) for one in SEVERITIES],
    }


def _receiver(severity: str, receivers: Receivers) -> dict[str, Any]:
    found: dict[str, Any] = {"name": severity}
    if urls := receivers.urls[severity]:
        found["webhook_configs"] = [{"url": url, "send_resolved": True} for url in urls]
    if mail := receivers.mails.get(severity):
        found["email_configs"] = [{"to": mail, "send_resolved": True}]
    return found
