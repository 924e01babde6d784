"""API keys: list, create, rotate, revoke."""

from typing import Annotated, Optional

import typer

from imagegenx import Key
from imagegenx.cli.following import opened
from imagegenx.cli.output import Json, Url, output

app = typer.Typer(help="API keys: list, create, rotate, revoke.", invoke_without_command=True)
Prefix = Annotated[str, typer.Argument(help="As `imagegenx keys` shows it.")]


@app.callback()
def default(context: typer.Context, url: Url = None, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_(url)


@app.command("list")
def list_(url: Url = None, as_json: Json = False) -> None:
    """Your keys, without their secrets."""
    with opened(url) as client:
        found = client.keys()
    rows = [
        (one.prefix, one.name, one.scopes or "all", one.created_at[:10], one.expires_at, one.revoked_at)
        for one in found
    ]
    columns = ("prefix", "name", "scopes", "created", "expires", "revoked")
    output.table({"items": [one.raw for one in found]}, columns, rows)


@app.command()
def create(
    name: str,
    scope: Annotated[Optional[list[str]], typer.Option("--scope", help="generate, read, delete, lora ...")] = None,
    days: Annotated[Optional[int], typer.Option("--days", help="It expires after so many.")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """A new key. It is shown this once."""
    with opened(url) as client:
        _write(client.create_key(name, scope, days))


@app.command()
def rotate(
    prefix: Prefix,
    grace: Annotated[int, typer.Option("--grace", help="Seconds that the old key goes on working.")] = 3600,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Replace a key. The new one is shown this once."""
    with opened(url) as client:
        _write(client.rotate_key(prefix, grace))


@app.command()
def revoke(prefix: Prefix, url: Url = None, as_json: Json = False) -> None:
    """End a key at once."""
    with opened(url) as client:
        key = client.revoke_key(prefix)
    output.result(key.raw, [f"{prefix} revoked"])


def _write(key: Key) -> None:
    output.result(key.raw, [key.api_key or ""])
