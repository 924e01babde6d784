"""Who sent a request and how it came, where proxies stand before the web process.

What proxies add (`X-Forwarded-*`, `Forwarded`, `X-Real-IP`) counts only when the peer of the connection is one that
TRUSTED_PROXIES names; from anybody else it is taken away before any code sees it. uvicorn's own handling of these
headers is off (deploy/commands.py): it believes everybody on this machine.
"""

import ipaddress
import logging
from collections.abc import Sequence
from functools import cache
from typing import Final

from django.conf import settings
from django.http import HttpRequest

from imagegenx_site.errors import Fault, InvalidRequest
from imagegenx_site.web.middleware import Steps, middleware

_HEADERS: Final = (
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_SERVER",
    "HTTP_X_REAL_IP",
)
_MARK: Final = "imagegenx.forwarded"  # in META: a proxy was passed, or a client says so
_STANDARD_PORTS: Final = {"http": "80", "https": "443"}

_log = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@middleware
def named_proxies_only(request: HttpRequest) -> Steps:
    """See the module. Before all that asks for an address or a scheme."""
    _warn_of_missing_proxies()
    _forget_unnamed(request)
    yield


@cache
def _warn_of_missing_proxies() -> None:
    """Once in a process."""
    if settings.BEHIND_TLS and not settings.TRUSTED_PROXIES:
        _log.warning("BEHIND_TLS is on, but TRUSTED_PROXIES names no proxy: links begin with http, logins may fail")


def _forget_unnamed(request: HttpRequest) -> None:
    present = [name for name in _HEADERS if name in request.META]
    if not present:
        return
    request.META[_MARK] = "1"
    if not _is_proxy(request.META.get("REMOTE_ADDR", "")):
        for name in present:
            del request.META[name]
        request.__dict__.pop("headers", None)  # read anew, should something have read them before


def sender(request: HttpRequest) -> str:
    """The address of the client, as text: the peer, or behind named proxies the last address that is none of them."""
    peer: str = request.META.get("REMOTE_ADDR", "")
    if not _is_proxy(peer):
        return peer
    way = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    named = settings.TRUSTED_PROXIES
    if isinstance(named, int):
        return way[-min(named, len(way))] or peer
    strangers = [part for part in way if not _is_in(part, named)]
    return (strangers[-1] if strangers else way[0]) or peer


def is_local(request: HttpRequest) -> bool:
    """Whether the request was sent on this machine, and through no proxy."""
    peer = address_of(request.META.get("REMOTE_ADDR", ""))
    passed = _MARK in request.META or any(name in request.META for name in _HEADERS)
    return peer is not None and peer.is_loopback and not passed


def checked_host(request: HttpRequest) -> str:
    """The Host header, for links. Its port must be one that clients can reach: of this process, of the scheme, or of
    HOST_PORTS; without HOST_PORTS also any that a named proxy passes on. Raises InvalidRequest.
    """
    host = request.get_host()
    port = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else _STANDARD_PORTS[request.scheme or ""]
    known = {request.META.get("SERVER_PORT", ""), *_STANDARD_PORTS.values(), *map(str, settings.HOST_PORTS)}
    vouched = not settings.HOST_PORTS and _is_proxy(request.META.get("REMOTE_ADDR", ""))
    if port in known or vouched:
        return host
    message = f"Links can't begin with port {port}: the operator can name it in HOST_PORTS, or set PUBLIC_URL."
    raise InvalidRequest([Fault("Host", "unknown_port", message)])


def address_of(text: str) -> Address | None:
    """The address; an IPv4 one that is written as IPv6 becomes plain. None for other text."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (address.version == 6 and address.ipv4_mapped) or address


def _is_proxy(peer: str) -> bool:
    """Whether TRUSTED_PROXIES names the peer. A mere number of proxies names those at private addresses and sockets."""
    named = settings.TRUSTED_PROXIES
    if isinstance(named, int):
        address = address_of(peer)
        return named > 0 and (address is None or address.is_private or address.is_loopback)
    return _is_in(peer, named)


def _is_in(text: str, networks: Sequence[Network]) -> bool:
    address = address_of(text)
    return address is not None and any(address in network for network in networks)
