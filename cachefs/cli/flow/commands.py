"""The group ``cachefs flow`` with its commands."""

from typing import Annotated

import typer

from cachefs.cli import options
from cachefs.cli.flow import argo, asking, exporting, importing, logs, planning, starting

app = typer.Typer(
    name="flow",
    help="Flows: scale out, copy, prefetch, wait, roll out and scale in, as one document.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command()
def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="Flows as YAML or JSON; - is standard input."),
    ],
    *,
    as_json: options.Json = False,
) -> None:
    """Check flows, and tell every problem with its place.

    Nothing has to be running. The exit code is 2 if there is any problem.
    """
    from cachefs.cli import exits
    from cachefs.cli.flow import validating

    checked = [validating.check(file) for file in files]
    if as_json:
        validating.print_as_json(checked)
    else:
        validating.print_for_people(checked)
    if any(one.problems for one in checked):
        raise typer.Exit(exits.USAGE)


app.command()(planning.plan)
app.command()(starting.submit)
app.command("list")(asking.list_runs)
app.command()(starting.status)
app.command()(starting.watch)
app.command()(asking.events)
app.command("logs")(logs.show_log)
app.command()(asking.cancel)
app.command()(asking.pause)
app.command()(asking.resume)
app.command()(asking.retry)
app.command()(asking.approve)
app.command()(exporting.export)
app.command("import")(importing.import_)
app.add_typer(argo.app)
