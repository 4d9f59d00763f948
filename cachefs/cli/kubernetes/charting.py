"""``cachefs k8s chart``: the Helm chart, made of the same documents as everything else."""

from pathlib import Path
from typing import Annotated

import typer

from cachefs.cli.rendering import say
from cachefs.errors import ConfigError


def chart(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A new folder, or an empty one.")
    ],
) -> None:
    """Write the Helm chart, for `helm install cachefs DIR --namespace cachefs --values FILE`."""
    from cachefs.k8s.chart import files

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("not an empty folder", subject=str(out), hint="name a new one")
    made = files()
    for name, text in made.items():
        file = out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    say(f"wrote {len(made)} files below {out}")
