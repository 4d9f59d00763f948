"""``cachefs flow import``: documents of others as a flow, with what is not in it said above it."""

from pathlib import Path
from typing import Annotated

import typer

from cachefs.cli import options


def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Fluid's operations as YAML; - is standard input.")
    ],
    *,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Of the flow. (default: the first one's)")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where it is written. (default: shown)"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Make a flow of Fluid's DataLoad, DataMigrate, DataProcess and DataBackup.

    Nothing has to be running. What a flow cannot say is refused, with its place; what has no counterpart
    is said in comments above the flow.
    """
    from cachefs.cli import exits
    from cachefs.cli.flow import validating
    from cachefs.cli.flow.writing import to_yaml
    from cachefs.cli.rendering import print_json, say
    from cachefs.dataflow.importing.fluid import read_fluid
    from cachefs.dataflow.spec.problems import FlowDocumentError

    shown = "standard input" if file == "-" else file
    text = validating.read_text(file)
    try:
        imported = read_fluid(text, file=shown, name=name)
    except FlowDocumentError as error:
        lines = text.splitlines()
        checked = validating.Checked(shown, problems=error.problems, lines=lines)
        validating.print_for_people([checked])
        raise typer.Exit(exits.USAGE) from error
    notes = "".join(f"# {note}\n" for note in imported.notes)
    written = notes + to_yaml(imported.document)
    if out is not None:
        out.write_text(written)
        for note in imported.notes:
            say(f"note: {note}")
    if as_json:
        print_json({"flow": imported.document, "notes": imported.notes})
    elif out is None:
        typer.echo(written, nl=False)
