"""Values of environment variables, checked: a wrong one stops the process with its name and what it may be."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

import environ
from django.core.exceptions import ImproperlyConfigured

env: Final = environ.Env()


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """One of some words."""
    value = env.str(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} is {value!r}; it may be one of {', '.join(allowed)}.")
    return value


def address(name: str) -> str:
    """An http:// or https:// address; empty when unset."""
    value = env.str(name, "")
    if value and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
        raise ImproperlyConfigured(f"{name} is {value!r}; it may be an address such as http://127.0.0.1:5000.")
    return value


def number(name: str, default: float, low: float, high: float) -> float:
    """A number within bounds."""
    value = env.float(name, default)
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name} is {value}; it may be from {low} to {high}.")
    return value


def ascending(name: str) -> tuple[int, ...]:
    """Numbers of 1 or more, ascending, as `2,4,8`; none when unset."""
    text = env.str(name, "")
    try:
        values = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        values = (0,)
    if list(values) != sorted(set(values)) or min(values, default=1) < 1:
        raise ImproperlyConfigured(f"{name} is {text!r}; it may be ascending numbers of 1 or more, as 2,4,8.")
    return values


def shares(name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Four numbers of 1 or more, as `5,3,1,1`."""
    text = env.str(name, ",".join(map(str, default)))
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or min(values) < 1:
        raise ImproperlyConfigured(f"{name} is {text!r}; it may be four numbers of 1 or more, as 5,3,1,1.")
    return values


def limits(name: str, default: Mapping[int, int]) -> dict[int, int]:
    """Pairs of side in pixels and number of pictures, as `512:16,1024:8`."""
    text = env.str(name, ",".join(f"{side}:{count}" for side, count in default.items()))
    try:
        values = {int(side): int(count) for side, count in (part.split(":") for part in text.split(","))}
    except ValueError:
        values = {}
    if min([*values, *values.values()], default=0) < 1:
        raise ImproperlyConfigured(f"{name} is {text!r}; it may be pairs side:pictures, as 512:16,1024:8,2048:2.")
    return values


def proxies(name: str) -> int | tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Addresses and networks, as `127.0.0.1,10.0.0.0/8`, or a number from 0 to 10; 0 when unset."""
    text = env.str(name, "").strip() or "0"
    if text.isascii() and text.isdigit() and int(text) <= 10:
        return int(text)
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} is {text!r}; it may be addresses and networks, as 127.0.0.1,10.0.0.0/8, or a number from 0 to 10."
        ) from error


def networks(name: str) -> list[str]:
    """Networks, as `127.0.0.1/32,10.0.0.0/8`; none when unset."""
    text = env.str(name, "")
    found = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return [str(ipaddress.ip_network(part)) for part in found]
    except ValueError as error:
        message = f"{name} is {text!r}; it may be networks (CIDR), as 127.0.0.1/32,10.0.0.0/8."
        raise ImproperlyConfigured(message) from error


def file_mask(name: str, default: str) -> int:
    """The permissions that new files are denied, three octal digits."""
    text = env.str(name, default)
    if len(text) != 3 or set(text) - set("01234567") or text[0] != "0":
        raise ImproperlyConfigured(f"{name} is {text!r}; it may be three octal digits, the first 0, as 077.")
    return int(text, 8)


def counts(name: str) -> dict[str, int]:
    """Pairs of name and number, as `gpu-worker:4,cpu-worker:2`; none when unset."""
    text = env.str(name, "")
    try:
        pairs = [part.rpartition(":") for part in text.split(",") if part.strip()]
        values = {key.strip(): int(count) for key, _, count in pairs}
    except ValueError:
        values = {"": 0}
    if not all(values) or min(values.values(), default=0) < 0:
        raise ImproperlyConfigured(f"{name} is {text!r}; it may be pairs name:number, as gpu-worker:4,cpu-worker:2.")
    return values


def worker_name(name: str) -> str:
    """Letters, digits, `.`, `_` and `-`, 63 of them at most, because it is part of a queue's name; or none."""
    text = env.str(name, "")
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,63}", text):
        raise ImproperlyConfigured(f"{name} is {text!r}; it may be up to 63 letters, digits or . _ -")
    return text


def secure_address(name: str) -> str:
    """An https:// address, or one of this machine; empty: none."""
    text = env.str(name, "")
    if text and not text.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise ImproperlyConfigured(f"{name} is {text!r}; it may be an address that begins with https://.")
    return text
