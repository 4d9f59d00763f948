"""``cachefs bench``: every path against its floor, on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cachefs.cli.rendering import print_facts, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachefs.benchmarks.measuring import Row


class _RunByDefault(TyperGroup):
    """``cachefs bench remote`` is ``cachefs bench run remote``, and without words it runs all."""

    def parse_args(
        self,
        ctx: Any,  # Any: the class that typer declares here is private
        args: list[str],
    ) -> list[str]:
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="bench",
    cls=_RunByDefault,
    help="Measure every path against its floor, on this machine.",
    rich_markup_mode="rich",
)


@app.command("run")
def run(
    scenarios: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCENARIO", help="`cachefs bench list` lists them; all if none is named."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, one run: do the scenarios work at all?")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the rows to a file, too.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="For the data to measure with.")
    ] = Path(".cache/bench"),
) -> None:
    """Run scenarios and print a table; the system that runs here is not touched."""
    from cachefs.benchmarks.context import SEED, Bench, machine, own
    from cachefs.benchmarks.reports import write_rows
    from cachefs.benchmarks.scenarios import run_scenarios

    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder=folder.resolve(), quick=quick, say=say)
    print_facts(
        [
            *machine(),
            ("config", f"{bench.size / 1e9:g} GB, {bench.runs} runs, folder {bench.folder}"),
            ("seed", SEED),
        ]
    )
    rows: list[Row] = []
    with own(bench.folder):
        for more in run_scenarios(bench, scenarios or []):
            rows += more
            for row in more:
                say(f"  {row.scenario}: {_result(row)}")
            if json_file is not None:  # what was measured is not lost if a later scenario is ended
                write_rows(json_file, rows)
    print_rows(rows)
    if any(row.has_failed for row in rows):
        raise typer.Exit(1)


@app.command("list")
def list_scenarios() -> None:
    """List the scenarios."""
    from cachefs.benchmarks.scenarios import describe

    print_table(("SCENARIO", "WHAT IT DOES"), describe())


@app.command("compare")
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A results file.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="A later one.")],
) -> None:
    """Compare two results files: B ÷ A, with the spread of both."""
    from cachefs.benchmarks import reports

    changes = reports.compare(reports.read_rows(before), reports.read_rows(after))
    print_table(
        ("SCENARIO", "A>", "B>", "B ÷ A>", "SPREAD>", ""),
        (
            (
                change.scenario,
                f"{change.before:.3g}",
                f"{change.after:.3g}",
                f"{change.factor:.2f}",
                f"±{change.spread:.0%}",
                "" if change.is_clear else "within the spread",
            )
            for change in changes
        ),
    )


def _result(row: "Row") -> str:
    if not row.runs:
        return row.note
    result = f"{row.value:.3g} {row.unit}"
    return result if row.ratio is None else f"{result}, {row.ratio:.2f} of {row.against}"


def print_rows(rows: "Sequence[Row]") -> None:
    """Print a table of results."""
    words = {True: "reached", False: "BELOW", None: ""}
    print_table(
        (
            "SCENARIO",
            "VALUE>",
            "UNIT",
            "RATIO>",
            "GOAL>",
            "",
            "SPREAD>",
            "RUNS>",
            "AGAINST",
            "NOTE",
        ),
        (
            (
                row.scenario,
                f"{row.value:.3g}" if row.runs else "-",
                row.unit,
                "-" if row.ratio is None else f"{row.ratio:.2f}",
                "-" if row.at_least is None else f"≥ {row.at_least:g}",
                words[row.is_good],
                f"±{row.spread:.0%}" if row.runs else "-",
                row.runs,
                row.against,
                row.note,
            )
            for row in rows
        ),
    )
