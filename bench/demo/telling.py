"""How the demo speaks: numbered chapters, commands as typed, one table at the end."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cachefs.config.units import format_size

_CONSOLE = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of reading the whole model."""

    title: str
    seconds: float
    size: int
    sources: dict[str, int] | None
    """Bytes by where they came from; ``None`` for what did not go through the cache."""


def title(text: str) -> None:
    """Begin the story."""
    _CONSOLE.print(Text(f"\n{text}", style="bold"))


def chapter(number: int, text: str) -> None:
    """Begin a chapter."""
    _CONSOLE.print(Text.assemble("\n", (f"{number}  {text}", "bold cyan")))


def command(text: str, note: str = "") -> None:
    """Show a command."""
    line = Text(f"$ {text}", style="green")
    if note:
        line.append(f"   # {note}", style="dim")
    _CONSOLE.print(line, soft_wrap=True)


def tell(text: str) -> None:
    """Say something."""
    _CONSOLE.print(Text(text), soft_wrap=True)


def table(rows: Sequence[Measured]) -> None:
    """Show what was measured."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    shown.add_column("reading the whole model")
    for heading in ("seconds", "GB/s", "local", "peer", "origin"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        sources = row.sources or {}
        cells = [
            "-" if row.sources is None else format_size(sources.get(source, 0))
            for source in ("local", "peer", "origin")
        ]
        speed = row.size / row.seconds / 1e9
        shown.add_row(row.title, f"{row.seconds:.3f}", f"{speed:.2f}", *cells)
    _CONSOLE.print()
    _CONSOLE.print(shown)
