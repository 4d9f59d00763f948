"""A progress bar: bytes, rate, time left. On a terminal it moves; elsewhere it is silent."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cachefs.config.units import format_size


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while the context lasts; yield what moves it by some bytes."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Amount(ProgressColumn):
        """Bytes so far, of how many, and how many a second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            rate = f"{format_size(speed)}/s" if speed else "…"
            so_far = f"{format_size(task.completed)} of {format_size(task.total or 0)}"
            return Text(f"{so_far}  {rate}".ljust(36))

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        Amount(),
        TextColumn("ETA"),
        TimeRemainingColumn(compact=True),
        console=Console(file=sys.stderr),
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)
