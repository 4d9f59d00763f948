"""The command ``cachefs``: its commands, and what happens when one fails.

Only what ``--help`` needs is imported here and at the top of the command modules; everything else
is imported by the command that uses it, so that ``cachefs --help`` is as fast as Python starts.

Expected failures are :class:`~cachefs.errors.CacheFSError`: one line ``error: …``, one line
``hint: …``, and the exit code of :mod:`cachefs.cli.exits`. Anything else is a bug and shows its
traceback.
"""

import os
import sys
from typing import Annotated, Any

import typer

from cachefs.cli import (
    benchmarking,
    dataset,
    doctor,
    exits,
    explain,
    reading,
    rendering,
    settings,
    status,
    up,
    warming,
    worker,
)
from cachefs.errors import CacheFSError

_START = "Running the system"
_DATA = "Data"
_OPERATION = "Looking and looking after"


class _Group(typer.core.TyperGroup):
    """Typer takes a reader that went away for a failure; scripts should know the difference."""

    def invoke(self, ctx: Any) -> object:  # Any: typer's own context, which it does not export
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise typer.Exit(exits.BROKEN_PIPE) from error


app = typer.Typer(
    name="cachefs",
    cls=_Group,
    help="A data-aware cache for model files.",
    epilog=exits.epilog(),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        settings.version()
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and end.", is_eager=True, callback=_version
        ),
    ] = False,
) -> None:
    """A data-aware cache for model files."""
    del version


app.command(rich_help_panel=_START)(up.up)
app.command(rich_help_panel=_START)(up.down)
app.command(rich_help_panel=_START)(status.status)
app.add_typer(dataset.app, rich_help_panel=_DATA)
app.command(rich_help_panel=_DATA)(warming.warm)
app.command("ls", rich_help_panel=_DATA)(reading.list_files)
app.command(rich_help_panel=_DATA)(reading.cat)
app.command(rich_help_panel=_DATA)(reading.cp)
app.command(rich_help_panel=_DATA)(warming.pin)
app.command(rich_help_panel=_DATA)(warming.unpin)
app.command(rich_help_panel=_DATA)(warming.evict)
app.command(rich_help_panel=_OPERATION)(explain.explain)
app.add_typer(worker.app, rich_help_panel=_OPERATION)
app.command(rich_help_panel=_OPERATION)(doctor.doctor)
app.add_typer(settings.app, rich_help_panel=_OPERATION)
app.command(rich_help_panel=_OPERATION)(settings.version)
app.add_typer(benchmarking.app, rich_help_panel=_OPERATION)


def run() -> int:
    """Run the command line of this process and return the exit code."""
    try:
        app()
    except SystemExit as end:
        return _flush(end.code if isinstance(end.code, int) else exits.FAILURE)
    except CacheFSError as error:
        rendering.print_error(error)
        return exits.exit_code(error)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    return exits.OK


def _flush(code: int) -> int:
    """Write out what is left; a reader that went away is no reason for a traceback at the end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        return exits.BROKEN_PIPE
    return code
