"""Access rights: owner, team-mate, stranger, free plan, scoped and revoked key, no key; at every endpoint.

The table in docs/rights.md is written from what these calls answered, when the tests run with WRITE_RIGHTS=1.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fixtures.rows import keep_picture
from generation.accounts.models import ApiKey, Role, User
from generation.api.urls import urlpatterns
from generation.catalogue.models import Lora
from generation.tasks.models import Batch, Board, Status, Task
from generation.webhooks.models import Delivery, WebhookEndpoint

TABLE = Path(django_settings.BASE_DIR) / "docs" / "rights.md"
WHO = ("owner", "team-mate", "viewer", "stranger", "free plan", "read-only key", "revoked key", "no key")
METHODS = ("GET", "POST", "PATCH", "DELETE")
_BODIES: dict[str, Any] = {
    "generate": {"text": "x"},
    "batch-generate": {"texts": ["x"]},
    "webhooks": {"url": "https://hook.example/"},
    "keys": {"scopes": ["read"]},
    "boards": {"name": "x"},
    "board": {"name": "y"},
    "member": {"role": "viewer"},
}


def test_who_may_what_is_as_the_table_says(
    owner: User, make_user: Callable[..., User], make_task: Callable[..., Task], settings: Any
) -> None:
    settings.ANONYMOUS_RPS = 100_000  # what this asks is who may, not how often
    lines = table(owner, make_user, make_task)
    text = _HEAD + "\n".join(lines) + "\n"
    if os.environ.get("WRITE_RIGHTS"):
        TABLE.write_text(text, "utf-8")
    assert TABLE.read_text("utf-8") == text
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[-2:] == ["401", "401"], line


def table(owner: User, make_user: Callable[..., User], make_task: Callable[..., Task]) -> list[str]:
    """One line for each endpoint and method."""
    owner.team.plan.__class__.objects.update(requests_per_second=100_000)  # type: ignore[union-attr]
    owner.role = Role.OWNER
    owner.save()
    viewer = make_user("viewer", team="shop")
    viewer.role = Role.VIEWER
    viewer.save()
    people = {
        "owner": ApiKey.make(owner)[1],
        "team-mate": ApiKey.make(make_user("mate", team="shop"))[1],
        "viewer": ApiKey.make(viewer)[1],
        "stranger": ApiKey.make(make_user("stranger"))[1],
        "free plan": ApiKey.make(make_user("guest", plan="free"))[1],
        "read-only key": ApiKey.make(owner, scopes=["read"])[1],
        "revoked key": ApiKey.make(owner, revoked_at=timezone.now())[1],
        "no key": "",
    }
    lines = []
    for pattern in urlpatterns:
        for method in METHODS:
            view = getattr(pattern.callback, "view_class", None)
            if (view is None and method != "GET") or (view and not hasattr(view, method.lower())):
                continue
            named = things(pattern, owner, make_task)
            answers = []
            for who in WHO:
                named = named if method == "GET" else things(pattern, owner, make_task)
                answers.append(ask(pattern, method, people[who], named))
            lines.append(f"| {method} | /{shown(pattern)} | {' | '.join(answers)} |")
    return lines


def ask(pattern: Any, method: str, key: str, named: dict[str, Any]) -> str:
    """What one caller is answered, on things of the owner."""
    tasks = named.pop("body", {})
    address = reverse(pattern.name, kwargs=named)
    body = json.dumps(_BODIES.get(pattern.name or "", {}) | tasks)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    response = Client().generic(method, address, body, content_type="application/json", headers=headers)
    return str(response.status_code)


def things(pattern: Any, owner: User, make_task: Callable[..., Task]) -> dict[str, Any]:
    """The owner's things that an address names."""
    names = pattern.pattern.converters.keys()
    found: dict[str, Any] = {}
    if "public_id" in names:
        batch = Batch.objects.create(user=owner, size=1) if "batch" in pattern.name else None
        task = make_task(Status.QUEUED if "cancel" in pattern.name else Status.SUCCEEDED, batch=batch)
        if pattern.name == "task-image":
            keep_picture(task, 0)
        found["public_id"] = batch.public_id if batch else task.public_id
    if pattern.name == "download":
        found["body"] = {"task_ids": [make_task(Status.SUCCEEDED).public_id]}
    if pattern.name in ("marks", "sheet", "board-pictures"):
        task = make_task(Status.SUCCEEDED)
        keep_picture(task, 0)
        picture = [{"task_id": task.public_id}]
        named = {"board-pictures": {"add": picture}, "marks": {"pictures": picture, "mark": "approved"}}
        found["body"] = named.get(pattern.name, {"pictures": picture})
    if "board_id" in names:
        found["board_id"] = Board.objects.create(user=owner, name="x", shared=True).public_id
    if "username" in names:
        User.objects.filter(username="ward").delete()
        User.objects.create(username="ward", team=owner.team)
        found["username"] = "ward"
    if "prefix" in names:
        found["prefix"] = ApiKey.make(owner)[0].prefix
    if "pk" in names or "delivery_id" in names:
        WebhookEndpoint.objects.filter(user=owner).delete()
        endpoint = WebhookEndpoint.objects.create(user=owner, url="https://a.example/")
        found["pk"] = endpoint.pk
        if "delivery_id" in names:
            facts = {
                "task": make_task(Status.FAILED),
                "endpoint": endpoint,
                "event_id": "e",
                "event_type": "task.failed",
            }
            found = {"delivery_id": str(Delivery.objects.create(url=endpoint.url, **facts).pk)}
    if "version" in names:
        Lora.objects.all().delete()
        Lora.objects.create(name="ink", owner=owner, sha256="0" * 64, source="x", state=Lora.State.ACTIVE)
        found |= {"name": "ink", "version": 1}
    return found


def shown(pattern: Any) -> str:
    return "api/v1/" + str(pattern.pattern).replace("<str:", "{").replace("<int:", "{").replace(
        "<uuidtext:", "{"
    ).replace(">", "}")


_HEAD = """# Access rights

The tests (`generation/api/tests/test_rights.py`) write this page from the status that each caller got for objects of
the owner. 2xx: done. 400: allowed, but this request lacks something (a picture, a file). 403: not allowed. 404: does
not exist for this caller. The owner also owns the team, the team-mate is a member, the viewer has that role. The
stranger and the free plan belong to other teams; the revoked key and the read-only key belong to the owner.

| method | address | owner | team-mate | viewer | stranger | free plan | read-only key | revoked key | no key |
|---|---|---|---|---|---|---|---|---|---|
"""
