"""``cachefs hint batch``: where all jobs of a queue had best start.

The question is what ``POST /v1/hints/batch`` takes, in a file or on standard input, as JSON or YAML. Whoever
has a queue has a program that asks, so nothing is made up here: a coordinator that does not answer is an error, and the program goes on as it would have.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_json, print_table, say

Document = dict[str, Any]  # Any: a JSON document

_TIMEOUT_SECONDS = 10.0
_HEADINGS = ("JOB", "NODE", "PLACE", "START", "READY IN>", "BOTTLENECK", "KEPT AS")


def batch(
    queue: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-", help="The jobs in line, as POST /v1/hints/batch has them."
        ),
    ],
    *,
    reserve: Annotated[
        str | None,
        typer.Option("--reserve", metavar="TIME", help="Keep places so long; jobs may wait then."),
    ] = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Say of all jobs of a queue where they start, so that all of them are best off."""
    from cachefs.cli.session import Session
    from cachefs.config.units import parse_duration

    question = _read(queue)
    if reserve is not None:
        for job in question.get("jobs", []):
            job.setdefault("reserve", {"ttl_s": parse_duration(reserve)})
    api = Session(state).api
    answer = api.post("/v1/hints/batch", question, timeout_seconds=_TIMEOUT_SECONDS)
    if as_json:
        print_json(answer)
        return
    told = list(zip(question["jobs"], answer["hints"], strict=True))
    print_table(_HEADINGS, [_row(job["job_id"], hint) for job, hint in told])
    for note in dict.fromkeys(hint["degraded"] for _, hint in told if hint["degraded"]):
        say(f"note: {note}")


def _read(queue: str) -> Document:
    import yaml

    from cachefs.errors import ConfigError

    try:
        text = sys.stdin.read() if queue == "-" else Path(queue).read_text(encoding="utf-8")
        found = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("the queue cannot be read", subject=queue, hint=str(error)) from error
    except yaml.YAMLError as error:
        raise ConfigError("the queue is neither JSON nor YAML", subject=queue) from error
    jobs = found.get("jobs") if isinstance(found, dict) else None
    if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise ConfigError("a queue is a mapping with a list of jobs", subject=queue)
    return dict(found)


def _row(job: str, hint: Document) -> tuple[str, ...]:
    from cachefs.config.units import format_duration

    start = hint["start"]
    kept = hint["reservation"]
    token = kept["token"] if kept is not None else ""
    if start is None and hint["gang"] is not None:
        gang = hint["gang"]
        nodes = ", ".join(dict.fromkeys(gang["assignment"].values()))
        ready = format_duration(gang["ready_s"]["p50"])
        return (job, nodes, "", "together", ready, gang["bottleneck"], token)
    if start is None:
        return (job, "", "", "others first", "", "", token)
    when = "now" if start["now"] else f"in {format_duration(start['breakdown']['slot_s'])}"
    ready = format_duration(start["ready_s"])
    return (
        job,
        start["node"],
        start["place"] or "",
        when,
        ready,
        start["breakdown"]["bottleneck"],
        token,
    )
