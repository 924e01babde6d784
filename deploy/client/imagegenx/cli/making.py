"""The commands that make pictures: draw, edit, inpaint, control, upscale, remove-background."""

import inspect
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Optional, get_type_hints

import typer

from imagegenx import Client, Task
from imagegenx.cli.following import finished, opened, submitted
from imagegenx.cli.output import Json, Url, output
from imagegenx.cli.terminal_pictures import Protocol, show, terminal_protocol
from imagegenx.errors import TaskFailed

_FORMATS = {".webp": "webp", ".avif": "avif", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}


@dataclass(frozen=True)
class FileOptions:
    """The options of every command that makes pictures."""

    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or the file's name.")] = Path()
    format: Annotated[Optional[str], typer.Option("--format", help="webp, avif, png or jpeg.")] = None
    priority: Annotated[Optional[int], typer.Option("--priority", help="0 (urgent) to 3.")] = None
    param: Annotated[
        Optional[list[str]], typer.Option("--param", help="Any other parameter: NAME=VALUE, VALUE as JSON or text.")
    ] = None
    wait: Annotated[bool, typer.Option(help="Wait for the pictures and save them.")] = True
    timeout: Annotated[Optional[float], typer.Option("--timeout", help="Seconds to wait at most.")] = None
    show: Annotated[Optional[bool], typer.Option(help="Show the pictures in the terminal.")] = None
    url: Url = None
    as_json: Json = False

    def parameters(self) -> dict[str, Any]:
        """Of the request."""
        found: dict[str, Any] = {"priority": self.priority, "format": self.format}
        if self.format is None:  # the file's name says it
            found["format"] = _FORMATS.get(self.out.suffix.lower())
        found.update(dict(parameter(text) for text in self.param or ()))
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class MakingOptions(FileOptions):
    """The options of every command that draws."""

    number: Annotated[Optional[int], typer.Option("-n", "--number", min=1, help="How many pictures.")] = None
    size: Annotated[Optional[str], typer.Option("--size", help="Such as 512x512.")] = None
    model: Annotated[Optional[str], typer.Option("--model", "-m")] = None
    style: Annotated[Optional[str], typer.Option("--style", "-s")] = None
    negative: Annotated[Optional[str], typer.Option("--negative", help="What should not appear.")] = None
    steps: Annotated[Optional[int], typer.Option("--steps")] = None
    cfg: Annotated[Optional[float], typer.Option("--cfg", help="How closely the picture follows the text.")] = None
    sampler: Annotated[Optional[str], typer.Option("--sampler")] = None
    seed: Annotated[Optional[int], typer.Option("--seed")] = None
    lora: Annotated[Optional[list[str]], typer.Option("--lora", help="NAME or NAME:WEIGHT; up to three.")] = None

    def parameters(self) -> dict[str, Any]:
        """Of the request."""
        found = {
            "num_images": self.number,
            "resolution": self.size,
            "negative_text": self.negative,
            "cfg_scale": self.cfg,
            "loras": [_lora(text) for text in self.lora or ()] or None,
        }
        found.update({name: getattr(self, name) for name in ("model", "style", "steps", "sampler", "seed")})
        given = {name: value for name, value in found.items() if value is not None}
        return {**given, **super().parameters()}


def _lora(text: str) -> Any:
    name, colon, weight = text.rpartition(":")
    try:
        return {"name": name, "weight": float(weight)} if colon else text
    except ValueError:
        raise typer.BadParameter(f"--lora {text}: the weight is a number, as in ink:0.8") from None


def parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--param {text}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of the class of its `options`, which it gets there."""
    kind = get_type_hints(command)["options"]
    hints = get_type_hints(kind, include_extras=True)
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "options"]
    common = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(kind)
    ]

    @wraps(command)
    def run(**values: Any) -> None:
        options = kind(**{one.name: values.pop(one.name) for one in common})
        command(**values, options=options)

    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    run.__signature__ = inspect.Signature([*keywords, *common])  # type: ignore[attr-defined]  # read by inspect
    run.__annotations__ = {one.name: one.annotation for one in [*keywords, *common]}
    del run.__wrapped__  # else its annotations would be read
    return run


Image = Annotated[Path, typer.Argument(help="The picture: a file.", exists=True, dir_okay=False)]
Text = Annotated[str, typer.Argument(help="What to draw.")]
Strength = Annotated[Optional[float], typer.Option("--strength", help="How much may change: 0.05 to 1.")]


@with_options
def draw(text: Text, options: MakingOptions) -> None:
    """Draw a text."""
    make(options, lambda client, more: client.generate(text, **more))


@with_options
def edit(image: Image, text: Text, options: MakingOptions, strength: Strength = None) -> None:
    """Draw a text, beginning with a picture."""
    make(options, lambda client, more: client.img2img(text, image, **more), strength=strength)


@with_options
def inpaint(
    image: Image,
    text: Text,
    options: MakingOptions,
    mask: Annotated[Optional[Path], typer.Option("--mask", exists=True, help="White areas are repainted.")] = None,
    area: Annotated[Optional[str], typer.Option("--area", help="LEFT,TOP,WIDTH,HEIGHT instead of a mask.")] = None,
    feather: Annotated[Optional[int], typer.Option("--feather", help="Soft edge of the mask in pixels.")] = None,
    strength: Strength = None,
) -> None:
    """Repaint a part of a picture."""
    if (mask is None) == (area is None):
        raise typer.BadParameter("give either --mask or --area")
    try:
        rectangle = [int(number) for number in area.split(",")] if area else None
    except ValueError:
        raise typer.BadParameter("--area is four numbers, such as 16,16,64,64") from None
    own = {"area": rectangle, "mask_feather": feather, "strength": strength}
    make(options, lambda client, more: client.inpaint(text, image, mask, **more), **own)


@with_options
def control(
    image: Image,
    text: Text,
    options: MakingOptions,
    kind: Annotated[Optional[str], typer.Option("--type", help="canny, depth, openpose ...")] = None,
    strength: Annotated[Optional[float], typer.Option("--strength", help="Of the control: 0 to 2.")] = None,
    start: Annotated[Optional[float], typer.Option("--start", help="Part of the steps before it applies.")] = None,
    end: Annotated[Optional[float], typer.Option("--end", help="Part of the steps after which it ends.")] = None,
    begin: Annotated[Optional[Path], typer.Option("--image", exists=True, help="Picture to begin with.")] = None,
) -> None:
    """Draw a text with the lines, depth or pose of a picture."""
    own = {"control_type": kind, "control_strength": strength, "control_start": start, "control_end": end}
    make(options, lambda client, more: client.controlnet(text, image, begin, **more), **own)


@with_options
def upscale(
    image: Image,
    options: FileOptions,
    scale: Annotated[int, typer.Option("--scale", "-x", help="2 or 4.")] = 2,
) -> None:
    """Make a picture larger."""
    make(options, lambda client, more: client.upscale(image, scale, **more))


@with_options
def remove_background(image: Image, options: FileOptions) -> None:
    """Make a picture's background white, where it is plain."""
    make(options, lambda client, more: client.remove_background(image, **more))


def make(options: FileOptions, send: Callable[[Client, dict[str, Any]], Task], **own: Any) -> None:
    """Begin the task, wait for it, save its pictures and write where they are."""
    given = {name: value for name, value in own.items() if value is not None}
    parameters = {**options.parameters(), **given, "idempotency_key": uuid.uuid4().hex}
    with opened(options.url) as client:
        task = submitted(lambda: send(client, parameters), client)
        if not options.wait:
            return output.result({"task": task.raw}, [task.task_id])
        task = finished(client, task, options.timeout)
        if not task.succeeded:
            raise TaskFailed(task)
        protocol = None if options.show is False or output.as_json else terminal_protocol(forced=bool(options.show))
        return deliver(client, task, options.out, protocol)


def deliver(client: Client, task: Task, out: Path, protocol: Optional[Protocol] = None) -> None:
    """Save a task's pictures and write where they are."""
    one_file = out.suffix and not out.is_dir()
    if one_file and len(task.outputs) == 1:
        client.save_as(task, out)
        paths = [out]
    elif one_file:
        paths = [out.with_name(f"{out.stem}-{one.index}{out.suffix}") for one in task.outputs]
        for one, path in zip(task.outputs, paths):
            client.save_as(task, path, one.index)
    else:
        paths = client.save(task, out)
    if protocol:
        for path in paths:
            show(path, protocol)
    output.result({"task": task.raw, "files": [str(path) for path in paths]}, map(str, paths))
