"""Options that many commands share, so that each has one name and one explanation."""

from pathlib import Path
from typing import Annotated

import typer

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="The state folder of the system to use. "
        "Without it: CACHEFS_COORDINATOR, CACHEFS_STATE, or your own default folder.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="CACHEFS_CONFIG",
        help="A YAML file of settings; `cachefs config show` lists them.",
    ),
]
