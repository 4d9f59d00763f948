"""``cachefs flow argo``: what the pods of an exported flow run; people have no use for it.

``begin`` submits the flow, with the workflow's id as the key, so that a pod that comes twice is one run.
``follow`` waits for a step and ends as it did, ``ask`` waits for an approval to be asked for, and ``answer``
gives it. ``close`` cancels a run whose workflow was stopped, ``end`` waits for the run and ends as it did.
The run is named by its flow and that key.

Their exit codes are the usual ones: 11 for what failed, 12 for what was cancelled; 3 (no coordinator
answers) is the one that a workflow tries again.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cachefs.cli.flow.asking import run_path
from cachefs.cli.flow.showing import Document
from cachefs.cli.flow.starting import Params
from cachefs.cli.rendering import say

if TYPE_CHECKING:
    from cachefs.cli.session import Session

app = typer.Typer(name="argo", hidden=True, no_args_is_help=True)

_POLL_SECONDS = 1.0
_CLOSE_SECONDS = 15.0
"""A run knows how it will end a moment after its last step; one that does not by then was left alone."""
_AWAY_SECONDS = 120.0
"""How long a coordinator may be away before the pod gives up, to be tried again."""
_RUNS_LISTED = 1000
"""As many as the coordinator lists at once, the newest first."""

Flow = Annotated[str, typer.Argument(metavar="FLOW", help="The run's flow: namespace/name.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="That it was submitted with.")]
StepId = Annotated[str, typer.Argument(metavar="STEP", help="A step's id.")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the answer is written.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Which workflow asks.")]
Failure = Annotated[
    Literal["fail", "continue"],
    typer.Option("--failure", help="Whether a failed step makes this command fail."),
]


@app.command()
def begin(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The flow.")],
    *,
    key: Annotated[str, typer.Option("--key", metavar="KEY", help="Once for each workflow.")],
    by: By,
    out: Out,
    param: Params = None,
) -> None:
    """Submit a flow, and write the run's id to a file."""
    from cachefs.cli.flow.starting import parse_params, read_document

    document, _ = read_document(file)
    body = {"document": document, "file": file, "params": parse_params(param or []), "by": by}
    run = _session().api.post("/v1/runs", body, headers={"Idempotency-Key": key})
    out.write_text(run["id"])
    say(f"run {run['id']}")


@app.command()
def follow(flow: Flow, key: Key, step: StepId, *, failure: Failure = "fail") -> None:
    """Wait until a step is over, and end as it did."""
    session = _session()
    _follow(session, _find(session, flow, key), step, failure)


@app.command()
def ask(flow: Flow, key: Key, step: StepId, *, out: Out) -> None:
    """Wait until an approval is asked for, or will not be, and write the step's state to a file."""
    from cachefs.dataflow.records import STEP_OVER

    session = _session()
    for status in _statuses(session, _find(session, flow, key)):
        state = _step(status, step)["state"]
        if state == "Blocked" or state in STEP_OVER:
            out.write_text(state)
            say(f"{step}: {state}")
            return


@app.command()
def answer(flow: Flow, key: Key, step: StepId, *, by: By, failure: Failure = "fail") -> None:
    """Approve a step, unless somebody has answered; then as `follow`."""
    from cachefs.errors import ConflictError

    session = _session()
    run = _find(session, flow, key)
    status = next(_statuses(session, run))
    if _step(status, step)["state"] == "Blocked":
        body = {"step": step, "granted": True, "by": by, "message": "resumed"}
        try:
            session.api.post(run_path(run, "/approve"), body)
        except ConflictError:
            say(f"{step}: somebody has answered already")
    _follow(session, run, step, failure)


@app.command()
def close(flow: Flow, key: Key) -> None:
    """Cancel a run that goes on although nobody follows it any more."""
    from cachefs.dataflow.records import RUN_OVER

    session = _session()
    run = _find(session, flow, key)
    until = session.runtime.monotonic() + _CLOSE_SECONDS
    for status in _statuses(session, run):
        found = status["run"]
        if found["ending"] or found["state"] in RUN_OVER:
            return
        if session.runtime.monotonic() >= until:
            say(f"run {run} goes on, and its workflow does not: it is cancelled")
            session.api.post(run_path(run, "/cancel"), {"by": "argo"})
            return


