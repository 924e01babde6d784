"""login and logout: the address and the key in a file that only its owner may read."""

import os
import sys
from typing import Annotated, Optional
from urllib.parse import urlsplit

import typer

from imagegenx import Client
from imagegenx.account import KEY, URL, Account, delete_account, read_account, write_account
from imagegenx.cli.output import Json, Url, output
from imagegenx.errors import NotConfigured

_LOCAL = ("127.0.0.1", "localhost", "::1")


def login(
    url: Url = None,
    key_stdin: Annotated[bool, typer.Option("--key-stdin", help="Read the key from the standard input.")] = False,
    as_json: Json = False,
) -> None:
    """Save the server's address and your API key, after trying them."""
    before = _before()
    default = os.environ.get(URL) or (before.url if before else "http://127.0.0.1:8000")
    address = (url or (default if key_stdin else typer.prompt("Server", default=default))).rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"{address!r} is not an http:// or https:// address")
    key = sys.stdin.readline() if key_stdin else os.environ.get(KEY) or typer.prompt("API key", hide_input=True)
    with Client(address, key.strip()) as client:
        plan = client.plans()["current"]
        path = write_account(client.account)
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        output.note(f"warning: {address} is not encrypted: everybody on the way can read the key")
    output.result({"url": address, "plan": plan, "file": str(path)}, [f"Logged in to {address} (plan {plan}); {path}"])


def logout(as_json: Json = False) -> None:
    """Delete the saved address and key."""
    found = delete_account()
    output.result({"deleted": found}, ["Logged out." if found else "You were not logged in."])


def _before() -> Optional[Account]:
    try:
        return read_account()
    except NotConfigured:
        return None
