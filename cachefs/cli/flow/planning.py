"""``cachefs flow plan``: what a run would take."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.flow.starting import Params, parse_params, read_document
from cachefs.cli.rendering import console, print_json, print_table

Document = dict[str, Any]  # Any: JSON


def plan(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A flow as YAML or JSON; - is standard input.")
    ],
    *,
    state: options.State = None,
    param: Params = None,
    as_json: options.Json = False,
) -> None:
    """Say what a run would move, how long it would take, and what it would cost; changes nothing.

    The exit code is 8 if it is over the flow's budget, or does not fit into the cache.
    """
    from cachefs.cli import exits
    from cachefs.cli.session import Session
    from cachefs.errors import CapacityError

    document, _ = read_document(file)
    body = {"document": document, "file": file, "params": parse_params(param or [])}
    planned = Session(state).api.post("/v1/flows/plan", body)
    if as_json:
        print_json(planned)
    else:
        _print(planned["plan"])
        for refusal in planned["refusals"]:
            console().print(f"[red]✗[/red] {refusal}", highlight=False)
    if planned["refusals"]:
        raise typer.Exit(exits.exit_code(CapacityError("")))


def _print(plan: Document) -> None:
    critical = set(plan["critical_path"])
    rows = ((_mark(step, critical), *_cells(step)) for step in plan["steps"])
    print_table(
        ("", "STEP", "BEGINS>", "TAKES>", "BYTES>", "CACHED>", "ORIGIN>", "PEERS>", "NOTE"), rows
    )
    print_table(("", ""), _totals(plan))


def _mark(step: Document, critical: set[str]) -> str:
    return "▸" if step["id"] in critical else ""


def _cells(step: Document) -> Iterator[str]:
    from cachefs.config.units import format_duration, format_size

    yield step["id"]
    yield format_duration(step["begins"])
    yield "?" if step["seconds"] is None else format_duration(step["seconds"])
    for name in ("bytes_total", "bytes_cached", "origin_bytes", "peer_bytes"):
        yield format_size(step[name]) if step["bytes_total"] else ""
    yield step["note"]


def _totals(plan: Document) -> Iterator[tuple[str, str]]:
    from cachefs.config.units import format_duration, format_size

    least = "at least " if plan["seconds_unknown"] else ""
    yield "takes", f"{least}{format_duration(plan['seconds'])}"
    yield "critical path (▸)", " → ".join(plan["critical_path"])
    yield "from the origin", format_size(plan["origin_bytes"])
    yield "between workers", format_size(plan["peer_bytes"])
    yield (
        "cached already",
        f"{format_size(plan['bytes_cached'])} of {format_size(plan['bytes_total'])}",
    )
    if plan["egress_usd"]:
        yield "egress", f"{plan['egress_usd']:.2f} USD"
    for step, why in plan["skipped"].items():
        yield f"{step} would not run", why
