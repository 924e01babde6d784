"""The user who makes the current request, for the audit log (generation/telemetry/audit.py)."""

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
from imagegenx_site.http import forwarded

_actor: ContextVar[tuple[User | None, str | None]] = ContextVar("actor", default=(None, None))


Handler = Callable[[HttpRequest], HttpResponseBase]


def set_actor(user: User | None, address: str | None = None) -> None:
    """Record the changes of this request from now on as made by `user`; call it with None at the request's end.

    `address` is kept only if it is an IP address: behind a socket or a proxy it may be any text.
    """
    _actor.set((user, address if _is_address(address) else None))


def _is_address(text: str | None) -> bool:
    try:
        return text is not None and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def audited_admin(get_response: Handler) -> Handler:
    """Middleware: the actor of a request below /admin/ is the user who is logged in. The API sets the actor itself."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if not request.path.startswith("/admin/"):
            return get_response(request)
        user: Any = request.user
        set_actor(user if user.is_authenticated else None, forwarded.sender(request))
        try:
            return get_response(request)
        finally:
            set_actor(None)

    return middleware


@receiver(pre_save, sender=LogEntry)
def _fill_in_actor(instance: LogEntry, **_: Any) -> None:
    user, address = _actor.get()
    if instance.actor_id is None and user is not None:
        instance.actor, instance.remote_addr = user, address
