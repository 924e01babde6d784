"""models, styles and usage."""

from typing import Annotated, Optional

import typer

from imagegenx.cli.following import opened
from imagegenx.cli.output import Json, Url, output
from imagegenx.cli.tasks import moment


def models(url: Url = None, as_json: Json = False) -> None:
    """The models that can be asked for."""
    with opened(url) as client:
        found = client.models()
    rows = [
        (one.name, one.title, one.kinds, f"{one.default_width}x{one.default_height}", one.default_steps)
        for one in found
    ]
    output.table({"items": [one.raw for one in found]}, ("name", "title", "kinds", "size", "steps"), rows)


def styles(url: Url = None, as_json: Json = False) -> None:
    """The styles that can be asked for."""
    with opened(url) as client:
        found = client.styles()
    rows = [(one.name, one.title, one.title_zh) for one in found]
    output.table({"items": [one.raw for one in found]}, ("name", "title", "标题"), rows)


def usage(
    since: Annotated[Optional[str], typer.Option("--since", help="Such as 7d, or 2026-11-20; else 30 days.")] = None,
    until: Annotated[Optional[str], typer.Option("--until")] = None,
    by: Annotated[str, typer.Option("--by", help="day, model, kind or key.")] = "day",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """What was used."""
    first, last = (at.strftime("%Y-%m-%d") if at else None for at in (moment(since), moment(until)))
    with opened(url) as client:
        found = client.usage(first, last, by)
    lines = [*found.items, {"group": "total", **found.total}]
    names = ("group", "tasks", "succeeded", "images", "megapixel_steps")
    output.table(found.raw, names, [[line.get(name) for name in names] for line in lines])
