"""``cachefs worker``: the members of the system."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cachefs.cli import options, scaling
from cachefs.cli.rendering import print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from cachefs.cli.session import Session
    from cachefs.transport.processes import ProcessRecord

app = typer.Typer(
    name="worker",
    help="Workers: list them, look at one, add and remove some, take one out of service.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_POLL_SECONDS = 0.5

Worker = Annotated[str, typer.Argument(metavar="WORKER", help="A worker's name.")]


@app.command("list")
def list_workers(state: options.State = None, as_json: options.Json = False) -> None:
    """List workers."""
    from cachefs.cli.session import Session

    session = Session(state)
    members = session.api.get("/v1/members")["members"]
    processes = local_processes(session)
    if as_json:
        pids = {process.name: process.pid for process in processes if process.alive}
        print_json([member | {"pid": pids.get(member["worker"])} for member in members])
    else:
        print_workers(members, processes)


@app.command()
def show(worker: Worker, state: options.State = None, as_json: options.Json = False) -> None:
    """Show all about a worker."""
    from cachefs.cli.session import Session
    from cachefs.core.names import printable
    from cachefs.core.nearest import did_you_mean
    from cachefs.errors import NotKnownError

    session = Session(state)
    members = session.api.get("/v1/members")["members"]
    member = next((member for member in members if member["worker"] == worker), None)
    if member is None:
        meant = did_you_mean(worker, (member["worker"] for member in members))
        hint = meant or "`cachefs worker list` lists them"
        raise NotKnownError("no such worker", subject=printable(worker), hint=hint)
    if as_json:
        print_json(member)
    else:
        traffic = member.get("statistics", {}).get("traffic", {})
        if "awaited" in traffic:  # which blocks of which files is for programs
            traffic["awaited"] = f"{len(traffic['awaited'])} files"
        print_facts(_facts("", member))


app.command("add")(scaling.add)
app.command("remove")(scaling.remove)


@app.command()
def drain(
    worker: Worker,
    state: options.State = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be handed over.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the drain has begun.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Take a worker out of service: hand over what only it holds, so that the origin pays nothing.

    Afterwards it may be stopped. The command may be interrupted and given again.
    """
    from cachefs.cli.session import Session
    from cachefs.config.units import format_duration, format_size

    session = Session(state)
    answer = _drain(session, worker, dry_run=dry_run)
    plan = (
        f"{answer['blocks']} blocks, {format_size(answer['bytes'])}, "
        f"about {format_duration(answer['seconds'])}"
    )
    if not as_json:
        say(f"{worker} {'would hand' if dry_run else 'hands'} over {plan}")
    while not (answer["done"] or dry_run or detach):
        session.runtime.sleep(_POLL_SECONDS)
        answer = _drain(session, worker, dry_run=False)
    if as_json:
        print_json(answer)
    elif answer["done"] and not dry_run:
        say(f"{worker} holds nothing that others do not; it may be stopped")


def _drain(session: "Session", worker: str, *, dry_run: bool) -> dict[str, Any]:
    # Any: a JSON document
    from urllib.parse import quote

    path = f"/v1/members/{quote(worker, safe='')}/drain"
    answer: dict[str, Any] = session.api.post(path, {"dry_run": dry_run})
    return answer


def local_processes(session: "Session") -> "list[ProcessRecord]":
    """Return the processes that `cachefs up` runs here; none for a system that is elsewhere."""
    from cachefs.cli.system.statefolder import StateFolder, read_json
    from cachefs.transport.processes import ProcessRecord

    if session.endpoint.state is None:
        return []
    return ProcessRecord.read(read_json(StateFolder(session.endpoint.state).processes))


def print_workers(
    members: Sequence[dict[str, Any]],  # Any: JSON documents
    processes: "Iterable[ProcessRecord]",
) -> None:
    """Print a table of members, and of local workers that are none."""
    from cachefs.config.units import format_size

    pids = {process.name: process.pid for process in processes if process.alive}
    names = {member["worker"] for member in members}
    rows: list[Sequence[object]] = [
        (
            member["worker"],
            _state(member),
            pids.get(member["worker"], "-"),
            member["data_address"],
            member["pool"],
            member["zone"] or "-",
            format_size(_resident(member)),
            format_size(member["weight"]),
        )
        for member in members
    ]
    rows += [
        (name, "no member", pid, "-", "-", "-", "-", "-")
        for name, pid in sorted(pids.items())
        if name not in (names | {"supervisor", "coordinator", "gateway"})
    ]
    headings = ("WORKER", "STATE", "PID>", "ADDRESS", "POOL", "ZONE", "HOLDS>", "CAPACITY>")
    print_table(headings, rows)


def _state(member: dict[str, Any]) -> str:  # Any: a JSON document
    state = "draining" if member["draining"] else "member"
    return f"{state}, disk full" if lacking_bytes(member) else state


def lacking_bytes(member: dict[str, Any]) -> int:  # Any: a JSON document
    """Return how much of a worker's capacity its disks could not take, when it last renewed."""
    tiers = member.get("statistics", {}).get("tiers", [])
    return sum(tier.get("lacking_bytes", 0) for tier in tiers)


def _resident(member: dict[str, Any]) -> int:  # Any: a JSON document
    """Return the bytes that a worker holds, by the statistics of its last renewal."""
    tiers = member.get("statistics", {}).get("tiers", [])
    return sum(tier["used_bytes"] for tier in tiers)


def _facts(prefix: str, document: Any) -> Iterable[tuple[str, object]]:  # Any: a JSON document
    """Yield every value of a nested document under its dotted name."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _facts(f"{prefix}.{key}" if prefix else key, value)
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _facts(f"{prefix}[{index}]", value)
    else:
        yield prefix, _shown(prefix, document)


def _shown(name: str, value: Any) -> object:  # Any: a JSON value
    from cachefs.config.units import format_size

    is_bytes = "bytes" in name or name == "weight"
    if is_bytes and isinstance(value, int | float) and not isinstance(value, bool):
        return format_size(value)
    return "-" if value in ("", None) else value
