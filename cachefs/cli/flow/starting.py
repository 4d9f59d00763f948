"""``cachefs flow submit`` and ``watch``: start a run, and see how far it is until it is over."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.flow.asking import Run, caller, run_path
from cachefs.cli.rendering import print_json, say

if TYPE_CHECKING:
    from cachefs.cli.session import Session
    from cachefs.dataflow.spec.model import Flow


Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="K=V",
        help="A parameter that differs from the flow's own; lists as a,b,c or as JSON. Repeatable.",
    ),
]


def submit(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A flow as YAML or JSON; - is standard input.")
    ],
    *,
    state: options.State = None,
    param: Params = None,
    key: Annotated[
        str,
        typer.Option(
            "--key", metavar="KEY", help="Submitted twice with one key, it is still one run."
        ),
    ] = "",
    detach: Annotated[
        bool, typer.Option("--detach/--wait", help="Return once it was accepted. (default: wait)")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Run a flow, and show how far it is until it is over.

    The coordinator does the work: it goes on when this command is interrupted. The exit code is 11 if
    the run fails or is rolled back, 12 if it is cancelled. A flow with triggers is registered, so that
    they start it; it is run now only if `manual` is among them.
    """
    from cachefs.cli.session import Session

    session = Session(state)
    document, flow = read_document(file)
    body = {"document": document, "file": file, "params": parse_params(param or [])}
    if any(not trigger.manual for trigger in flow.triggers):
        registered = session.api.post("/v1/flows", body)
        _tell_registered(session, registered)
        if not any(trigger.manual for trigger in flow.triggers):
            if as_json:
                print_json(registered)
            return
    headers = {"Idempotency-Key": key} if key else {}
    run = session.api.post("/v1/runs", {**body, "by": caller()}, headers=headers)
    if detach:
        say(f"run {run['id']} has begun; `cachefs flow watch {run['id']}` shows it")
        if as_json:
            print_json(run)
        return
    _follow(session, run["id"], as_json=as_json)


def watch(run: Run, state: options.State = None, as_json: options.Json = False) -> None:
    """Show how far a run is until it is over; the exit code is that of `submit`."""
    from cachefs.cli.session import Session

    _follow(Session(state), run, as_json=as_json)


def _follow(session: "Session", run: str, *, as_json: bool) -> None:
    from cachefs.cli import exits
    from cachefs.cli.flow.live import follow

    try:
        status = follow(session, run)
    except KeyboardInterrupt:
        say(
            f"the run goes on; `cachefs flow cancel {run}` cancels it, "
            f"`cachefs flow watch {run}` shows it again"
        )
        raise
    if as_json:
        print_json(status)
    ended_as = status["run"]["state"]
    if ended_as == "Cancelled":
        raise typer.Exit(exits.RUN_CANCELLED)
    if ended_as != "Succeeded":
        raise typer.Exit(exits.RUN_FAILED)


def _tell_registered(session: "Session", flow: dict[str, Any]) -> None:  # Any: a JSON document
    from cachefs.cli.flow.showing import trigger_text

    for trigger in flow["triggers"]:
        say(f"{flow['flow']} starts {trigger_text(trigger)}")
    if flow["hook"]:
        say(f"its webhook is http://{session.endpoint.coordinator}{flow['hook']}")
    if flow["token"]:
        say(f"its token is shown only now: {flow['token']}")
    say(f"`cachefs flow cancel {flow['flow']}` ends that")


def read_document(file: str) -> "tuple[str, Flow]":
    """Return a flow's text and what it says, once it is known to be one.

    Raises:
        typer.Exit: It is none; every problem was shown.
    """
    from cachefs.cli import exits
    from cachefs.cli.flow import validating

    checked = validating.check(file)
    if checked.flow is None:
        validating.print_for_people([checked])
        raise typer.Exit(exits.USAGE)
    return "\n".join(checked.lines) + "\n", checked.flow


def parse_params(given: list[str]) -> dict[str, str]:
    """Return parameters by name, of ``NAME=VALUE`` each.

    Raises:
        ConfigError: One is not.
    """
    from cachefs.errors import ConfigError

    params = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"not a parameter: {text!r}", hint="--param NAME=VALUE")
        params[name] = value
    return params


def status(run: Run, state: options.State = None, as_json: options.Json = False) -> None:
    """Show a run and its steps as they are now."""
    from cachefs.cli.flow.showing import print_status
    from cachefs.cli.session import Session

    found: dict[str, Any] = Session(state).api.get(run_path(run))  # Any: a JSON document
    if as_json:
        print_json(found)
    else:
        print_status(found)
