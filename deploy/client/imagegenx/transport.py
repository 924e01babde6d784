"""What both connections share and what touches no network: headers, time limits, how an answer is understood."""

from __future__ import annotations

from typing import Any

import httpx

from imagegenx.account import Account
from imagegenx.errors import Archived, ServerFault, retry_after_of

VERSION = "0.1.0"
_CONNECT_S = 10.0


def account_headers(account: Account) -> dict[str, str]:
    """Of requests to the API."""
    return {"Authorization": f"Bearer {account.key}", **file_headers()}


def file_headers() -> dict[str, str]:
    """Of requests to the addresses of pictures: they need no key, and other hosts must not get it."""
    return {"User-Agent": f"imagegenx-python/{VERSION}"}


def timeouts(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_S))


def limits() -> httpx.Limits:
    return httpx.Limits(max_connections=200, max_keepalive_connections=50)


def data_of(response: httpx.Response) -> Any:
    """The `data` of a success. Raises ServerFault for what is no answer of this API."""
    try:
        return response.json()["data"]
    except (ValueError, KeyError, TypeError) as error:
        kind = response.headers.get("Content-Type", "no type")
        message = f"{response.url} answered with {kind}, not as the API does: is the address right?"
        raise ServerFault(response.status_code, message) from error


def checked_download(response: httpx.Response) -> bool:
    """Whether the body is the file. Raises Archived when it comes later."""
    if response.status_code == 202:
        raise Archived(retry_after_of(response) or 60.0)
    return response.is_success
