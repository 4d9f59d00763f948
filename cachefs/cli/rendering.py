"""Output: tables for people, JSON for programs.

Everything that comes from outside (names, messages) goes through :func:`printable`, so that no file
name can move the cursor, colour the terminal or forge a line. Tables go to standard output without
frames, to be read and to be cut by other tools; what is said about an action goes to standard error.
"""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cachefs.core.names import printable
from cachefs.errors import CacheFSError

if TYPE_CHECKING:
    from rich.console import Console


def forgive_encodings() -> None:
    """Let characters that the terminal's encoding lacks be escaped, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(document: Any) -> None:  # Any: a JSON document
    """Print a document; characters beyond ASCII are escaped, and so are control characters."""
    print(json.dumps(document, indent=2))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows below headings; columns whose heading ends in ``>`` are aligned right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in headings:
        name = heading.removesuffix(">")
        right = heading.endswith(">")
        table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    console().print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, aligned."""
    known = list(facts)
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        print(f"{name:{width}}  {printable(str(value))}")


def console() -> "Console":
    """Return a console; piped output is not wrapped to the width of a terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 4096
    return Console(file=sys.stdout, highlight=False, soft_wrap=False, width=width)


def say(message: str) -> None:
    """Tell a person what happens; on standard error, so that it is never part of the result."""
    print(printable(message), file=sys.stderr, flush=True)


def print_error(error: CacheFSError) -> None:
    """Print an expected failure: what is wrong, and what to do about it."""
    text = f"{error.subject}: {error.message}" if error.subject else error.message
    say(f"error: {text}")
    if error.hint:
        say(f"hint: {error.hint}")
