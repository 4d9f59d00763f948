"""``cachefs hint outcome``, ``reservations`` and ``token``."""

from typing import Annotated

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_json, print_table, say


def outcome(
    hint: Annotated[str, typer.Argument(metavar="HINT", help="Its id, as the answer says it.")],
    *,
    node: Annotated[str, typer.Option("--node", metavar="NODE", help="Where the job was started.")],
    ready: Annotated[
        str,
        typer.Option("--ready", metavar="TIME", help="From the hint until it was ready: 12.3s."),
    ],
    phase: Annotated[
        list[str] | None,
        typer.Option(
            "--phase",
            metavar="NAME=TIME",
            help="How long a part took: image, data, load, init; run for how long it ran.",
        ),
    ] = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Tell how long it really took: estimates learn from it, and the place is kept no longer."""
    from urllib.parse import quote

    from cachefs.cli.session import Session
    from cachefs.config.units import format_duration, parse_duration
    from cachefs.errors import ConfigError

    phases = {}
    for text in phase or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("a phase is NAME=TIME", subject=text)
        phases[name] = parse_duration(value)
    body = {"node": node, "ready_s": parse_duration(ready), "phases": phases}
    learned = Session(state).api.post(f"/v1/hints/{quote(hint, safe='')}/outcome", body)
    if as_json:
        print_json(learned)
        return
    estimated, actual = learned["estimated_s"], learned["actual_s"]
    say(
        f"{format_duration(actual)} instead of {format_duration(estimated)}; half of all jobs take "
        f"more than {learned['error_ratio']:.2f} times what is estimated"
    )


def reservations(
    *,
    cancel: Annotated[
        str | None, typer.Option("--cancel", metavar="TOKEN", help="Keep this place no longer.")
    ] = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """List the places that are kept for jobs, those that expire first in front."""
    from urllib.parse import quote

    from cachefs.cli.session import Session

    api = Session(state).api
    if cancel is not None:
        api.delete(f"/v1/reservations/{quote(cancel, safe='')}")
        say(f"{cancel} is kept no longer")
        return
    found = api.get("/v1/reservations")["reservations"]
    if as_json:
        print_json(found)
        return
    if not found:
        say("no place is kept")
        return
    print_table(
        ("TOKEN", "JOB", "NODES", "UNTIL"),
        [(one["token"], one["job_id"], _nodes(one["nodes"]), one["expires_at"]) for one in found],
    )


def token(state: options.State = None) -> None:
    """Print the token with which schedulers ask: it opens /k8s and /volcano, and nothing else.

    It follows from the cluster's, and cannot be turned into it. kube-scheduler and Volcano take it in
    their URL: http://cachefs:TOKEN@HOST:PORT/k8s/extender.
    """
    from cachefs.cli.session import Session
    from cachefs.hints.consumers.tokens import scheduler_token

    print(scheduler_token(Session(state).endpoint.token).reveal())


def _nodes(names: list[str]) -> str:
    """Return the nodes of a gang, each with how many members it has."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(name if count == 1 else f"{name} ({count})" for name, count in counts.items())
