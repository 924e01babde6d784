"""LoRAs: list, upload, enable, disable, delete."""

import re
from pathlib import Path
from typing import Annotated, Optional

import typer

from imagegenx import Lora
from imagegenx.cli.following import opened
from imagegenx.cli.output import Json, Url, output

app = typer.Typer(help="LoRAs: list, upload, enable, disable, delete.", invoke_without_command=True)
Version = Annotated[str, typer.Argument(metavar="NAME@VERSION")]


@app.callback()
def default(context: typer.Context, url: Url = None, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_(url)


@app.command("list")
def list_(url: Url = None, as_json: Json = False) -> None:
    """The LoRAs that can be asked for."""
    with opened(url) as client:
        found = client.loras()
    rows = [(f"{one.name}@{one.version}", one.base_family, one.rank, one.state, one.triggers) for one in found]
    output.table({"items": [one.raw for one in found]}, ("name", "family", "rank", "state", "triggers"), rows)


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    name: Annotated[Optional[str], typer.Option("--name", help="Else the file's.")] = None,
    family: Annotated[str, typer.Option("--family", help="Such as sd15 or sdxl.")] = "sd15",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Upload a .safetensors file; an existing name gets a new version."""
    chosen = name or re.sub(r"[^a-z0-9_-]+", "-", file.stem.lower()).strip("-")
    with opened(url) as client:
        _write(client.upload_lora(file, chosen, family))


@app.command()
def enable(version: Version, url: Url = None, as_json: Json = False) -> None:
    """Offer a version again."""
    with opened(url) as client:
        _write(client.enable_lora(*_parts(version)))


@app.command()
def disable(version: Version, url: Url = None, as_json: Json = False) -> None:
    """Offer a version no longer."""
    with opened(url) as client:
        _write(client.enable_lora(*_parts(version), enabled=False))


@app.command()
def delete(version: Version, url: Url = None, as_json: Json = False) -> None:
    """Delete a version."""
    with opened(url) as client:
        client.delete_lora(*_parts(version))
    output.result({"name": version, "deleted": True}, [f"{version} deleted"])


def _write(lora: Lora) -> None:
    output.result(lora.raw, [f"{lora.name}@{lora.version} {lora.state}"])


def _parts(text: str) -> tuple[str, int]:
    name, _, version = text.rpartition("@")
    if not name or not version.isdigit():
        raise typer.BadParameter(f"{text!r}: write NAME@VERSION, such as ink@1")
    return name, int(version)
