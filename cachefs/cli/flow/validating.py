"""What is wrong with flows, laid out for people and for programs.

For people each problem has its line of the file below it, with a mark where it is: who reads ten problems
need not look up ten lines.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachefs.cli.rendering import console, print_json, say
from cachefs.core.names import printable
from cachefs.dataflow.spec.document import DOCUMENT_BYTES_MAX
from cachefs.dataflow.spec.model import Flow, Place
from cachefs.dataflow.spec.problems import SHOWN_COUNT, FlowDocumentError, Problem
from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import ConfigError

if TYPE_CHECKING:
    from rich.text import Text

_EXCERPT_WIDTH = 96
"""Characters of a line that are shown around a problem; with its number before it they fit a terminal."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that was read."""

    file: str
    flow: Flow | None = None
    problems: tuple[Problem, ...] = ()
    lines: Sequence[str] = field(default_factory=list)


def check(file: str) -> Checked:
    """Read a flow; whatever is wrong is in what it returns."""
    name = "standard input" if file == "-" else file
    text, problem = _read(file)
    if problem:
        return Checked(name, problems=(Problem(name, Place(1, 1), "", problem),))
    lines = text.splitlines()
    try:
        return Checked(name, read_flow(text, name=name), lines=lines)
    except FlowDocumentError as error:
        return Checked(name, problems=error.problems, lines=lines)


def read_text(file: str) -> str:
    """Return a file's text.

    Raises:
        ConfigError: It cannot be read.
    """
    text, problem = _read(file)
    if problem:
        raise ConfigError(problem, subject=printable(file))
    return text


def _read(file: str) -> tuple[str, str]:
    """Return the text, or what keeps us from reading it."""
    try:
        if file == "-":
            content = sys.stdin.buffer.read(DOCUMENT_BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(DOCUMENT_BYTES_MAX + 1)
        return content.decode("utf-8-sig"), ""
    except OSError as error:
        return "", f"cannot read the file: {(error.strerror or str(error)).lower()}"
    except UnicodeDecodeError as error:
        return "", f"not UTF-8 text: byte {error.start}"


def print_as_json(checked: Sequence[Checked]) -> None:
    """Print a list with an object for each file."""
    print_json([_document(one) for one in checked])


def _document(checked: Checked) -> dict[str, Any]:  # Any: a JSON document
    flow = checked.flow
    return {
        "file": checked.file,
        "valid": flow is not None,
        "flow": flow.full_name if flow else None,
        "steps": [step.id for step in flow.steps] if flow else [],
        "finally": [step.id for step in flow.finally_] if flow else [],
        "problems": [
            {
                "line": problem.place.line,
                "column": problem.place.column,
                "path": problem.path,
                "message": problem.message,
                "hint": problem.hint,
            }
            for problem in checked.problems
        ],
    }


def print_for_people(checked: Sequence[Checked]) -> None:
    """Print the problems below each other, or what each file is."""
    from rich.text import Text

    output = console()
    for one in checked:
        if one.flow is not None:
            text = Text.assemble((printable(one.file), "bold"), ": ", _summary(one.flow))
            output.print(text, soft_wrap=True)
        for problem in one.problems[:SHOWN_COUNT]:
            output.print(_laid_out(problem, one.lines), soft_wrap=True)
    _say_how_many(checked)


def _summary(flow: Flow) -> str:
    count = len(flow.steps)
    steps = "1 step" if count == 1 else f"{count:,} steps"
    last = f", and {len(flow.finally_)} at last" if flow.finally_ else ""
    return f"{flow.full_name} is valid: {steps}{last}"


def _say_how_many(checked: Sequence[Checked]) -> None:
    count = sum(len(one.problems) for one in checked)
    if count:
        bad = sum(bool(one.problems) for one in checked)
        of = f" in {bad} of {len(checked)} files" if len(checked) > 1 else ""
        say(f"{count:,} problem{'s' if count != 1 else ''}{of}")


def _laid_out(problem: Problem, lines: Sequence[str]) -> "Text":
    """Return a problem with its line of the file."""
    from rich.text import Text

    where = f"{problem.file}:{problem.place.line}:{problem.place.column}"
    text = Text.assemble((printable(where), "bold"), ": ", (printable(problem.message), "red"))
    number = str(problem.place.line)
    margin = " " * len(number)
    if problem.secret:
        text.append(f"\n  {number} | ", "dim").append("(not shown: a secret may be in it)", "dim")
        text.append(f"\n  {margin} | {printable(problem.hint)}", "green")
    elif 0 < problem.place.line <= len(lines):
        excerpt, column = _excerpt(lines[problem.place.line - 1], problem.place.column)
        text.append(f"\n  {number} | ", "dim").append(excerpt)
        text.append(f"\n  {margin} | ", "dim").append(" " * column).append("^", "bold red")
        if problem.hint:
            text.append(f" {printable(problem.hint)}", "green")
    elif problem.hint:
        text.append(f"\n  {printable(problem.hint)}", "green")
    if problem.path:
        text.append(f"\n  {margin} = in {printable(problem.path)}", "dim")
    return text


def _excerpt(line: str, column: int) -> tuple[str, int]:
    """Return the part of a line around a column, and where in it the column is; 0 is its beginning."""
    at = max(column - 1, 0)
    begin = 0
    if len(line) > _EXCERPT_WIDTH:
        begin = max(0, min(at - _EXCERPT_WIDTH // 3, len(line) - _EXCERPT_WIDTH))
    cut = line[begin : begin + _EXCERPT_WIDTH]
    before, after = ("…" if begin else ""), ("…" if begin + len(cut) < len(line) else "")
    shown = before + printable(cut) + after
    return shown, len(before) + len(printable(line[begin:at]))
