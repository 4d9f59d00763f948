"""``cachefs flow list``, ``events``, and what can be asked of a run: to end, to wait, to go on."""

from typing import Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_json, print_table, say

_PAGE = 1000
_POLL_SECONDS = 0.5

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run, as `cachefs flow list` shows it.")]


def run_path(run: str, part: str = "") -> str:
    """Return the API's path of a run, or of a part of it."""
    from urllib.parse import quote

    return f"/v1/runs/{quote(run, safe='')}{part}"


def caller() -> str:
    """Return who asks: the user's name on this machine."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""  # a user without a name, as in many containers


def list_runs(
    *,
    state: options.State = None,
    flow: Annotated[
        str, typer.Option("--flow", metavar="NAME", help="Only of this flow: namespace/name.")
    ] = "",
    active: Annotated[bool, typer.Option("--active", help="Only runs that are not over.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=_PAGE, help="At most so many.")
    ] = 50,
    as_json: options.Json = False,
) -> None:
    """List the flows that triggers start, and runs, the newest first."""
    from urllib.parse import urlencode

    from cachefs.cli.flow.showing import moment, seconds_of, trigger_text
    from cachefs.cli.session import Session

    api = Session(state).api
    query = urlencode({"flow": flow, "active": str(active).lower(), "limit": limit})
    runs = api.get(f"/v1/runs?{query}")["runs"]
    flows = [one for one in api.get("/v1/flows")["flows"] if flow in ("", one["flow"])]
    if as_json:
        print_json({"flows": flows, "runs": runs})
        return
    if flows:
        starts = [", ".join(map(trigger_text, one["triggers"])) for one in flows]
        rows = [(one["flow"], text) for one, text in zip(flows, starts, strict=True)]
        print_table(("FLOW", "STARTS"), rows)
        print()
    print_table(
        ("RUN", "FLOW", "STATE", "BEGAN", "TIME>", "CAUSE"),
        [
            (
                run["id"],
                run["flow"],
                run["state"],
                moment(run["started_at"] or run["created_at"]),
                seconds_of(run),
                run["cause"],
            )
            for run in runs
        ],
    )


def events(
    run: Run,
    *,
    state: options.State = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run is over.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show what happened in a run: when, to which step, and why.

    With --json each event is a line.
    """
    import json

    from cachefs.cli.flow.showing import moment
    from cachefs.cli.session import Session
    from cachefs.core.names import printable

    session = Session(state)
    after = 0
    while True:
        over = follow and _is_over(session.api.get(run_path(run)))
        while found := session.api.get(run_path(run, f"/events?after={after}&limit={_PAGE}"))[
            "events"
        ]:
            for event in found:
                if as_json:
                    print(json.dumps(event), flush=True)
                else:
                    text = f"{event['kind']:22} {event['step']:20} {event['message']}".rstrip()
                    print(f"{moment(event['at'])}  {printable(text)}", flush=True)
            after = found[-1]["number"]
        if over or not follow:
            return
        session.runtime.sleep(_POLL_SECONDS)


def _is_over(status: dict[str, Any]) -> bool:  # Any: a JSON document
    from cachefs.dataflow.records import RUN_OVER

    return status["run"]["state"] in RUN_OVER


def cancel(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN|FLOW", help="A run; or a flow that triggers start: ns/name."),
    ],
    *,
    state: options.State = None,
    keep_cache: Annotated[
        bool, typer.Option("--keep-cache", help="Leave what was done, instead of undoing it.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """End a run: transfers stop, nothing more begins, and what can be undone is.

    Of a flow, end that triggers start it; its runs go on.
    """
    if "/" in run:
        _forget(run, state)
        return
    _ask(run, "cancel", state, as_json, keep_cache=keep_cache)


def pause(run: Run, state: options.State = None, as_json: options.Json = False) -> None:
    """Let nothing more of a run begin; what is carried out goes on."""
    _ask(run, "pause", state, as_json)


def resume(run: Run, state: options.State = None, as_json: options.Json = False) -> None:
    """Let a paused run go on."""
    _ask(run, "resume", state, as_json)


def retry(
    run: Run,
    *,
    state: options.State = None,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="STEP", help="Do this step again, and all that depends on it."
        ),
    ] = "",
    only_failed: Annotated[
        bool,
        typer.Option(
            "--only-failed", help="Leave alone what succeeded although something before it had not."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Do again what did not succeed in a run that is over; it goes on from what is there."""
    _ask(run, "retry", state, as_json, start=start, only_failed=only_failed)


def approve(
    run: Run,
    step: Annotated[
        str, typer.Argument(metavar="[STEP]", help="The step; not needed if only one waits.")
    ] = "",
    *,
    state: options.State = None,
    reject: Annotated[bool, typer.Option("--reject", help="Refuse: the step fails.")] = False,
    message: Annotated[
        str, typer.Option("--message", "-m", metavar="TEXT", help="Why; kept with the run.")
    ] = "",
    as_json: options.Json = False,
) -> None:
    """Let a run go on that waits for an approval, or refuse it."""
    _ask(run, "approve", state, as_json, step=step, granted=not reject, message=message)


def _forget(flow: str, state: options.State) -> None:
    from urllib.parse import quote

    from cachefs.cli.session import Session

    Session(state).api.delete(f"/v1/flows/{quote(flow, safe='/')}")
    say(f"nothing starts {flow} any more")


_SAID = {
    "cancel": "will end",
    "pause": "pauses",
    "resume": "goes on",
    "retry": "is tried again",
    "approve": "has its answer",
}


def _ask(
    run: str,
    verb: str,
    state: options.State,
    as_json: bool,
    **body: object,
) -> None:
    from cachefs.cli.session import Session

    found = Session(state).api.post(run_path(run, f"/{verb}"), {**body, "by": caller()})
    say(f"run {run} {_SAID[verb]}")
    if as_json:
        print_json(found)
