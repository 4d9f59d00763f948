"""The group ``cachefs hint`` with its commands.

``cachefs hint llama`` is ``cachefs hint ask llama``, ``cachefs hint --batch FILE`` is ``cachefs hint batch FILE``.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from cachefs.cli.hinting import asking, batching, slurming, telling


class _AskByDefault(TyperGroup):
    """Words that are no command are a question."""

    def parse_args(
        self,
        ctx: Any,  # Any: the class that typer declares here is private
        args: list[str],
    ) -> list[str]:
        if args[:1] == ["--batch"]:
            args = ["batch", *args[1:]]
        elif args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["ask", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="hint",
    cls=_AskByDefault,
    help="Where a job would be ready soonest, for any scheduler: `cachefs hint DATASET…` asks. "
    "A hint is advice: when nobody knows, it says why, and no job fails for it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

app.command()(asking.ask)
app.command()(batching.batch)
app.command()(telling.outcome)
app.command()(telling.reservations)
app.command()(slurming.publish_slurm)
app.command()(telling.token)
