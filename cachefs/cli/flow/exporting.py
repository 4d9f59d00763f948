"""``cachefs flow export``: a flow in the words of something else that starts it."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A flow as YAML or JSON; - is standard input.")
    ],
    *,
    to: Annotated[Literal["argo"], typer.Option("--to", help="argo: a Workflow, or CronWorkflow.")],
    coordinator: Annotated[
        str,
        typer.Option(
            "--coordinator", metavar="HOST:PORT", help="The coordinator's, as pods reach it."
        ),
    ],
    image: Annotated[
        str,
        typer.Option(
            "--image", metavar="IMAGE", help="That has cachefs. (default: cachefs:VERSION)"
        ),
    ] = "",
    token: Annotated[
        str,
        typer.Option(
            "--token-secret",
            metavar="SECRET/KEY",
            help="The Kubernetes secret with the cluster's token.",
        ),
    ] = "cachefs-token/token",  # noqa: S107 - where it is
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where it is written. (default: shown)"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")] = False,
) -> None:
    """Export a flow as a workflow of Argo's, whose pods follow a run of it.

    Nothing has to be running. `docs/DATAFLOW.md` says what becomes of each part of a flow.
    """
    import json

    from cachefs import __version__
    from cachefs.cli.flow.starting import read_document
    from cachefs.cli.flow.writing import to_yaml
    from cachefs.cli.rendering import say
    from cachefs.dataflow.exporting import argo

    del to  # there is one
    text, flow = read_document(file)
    place = argo.Place(
        image=image or f"cachefs:{__version__}", coordinator=coordinator, token=token
    )
    exported = argo.export(flow, text, place)
    if as_json:
        written = json.dumps(exported.document, indent=2) + "\n"
    else:
        written = to_yaml(exported.document)
    for note in exported.notes:
        say(f"note: {note}")
    if out is None:
        typer.echo(written, nl=False)
    else:
        out.write_text(written)
