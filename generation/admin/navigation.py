"""The menu at the side of every admin page."""

from typing import Any, Final

from django.http import HttpRequest
from django.urls import reverse

# (title, icon, table, URL name if it is not the table's list)
GROUPS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "Operations": (
        ("Overview", "monitoring", "generation.task", "admin:generation_task_overview"),
        ("Tasks", "image", "generation.task"),
        ("Queues and workers", "speed", "generation.task", "admin:generation_task_queues"),
        ("Alerts", "warning", "generation.alert"),
    ),
    "Catalogue": (
        ("Models", "deployed_code", "generation.imagemodel"),
        ("Presets of models", "cloud_download", "generation.modelpreset"),
        ("Imports of models", "upload_file", "generation.modelimport"),
        ("Styles", "palette", "generation.style"),
        ("LoRAs", "tune", "generation.lora"),
    ),
    "Accounts": (
        ("Users", "person", "generation.user"),
        ("Teams", "group", "generation.team"),
        ("API keys", "key", "generation.apikey"),
        ("Plans", "sell", "generation.plan"),
        ("OAuth applications", "apps", "oauth2_provider.application"),
    ),
    "Webhooks": (
        ("Endpoints", "webhook", "generation.webhookendpoint"),
        ("Deliveries", "outbox", "generation.delivery"),
    ),
    "Content policy": (
        ("Blocked terms", "block", "generation.blockedterm"),
        ("Profiles", "shield_person", "generation.policyprofile"),
        ("Refusals", "report", "generation.policyrefusal"),
    ),
    "Audit": (("Audit log", "history", "auditlog.logentry"),),
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups with the pages that the user may open."""
    return [
        {
            "title": title,
            "separator": True,
            "items": [_page(request, *page) for page in pages if _may_open(request, page)],
        }
        for title, pages in GROUPS.items()
    ]


def _page(request: HttpRequest, title: str, icon: str, table: str, url_name: str = "") -> dict[str, Any]:
    link = reverse(url_name or f"admin:{table.replace('.', '_')}_changelist")
    # The paths of these pages begin with that of the tasks.
    own = {reverse(f"admin:generation_task_{name}") for name in ("overview", "queues")} - {link}
    active = request.path.startswith(link) and request.path not in own
    return {"title": title, "icon": icon, "link": link, "active": active}


def _may_open(request: HttpRequest, page: tuple[str, ...]) -> bool:
    app, _, model = page[2].partition(".")
    return bool(request.user.has_perm(f"{app}.view_{model}"))
