"""The command ``cachefs``: its commands, and what happens when one fails.

Only what ``--help`` needs is imported here and at the top of the command modules; everything else
is imported by the command that uses it, so that ``cachefs --help`` is as fast as Python starts.

Expected failures are :class:`~cachefs.errors.CacheFSError`: one line ``error: …``, one line
``hint: …``, and the exit code of :mod:`cachefs.cli.exits`. Anything else is a bug: it
shows its traceback, and ends with a code of its own.
"""

import errno
import os
import sys
import traceback
from typing import Annotated, Any

import typer

from cachefs.cli import (
    benchmarking,
    dataset,
    doctor,
    endpoints,
    exits,
    explain,
    policies,
    reading,
    rendering,
    scaling,
    settings,
    simulating,
    status,
    up,
    warming,
    worker,
)
from cachefs.cli.flow import commands as flow
from cachefs.cli.hinting import commands as hinting
from cachefs.cli.kubernetes import commands as kubernetes
from cachefs.cli.mounting import commands as mounting
from cachefs.errors import CacheFSError, CapacityError

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_START = "Running the system"
_DATA = "Data"
_OPERATION = "Looking and looking after"


_START_HERE = """A data-aware cache for model files.

To begin: `cachefs up --detach`, `cachefs dataset add NAME URL`, `cachefs warm NAME`,
`cachefs ls -l NAME`, `cachefs cp NAME/PATH .`, and `cachefs down`.
"""
_ORDER = (
    "up",
    "down",
    "status",
    "dataset",
    "warm",
    "ls",
    "cat",
    "cp",
    "mount",
    "umount",
    "endpoints",
)
"""The order of first use; whatever else there is follows as it was declared."""


class _Group(typer.core.TyperGroup):
    """Commands in the order of use; a reader of the output that went away has its own exit code."""

    def list_commands(self, ctx: Any) -> list[str]:  # Any: typer's own context
        """Return the commands' names: groups are not put behind all else, as typer does."""
        names = super().list_commands(ctx)
        first = [name for name in _ORDER if name in names]
        return first + [name for name in names if name not in first]

    def invoke(self, ctx: Any) -> object:  # Any: typer's own context, which it does not export
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise typer.Exit(exits.BROKEN_PIPE) from error


app = typer.Typer(
    name="cachefs",
    cls=_Group,
    help=_START_HERE,
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
    """Take what is said before a command."""
    del version


app.command(rich_help_panel=_START)(up.up)
app.command(rich_help_panel=_START)(up.down)
app.command(rich_help_panel=_START)(status.status)
app.add_typer(dataset.app, rich_help_panel=_DATA)
app.add_typer(flow.app, rich_help_panel=_DATA)
app.add_typer(hinting.app, rich_help_panel=_DATA)
app.command(rich_help_panel=_DATA)(warming.warm)
app.command("ls", rich_help_panel=_DATA)(reading.list_files)
app.command(rich_help_panel=_DATA)(reading.cat)
app.command(rich_help_panel=_DATA)(reading.cp)
app.command(rich_help_panel=_DATA)(mounting.mount)
app.command(rich_help_panel=_DATA)(mounting.umount)
app.command(rich_help_panel=_DATA)(endpoints.endpoints)
app.command(rich_help_panel=_DATA)(warming.pin)
app.command(rich_help_panel=_DATA)(warming.unpin)
app.command(rich_help_panel=_DATA)(warming.evict)
app.command(rich_help_panel=_OPERATION)(explain.explain)
app.add_typer(kubernetes.app, rich_help_panel=_OPERATION)
app.add_typer(worker.app, rich_help_panel=_OPERATION)
app.command(rich_help_panel=_OPERATION)(scaling.scale)
app.add_typer(scaling.pool_app, rich_help_panel=_OPERATION)
app.add_typer(policies.app, rich_help_panel=_OPERATION)
app.command(rich_help_panel=_OPERATION)(doctor.doctor)
app.add_typer(settings.app, rich_help_panel=_OPERATION)
app.command(rich_help_panel=_OPERATION)(settings.version)
app.command(rich_help_panel=_OPERATION)(simulating.simulate)
app.add_typer(benchmarking.app, rich_help_panel=_OPERATION)


def run() -> int:
    """Run the command line of this process and return the exit code."""
    rendering.forgive_encodings()
    try:
        app(prog_name="cachefs")
    except SystemExit as end:
        return _flush(end.code if isinstance(end.code, int) else exits.FAILURE)
    except CacheFSError as error:
        rendering.print_error(error)
        return exits.exit_code(error)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - nobody is above us
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            return _unwritable(error)
        traceback.print_exc()
        rendering.say("this is a bug in cachefs; please report it, with the lines above")
        return exits.BUG
    return exits.OK


def _flush(code: int) -> int:
    """Write out what is left; an output that takes no more is no reason for a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return exits.BROKEN_PIPE
    except OSError as error:
        return _unwritable(error)
    return code


def _unwritable(error: OSError) -> int:
    """Say that the output took no more, and see to it that Python does not try again at its end."""
    failure = CapacityError(
        f"the output cannot be written: {(error.strerror or str(error)).lower()}"
    )
    rendering.print_error(failure)
    _forget_output()
    return exits.exit_code(failure)


def _forget_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
