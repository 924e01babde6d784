"""What stands at the side of every admin page."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups and their pages; a person sees those that they may open."""
    return [
        _group(
            request,
            "Work",
            ("Tasks", "image", "generation.task"),
            ("Queues and workers", "speed", "generation.task", "admin:generation_task_queues"),
            ("Alerts", "warning", "generation.alert"),
        ),
        _group(
            request,
            "To be asked for",
            ("Models", "deployed_code", "generation.imagemodel"),
            ("Styles", "palette", "generation.style"),
            ("LoRAs", "tune", "generation.lora"),
        ),
        _group(
            request,
            "Accounts",
            ("Users", "person", "generation.user"),
            ("Teams", "group", "generation.team"),
            ("API keys", "key", "generation.apikey"),
            ("Plans", "sell", "generation.plan"),
            ("OAuth applications", "apps", "oauth2_provider.application"),
        ),
        _group(
            request,
            "Webhooks",
            ("Endpoints", "webhook", "generation.webhookendpoint"),
            ("Deliveries", "outbox", "generation.delivery"),
        ),
        _group(
            request,
            "Content policy",
            ("Blocked terms", "block", "generation.blockedterm"),
            ("Profiles", "shield_person", "generation.policyprofile"),
            ("Refusals", "report", "generation.policyrefusal"),
        ),
        _group(request, "Record", ("Changes", "history", "auditlog.logentry")),
    ]


def _group(request: HttpRequest, title: str, *pages: tuple[str, ...]) -> dict[str, Any]:
    items = [_page(request, *page) for page in pages if _may_open(request, page[2])]
    return {"title": title, "separator": True, "items": items}


def _page(request: HttpRequest, title: str, icon: str, table: str, address: str = "") -> dict[str, Any]:
    link = reverse(address or f"admin:{table.replace('.', '_')}_changelist")
    elsewhere = link != request.path and request.path == reverse("admin:generation_task_queues")  # below the tasks
    return {"title": title, "icon": icon, "link": link, "active": request.path.startswith(link) and not elsewhere}


def _may_open(request: HttpRequest, table: str) -> bool:
    app, _, model = table.partition(".")
    return bool(request.user.has_perm(f"{app}.view_{model}"))
