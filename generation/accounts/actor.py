"""Who is acting in this request, for the audit log (generation/telemetry/audit.py)."""

import ipaddress
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from auditlog.models import LogEntry
from django.db.models.signals import pre_save
from django.dispatch import receiver
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from generation.accounts.models import User

_actor: ContextVar[tuple[User | None, str | None]] = ContextVar("actor", default=(None, None))


Handler = Callable[[HttpRequest], HttpResponseBase]


def acting(user: User | None, address: str | None = None) -> None:
    """What this request changes from now on is changed by this user; None at its end. `address` is noted where it is
    one: behind a socket or a proxy it may be any word.
    """
    _actor.set((user, address if _is_address(address) else None))


def _is_address(text: str | None) -> bool:
    """Whether it is an address that Postgres takes."""
    try:
        return text is not None and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def audited_admin(get_response: Handler) -> Handler:
    """Middleware: what happens below /admin/ is done by the person who is logged in. The API says it by itself."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if not request.path.startswith("/admin/"):
            return get_response(request)
        user: Any = request.user
        acting(user if user.is_authenticated else None, request.META.get("REMOTE_ADDR"))
        try:
            return get_response(request)
        finally:
            acting(None)

    return middleware


@receiver(pre_save, sender=LogEntry)
def _name_the_actor(instance: LogEntry, **_: Any) -> None:
    user, address = _actor.get()
    if instance.actor_id is None and user is not None:
        instance.actor, instance.remote_addr = user, address
