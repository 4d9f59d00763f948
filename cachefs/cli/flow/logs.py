"""``cachefs flow logs``: what the program of a step wrote."""

from typing import Annotated

import typer

from cachefs.cli import options


def show_log(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    step: Annotated[str, typer.Argument(metavar="STEP", help="A process step: smoke, or copy[0].")],
    *,
    attempt: Annotated[
        int, typer.Option("--attempt", metavar="N", help="Which attempt; without it, the last.")
    ] = 0,
    state: options.State = None,
) -> None:
    """Show what the program of a step wrote, standard output and standard error as they came."""
    import sys
    from urllib.parse import quote

    from cachefs.cli.session import Session
    from cachefs.core.names import printable

    path = f"/v1/runs/{quote(run, safe='')}/steps/{quote(step, safe='')}/log"
    found = Session(state).api.get(
        f"{path}?bytes=4194304" + (f"&attempt={attempt}" if attempt else "")
    )
    for line in found["text"].splitlines():
        sys.stdout.write(f"{printable(line)}\n")
