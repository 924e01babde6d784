"""The program `imagegenx`."""

import sys
from typing import Annotated, Optional

import typer

from imagegenx.cli import batch, catalogue, keys, login, loras, making, tasks
from imagegenx.cli.following import terminate_as_interrupt
from imagegenx.cli.output import output
from imagegenx.errors import ImageGenXError
from imagegenx.transport import VERSION

EPILOG = (
    "Exit codes: 0 done, 1 a task failed, 2 the command was written wrong, 3 not logged in, 4 refused, 5 a limit of "
    "the plan, 6 no answer, 7 a file, 8 --timeout, 130 interrupted."
)
app = typer.Typer(
    help="Pictures from an ImageGenX server.", epilog=EPILOG, no_args_is_help=True, pretty_exceptions_enable=False
)
for command in (
    login.login,
    login.logout,
    making.draw,
    making.edit,
    making.inpaint,
    making.control,
    making.upscale,
    making.remove_background,
    batch.batch,
    tasks.watch,
    tasks.cancel,
    tasks.history,
    tasks.zip_,
    catalogue.models,
    catalogue.styles,
    catalogue.usage,
):
    app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
app.add_typer(loras.app, name="loras")
app.add_typer(keys.app, name="keys")


def _version(value: bool) -> None:
    if value:
        output.result({"version": VERSION}, [f"imagegenx {VERSION}"])
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[Optional[bool], typer.Option("--version", callback=_version, is_eager=True)] = None,
) -> None:
    pass


def main() -> None:
    """Run the command of the command line; exit with its code (see imagegenx.cli.output)."""
    terminate_as_interrupt()
    try:
        app()
    except (ImageGenXError, OSError, KeyboardInterrupt) as error:
        sys.exit(output.error(error))