@app.command()
def end(flow: Flow, key: Key) -> None:
    """Wait until a run is over, and end as it did."""
    from cachefs.cli import exits
    from cachefs.cli.flow.showing import print_status
    from cachefs.dataflow.records import RUN_OVER

    session = _session()
    for status in _statuses(session, _find(session, flow, key)):
        state = status["run"]["state"]
        if state in RUN_OVER:
            print_status(status)
            raise typer.Exit(
                {"Succeeded": exits.OK, "Cancelled": exits.RUN_CANCELLED}.get(
                    state, exits.RUN_FAILED
                )
            )


def _session() -> "Session":
    from cachefs.cli.session import Session

    return Session(None)


def _find(session: "Session", flow: str, key: str) -> str:
    """Return the id of the run of a flow that was submitted with a key.

    Raises:
        NotKnownError: There is none: it never began, or was over so long ago that it is not kept.
    """
    from urllib.parse import urlencode

    from cachefs.errors import NotKnownError

    for active in ("true", "false"):
        query = urlencode({"flow": flow, "active": active, "limit": _RUNS_LISTED})
        listed = _patiently(session, f"/v1/runs?{query}")["runs"]
        found = next((run["id"] for run in listed if run["key"] == key), "")
        if found:
            return str(found)
    raise NotKnownError("the flow has no run with this key", subject=f"{flow} {key}")


def _follow(session: "Session", run: str, step: str, failure: str) -> None:
    from cachefs.dataflow.records import STEP_OVER

    told: dict[str, str] = {}
    for status in _statuses(session, run):
        record = _step(status, step)
        _report(record)
        for one in _with_instances(status, step):
            if told.get(one["id"]) != one["state"]:
                told[one["id"]] = one["state"]
                say(f"{one['id']}: {one['state']}  {one['failure']}".rstrip())
        if record["state"] in STEP_OVER:
            raise typer.Exit(_code(record["state"], failure))


def _code(state: str, failure: str) -> int:
    from cachefs.cli import exits
    from cachefs.dataflow.machine.states import FAILED
    from cachefs.dataflow.records import STEP_GOOD

    if state in STEP_GOOD or (failure == "continue" and state in FAILED):
        return exits.OK
    return exits.RUN_CANCELLED if state == "Cancelled" else exits.RUN_FAILED


def _report(record: Document) -> None:
    """Write how far a step is to where Argo looks for it: whole numbers, ``done/total``."""
    file = os.environ.get("ARGO_PROGRESS_FILE")
    total = int(record["progress"]["total"])
    if file and total > 0:
        done = min(int(record["progress"]["done"]), total)
        Path(file).write_text(f"{done}/{total}\n")


def _step(status: Document, step: str) -> Document:
    from cachefs.errors import NotKnownError

    found: Document | None = next((one for one in status["steps"] if one["id"] == step), None)
    if found is None:
        raise NotKnownError("the run has no such step", subject=step)
    return found


def _with_instances(status: Document, step: str) -> list[Document]:
    return [one for one in status["steps"] if one["id"].partition("[")[0] == step]


def _statuses(session: "Session", run: str) -> Iterator[Document]:
    """Yield the run again and again; whoever asks knows when it is enough."""
    while True:
        yield _patiently(session, run_path(run))
        session.runtime.sleep(_POLL_SECONDS)


def _patiently(session: "Session", path: str) -> Document:
    """Return what is at a path; a coordinator that is away is waited for."""
    from cachefs.errors import CoordinatorUnavailableError

    until = session.runtime.monotonic() + _AWAY_SECONDS
    while True:
        try:
            found: Document = session.api.get(path)
        except CoordinatorUnavailableError:
            if session.runtime.monotonic() >= until:
                raise
            session.runtime.sleep(_POLL_SECONDS)
        else:
            return found
