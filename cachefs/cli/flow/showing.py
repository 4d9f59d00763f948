"""Runs for people: a table of steps with their bytes, and facts above it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cachefs.cli.rendering import print_facts, print_table
from cachefs.config.units import format_duration, format_size
from cachefs.core.names import printable

if TYPE_CHECKING:
    from rich.table import Table

Document = dict[str, Any]  # Any: a JSON document

_HEADINGS = ("STEP", "STATE", "PROGRESS>", "RATE>", "ETA>", "TIME>", "NOTE")
_COLOURS = {
    "Succeeded": "green",
    "Compensated": "yellow",
    "Failed": "red",
    "TimedOut": "red",
    "UpstreamFailed": "red",
    "Cancelled": "yellow",
    "Running": "cyan",
    "Compensating": "cyan",
    "Retrying": "yellow",
    "Blocked": "magenta",
}


def trigger_text(trigger: Document) -> str:
    """Return when a registered flow starts, as the end of a sentence."""
    spec = trigger["spec"]
    if trigger["kind"] == "cron":
        return f"at {spec['cron']} (UTC)"
    if trigger["kind"] == "event":
        return f"with each new version of {spec['dataset']}"
    return "when its webhook is called"


def moment(seconds: float) -> str:
    """Return a moment as people write it, in UTC; empty for none."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def seconds_of(part: Document, now: float = 0.0) -> str:
    """Return how long a run or a step took, or has taken until ``now``."""
    # A step that is done again, or undone, has begun after it had ended.
    end = part["ended_at"] if part["ended_at"] >= part["started_at"] else now
    return format_duration(round(end - part["started_at"], 1)) if part["started_at"] and end else ""


def amount(value: float, unit: str) -> str:
    """Return a number of bytes, or of whatever a step counts."""
    if unit == "seconds":
        return format_duration(value)
    return format_size(value) if unit == "bytes" else f"{value:g}"


def row_of(step: Document, now: float) -> tuple[str, ...]:
    """Return a step's cells under the headings."""
    found = step["progress"]
    unit = found["unit"]
    progress = rate = left = ""
    if found["total"]:
        whole = amount(found["total"], unit)
        progress = (
            whole
            if found["done"] == found["total"]
            else f"{amount(found['done'], unit)} of {whole}"
        )
        progress += "" if unit in ("bytes", "seconds") else f" {unit}"
    running = step["state"] == "Running"
    if running and found["rate"]:
        rate = f"{amount(found['rate'], unit)}/s"
    if running and found["seconds_left"] is not None:
        left = format_duration(round(found["seconds_left"]))
    told = step["failure"] or ("" if step["ended_at"] else found["note"])
    if step["attempt"] > 1:
        told = f"attempt {step['attempt']}  {told}".rstrip()
    name = step["id"]
    if "[" in name and step["value"] is not None:
        name = f"  {name} {step['value']}"
    return (
        name,
        step["state"],
        progress,
        rate,
        left,
        seconds_of(step, now),
        told.splitlines()[0] if told else "",
    )


def facts_of(status: Document) -> list[tuple[str, object]]:
    """Return what there is to say of a run as a whole."""
    run, found = status["run"], status["progress"]
    facts: list[tuple[str, object]] = [
        ("run", run["id"]),
        ("flow", run["flow"]),
        ("state", _state(run)),
        ("cause", run["cause"]),
    ]
    if run["failure"]:
        facts.append(("failure", run["failure"]))
    if found["total"]:
        facts.append(("bytes", f"{format_size(found['done'])} of {format_size(found['total'])}"))
    if found["origin_bytes"]:
        facts.append(("from origins", format_size(found["origin_bytes"])))
    if status["egress_usd"]:
        facts.append(("egress", f"{status['egress_usd']:.2f} USD"))
    return facts


def _state(run: Document) -> str:
    if run["ending"] and run["ending"] != run["state"]:
        return f"{run['state']}, ending as {run['ending']}"
    if run["wants"] and run["state"] in ("Queued", "Running"):
        return f"{run['state']}, to {run['wants']}"
    return str(run["state"])


def print_status(status: Document) -> None:
    """Print a run with its steps."""
    print_facts(facts_of(status))
    print()
    print_table(_HEADINGS, [row_of(step, 0.0) for step in status["steps"]])


def table_of(status: Document, *, rows_max: int, now: float) -> "Table":
    """Return a run as a table for a terminal that has so many rows left.

    Of more steps than fit, those that go on and the last that ended are shown.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in _HEADINGS:
        right = heading.endswith(">")
        table.add_column(
            heading.removesuffix(">"), justify="right" if right else "left", no_wrap=True
        )
    for step in chosen(status["steps"], rows_max):
        cells = [Text(printable(cell)) for cell in row_of(step, now)]
        cells[1].stylize(_COLOURS.get(step["state"], "dim"))
        table.add_row(*cells)
    return table


def chosen(steps: list[Document], rows_max: int) -> list[Document]:
    """Return the steps that matter most, in their order."""
    if len(steps) <= rows_max:
        return steps
    busy = ("Running", "Compensating", "Retrying", "Blocked")
    bad = ("Failed", "TimedOut")

    def weight(step: Document) -> tuple[int, float]:
        if step["state"] in busy:
            return (0, 0.0)
        return (1 if step["state"] in bad else 2, -step["ended_at"])

    best = sorted(range(len(steps)), key=lambda index: weight(steps[index]))[:rows_max]
    return [steps[index] for index in sorted(best)]
