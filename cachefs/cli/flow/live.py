"""Following a run: a table that moves on a terminal, elsewhere a line for each change.

The run is asked for twice a second. A coordinator that does not answer for a while, because it is
restarted, is waited for: the run goes on when it is back.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cachefs.cli.flow.asking import run_path
from cachefs.cli.flow.showing import Document, facts_of, print_status, row_of, table_of
from cachefs.cli.rendering import say
from cachefs.dataflow.records import RUN_OVER
from cachefs.errors import CoordinatorUnavailableError

if TYPE_CHECKING:
    from cachefs.cli.session import Session

_POLL_SECONDS = 0.5
_AWAY_SECONDS = 60.0
"""How long a coordinator may be away before we give up."""
_FRAME_ROWS = 8
"""What is above and below the steps."""


def follow(session: "Session", run: str) -> Document:
    """Show a run until it is over, and return how it ended.

    Raises:
        CoordinatorUnavailableError: Nobody has answered for a minute.
    """
    shown = _on_terminal if sys.stderr.isatty() else _as_lines
    status = shown(session, run)
    if sys.stderr.isatty() and sys.stdout.isatty():
        print_status(status)
    else:
        say(f"run {run}: {status['run']['state']}")
    return status


def _statuses(session: "Session", run: str) -> Iterator[Document]:
    """Yield the run now and then, the last time when it is over."""
    away_since: float | None = None
    while True:
        try:
            status: Document = session.api.get(run_path(run))
        except CoordinatorUnavailableError:
            now = session.runtime.monotonic()
            away_since = now if away_since is None else away_since
            if now - away_since > _AWAY_SECONDS:
                raise
        else:
            away_since = None
            yield status
            if status["run"]["state"] in RUN_OVER:
                return
        session.runtime.sleep(_POLL_SECONDS)


def _on_terminal(session: "Session", run: str) -> Document:
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.text import Text

    console = Console(file=sys.stderr, highlight=False)
    status: Document = {}
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        for status in _statuses(session, run):
            rows_max = max(3, console.height - _FRAME_ROWS)
            facts = "   ".join(f"{name}: {value}" for name, value in facts_of(status)[1:])
            hidden = len(status["steps"]) - rows_max
            parts: list[RenderableType] = [
                Text(f"{run}   {facts}", no_wrap=True, overflow="ellipsis"),
                table_of(status, rows_max=rows_max, now=session.runtime.wall()),
            ]
            if hidden > 0:
                parts.append(Text(f"and {hidden} more steps", style="dim"))
            live.update(Group(*parts))
    return status


def _as_lines(session: "Session", run: str) -> Document:
    before: dict[str, str] = {}
    status: Document = {}
    for status in _statuses(session, run):
        for step in status["steps"]:
            if step["state"] not in (before.get(step["id"]), "Pending"):
                before[step["id"]] = step["state"]
                cells = [cell.strip() for cell in row_of(step, 0.0)]
                say("  ".join(cell for cell in cells if cell))
    return status
