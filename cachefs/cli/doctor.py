"""``cachefs doctor``: look at the machine and the system, and say what to fix.

Each check looks at one thing and yields findings: ``ok``, ``note`` (worth knowing), or ``problem``
with what to do about it. A check never changes anything (``--fix`` does, before the checks), and one
that fails to look says so instead of hiding the others.
"""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cachefs.cli import options
from cachefs.cli.rendering import console, print_json

if TYPE_CHECKING:
    from cachefs.cli.findings import Finding

_MARKS = {"ok": ("✓", "green"), "note": ("•", "yellow"), "problem": ("✗", "red")}


def doctor(
    state: options.State = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="First clear away dead mounts; live ones are never touched."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check this machine and the running system, and say what to fix.

    Looks at versions, limits, memory, mounts, the state folder, ports, clocks, and whether the
    datasets fit. The exit code is 1 if something is wrong.
    """
    from cachefs.cli.checks import examine

    show([*(_fixed() if fix else ()), *examine(os.environ, state)], as_json=as_json)


def show(findings: "Sequence[Finding]", *, as_json: bool) -> None:
    """Print what checks found, and end with 1 if something is wrong."""
    from rich.text import Text

    from cachefs.cli.exits import FAILURE
    from cachefs.core.names import printable

    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        print_json(
            [
                {
                    "check": finding.check,
                    "level": finding.level,
                    "message": finding.message,
                    "advice": finding.advice,
                }
                for finding in findings
            ]
        )
    else:
        output = console()
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            for line in _lines(finding.level, finding.check.ljust(width), finding.message):
                output.print(Text.assemble(*line))
            if finding.advice:
                output.print(Text(f"  {'':{width}}  → {printable(finding.advice)}"))
        output.print(_verdict(problems))
    if problems:
        raise typer.Exit(FAILURE)


def _fixed() -> "list[Finding]":
    from cachefs.cli.mounting.checks import clear_stale
    from cachefs.cli.mounting.listing import run_folders
    from cachefs.transport.runtime import ThreadRuntime

    return list(clear_stale(ThreadRuntime(), run_folders()))


def _lines(level: str, check: str, message: str) -> Iterator[list[tuple[str, str] | str]]:
    from cachefs.core.names import printable

    mark, colour = _MARKS[level]
    yield [(mark, colour), f" {check}  {printable(message)}"]


def _verdict(problems: int) -> str:
    if not problems:
        return "nothing to fix"
    return "1 thing to fix" if problems == 1 else f"{problems} things to fix"
