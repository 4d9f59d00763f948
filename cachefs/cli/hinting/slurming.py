"""``cachefs hint publish-slurm``: what keeps Slurm's features true.

It is run again and again, by a timer on the machine of ``slurmctld``: features are lost when that
starts anew. If the coordinator does not answer, it fails and what is published stays.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import say

_SECONDS = 30.0
"""For each of Slurm's commands, which answer in milliseconds unless ``slurmctld`` is gone."""
_NODES_MAX = 10_000
_ASK_SECONDS = 10.0

Datasets = Annotated[
    list[str] | None,
    typer.Argument(metavar="DATASET…", help="Whose features; of all datasets without any."),
]
Table = Annotated[
    Path | None,
    typer.Option(
        "--table", metavar="FILE", help="Write what a job_submit script reads there, whole."
    ),
]


def publish_slurm(
    datasets: Datasets = None,
    *,
    table: Table = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")
    ] = False,
    state: options.State = None,
) -> None:
    """Tell Slurm by features of its nodes who holds which dataset; features of others are kept."""
    from cachefs.cli.session import Session
    from cachefs.hints.renderings.slurm import parse_nodes, updates
    from cachefs.hints.renderings.slurm import table as table_of

    session = Session(state)
    names = datasets or [each["name"] for each in session.datasets()]
    features = {name: _features(session.api, name) for name in names}
    wanted: dict[str, list[str]] = {}
    for by_node in features.values():
        for node, words in by_node.items():
            wanted.setdefault(node, []).extend(words)
    known = parse_nodes(_run(["scontrol", "--oneliner", "show", "nodes"]))
    commands = updates(known, wanted)
    for command in commands:
        if dry_run:
            print(" ".join(command))
        else:
            _run(command)
    if table is not None and not dry_run:
        _write(table, table_of(_of_known(features, known)))
    strangers = len(wanted.keys() - known.keys())
    unknown = f"; {strangers} of their nodes are not Slurm's" if strangers else ""
    say(f"{len(names)} datasets, {len(commands)} commands{unknown}")


def _features(api: Any, dataset: str) -> dict[str, list[str]]:  # Any: an Api
    question = {
        "datasets": [{"name": dataset}],
        "limit": _NODES_MAX,
        "dry_run": True,
        "renderings": ["slurm"],
    }
    answer = api.post("/v1/hints", question, timeout_seconds=_ASK_SECONDS)
    found: dict[str, list[str]] = answer["renderings"]["slurm"]["features"]
    return found


def _of_known(
    features: dict[str, dict[str, list[str]]], known: Any
) -> dict[str, dict[str, list[str]]]:  # Any: by node
    """Return the features of Slurm's nodes alone: jobs are told how many have one."""
    return {
        dataset: {node: words for node, words in by_node.items() if node in known}
        for dataset, by_node in features.items()
    }


def _run(command: Sequence[str]) -> str:
    import subprocess

    from cachefs.errors import ConfigError, DeadlineError

    try:
        done = subprocess.run(  # noqa: S603 - our own arguments, and no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {command[0]} here", hint="run this where slurmctld runs"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineError("slurmctld did not answer", subject=command[0]) from error
    if done.returncode != 0:
        raise ConfigError(done.stderr.strip() or "it failed", subject=" ".join(command[:2]))
    return done.stdout


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole: who reads it meanwhile has the old one or the new one."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.replace(path)
