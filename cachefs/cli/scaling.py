"""``cachefs scale``, ``cachefs pool`` and ``cachefs worker add|remove``: how many workers there shall be.

The commands only say what is wanted. Whoever runs the workers (``cachefs up``, an operator) makes it so:
with ``--wait`` a command looks on until it is.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from cachefs.cli.session import Session

pool_app = typer.Typer(
    name="pool",
    help="Pools: how many workers there shall be, within which bounds, for whom.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_POLL_SECONDS = 0.5
_DEFAULT_POOL = "default"
_WAIT_SECONDS = 3600.0

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Return once it is so; leaving workers have handed over.")
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; events show it.")]
PoolName = Annotated[str | None, typer.Option("--pool", metavar="POOL", help="The pool.")]
Pool = Annotated[str, typer.Argument(metavar="POOL", help="A pool's name.")]


def scale(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A dataset: its pool is scaled.")
    ] = None,
    *,
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="How many; 0 for none.")],
    pool: PoolName = None,
    per_zone: Annotated[
        str | None,
        typer.Option(
            "--per-zone",
            metavar="N|ZONE=N,…",
            help="Of these, so many in each zone that has workers, or in those named.",
        ),
    ] = None,
    save_map: Annotated[
        bool,
        typer.Option(
            "--save-map",
            help="First keep which blocks are resident; `cachefs warm --map` brings them back.",
        ),
    ] = False,
    wait: Wait = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Say how many workers a dataset's pool shall have.

    Workers that are too many hand over what only they hold, and then leave: the origin pays nothing.
    New ones get their share of the blocks from the others, in the background.
    """
    from cachefs.cli.session import Session

    session = Session(state)
    chosen = _pool_of(session, name, pool)
    before = session.api.get(_path(chosen))
    change = {
        "wanted": workers,
        "wanted_by_zone": _zones(per_zone, before),
        "by": "cachefs scale",
        "reason": reason,
    }
    if dry_run:
        plan = session.api.post(_path(chosen, "/plan"), {"change": change})
        _show_plan(plan, as_json=as_json)
        return
    saved = _save_maps(session, name, chosen) if save_map else []
    after = _put(session, chosen, change)
    _finish(session, after, wait=wait, as_json=as_json, maps=saved)


def add(
    *,
    count: Annotated[int, typer.Option("--count", metavar="N", help="How many.")] = 1,
    pool: PoolName = None,
    zone: Annotated[str, typer.Option("--zone", metavar="ZONE", help="Where they shall be.")] = "",
    wait: Wait = False,
    reason: Reason = "",
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Add workers; each has as much memory and disk as those that `cachefs up` started."""
    from cachefs.cli.session import Session

    session = Session(state)
    body = {"count": count, "zone": zone, "by": "cachefs worker add", "reason": reason}
    after = session.api.post(_path(pool or _DEFAULT_POOL, "/grow"), body)
    _finish(session, after, wait=wait, as_json=as_json)


def remove(
    workers: Annotated[
        list[str] | None, typer.Argument(metavar="WORKER", help="Workers by name.")
    ] = None,
    *,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", help="So many, the newest first.")
    ] = None,
    pool: PoolName = None,
    wait: Wait = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Remove workers: they hand over what only they hold, are stopped, and their blocks deleted."""
    from cachefs.cli.session import Session
    from cachefs.errors import ConfigError

    if bool(workers) == (count is not None):
        raise ConfigError("name workers, or say how many with --count")
    session = Session(state)
    chosen = pool or _pool_of_workers(session, workers or [])
    by = {"by": "cachefs worker remove", "reason": reason}
    if workers:
        body: dict[str, Any] = {"workers": workers}
        path, method = _path(chosen, "/shrink"), "POST"
    else:
        before = session.api.get(_path(chosen))
        present = before["live"] if before["wanted"] is None else before["wanted"]
        if count is None or count < 1 or count > present:
            raise ConfigError(f"--count must be from 1 to {present}", subject=f"pool {chosen}")
        body = {"wanted": present - count}
        path, method = _path(chosen), "PUT"
    if dry_run:
        asked = {"workers": workers} if workers else {"change": body}
        _show_plan(session.api.post(_path(chosen, "/plan"), asked), as_json=as_json)
        return
    after = _send(session, method, path, body | by)
    _finish(session, after, wait=wait, as_json=as_json)


@pool_app.command("list")
def list_pools(state: options.State = None, as_json: options.Json = False) -> None:
    """List pools."""
    from cachefs.cli.session import Session

    pools = Session(state).api.get("/v1/pools")["pools"]
    if as_json:
        print_json(pools)
        return
    rows = [
        (
            pool["name"],
            "-" if pool["wanted"] is None else pool["wanted"],
            pool["live"],
            len(pool["draining"]),
            _by_zone(pool["live_by_zone"]),
            pool["exclusive"] or "-",
            pool["problem"] or ("settled" if pool["settled"] else "changing"),
        )
        for pool in pools
    ]
    print_table(("POOL", "WANTED>", "LIVE>", "LEAVING>", "ZONES", "EXCLUSIVE", "STATE"), rows)


@pool_app.command("show")
def show_pool(pool: Pool, state: options.State = None, as_json: options.Json = False) -> None:
    """Show all about a pool."""
    from datetime import UTC, datetime

    from cachefs.cli.session import Session

    found = Session(state).api.get(_path(pool))
    if as_json:
        print_json(found)
        return
    changed = datetime.fromtimestamp(found["changed_at"], UTC)
    most = "any" if found["most"] is None else found["most"]
    print_facts(
        [
            ("pool", found["name"]),
            ("wanted", "-" if found["wanted"] is None else found["wanted"]),
            ("wanted by zone", _by_zone(found["wanted_by_zone"])),
            ("live", found["live"]),
            ("live by zone", _by_zone(found["live_by_zone"])),
            ("leaving", ", ".join({*found["draining"], *found["leaving"]}) or "-"),
            ("bounds", f"{found['least']} to {most}"),
            ("exclusive to", found["exclusive"] or "-"),
            ("problem", found["problem"] or "-"),
            ("changed", f"{changed:%Y-%m-%d %H:%M:%S} UTC" if found["changed_at"] else "-"),
            ("by", found["changed_by"] or "-"),
            ("because", found["reason"] or "-"),
        ]
    )


@pool_app.command("set")
def set_pool(
    pool: Pool,
    *,
    least: Annotated[int | None, typer.Option("--least", help="Never fewer workers.")] = None,
    most: Annotated[str | None, typer.Option("--most", help="Never more; `any`: no bound.")] = None,
    exclusive: Annotated[
        str | None,
        typer.Option("--exclusive", metavar="NAMESPACE", help="Only its datasets; '' for all."),
    ] = None,
    reason: Reason = "",
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Set a pool's bounds, or whose it is."""
    from cachefs.cli.session import Session
    from cachefs.errors import ConfigError

    change: dict[str, Any] = {"by": "cachefs pool set", "reason": reason}
    if most is not None:
        if most != "any" and not most.isdecimal():
            raise ConfigError(f"--most is a number or `any`, not {most!r}")
        change["most"] = None if most == "any" else int(most)
    change |= {
        key: value
        for key, value in (("least", least), ("exclusive", exclusive))
        if value is not None
    }
    found = _put(Session(state), pool, change)
    if as_json:
        print_json(found)
    else:
        say(f"pool {pool} is changed")


def _pool_of(session: "Session", name: str | None, pool: str | None) -> str:
    from cachefs.cli.session import dataset_path
    from cachefs.errors import ConfigError

    if (name is None) == (pool is None):
        raise ConfigError("name a dataset, or a pool with --pool")
    if name is None:
        return str(pool)
    reference = session.find(name)
    return str(session.api.get(dataset_path(reference.dataset))["pool"])


def _pool_of_workers(session: "Session", workers: list[str]) -> str:
    """Return the pool of some workers; the default one for none."""
    from cachefs.core.names import printable
    from cachefs.core.nearest import did_you_mean
    from cachefs.errors import ConfigError, NotKnownError

    pools = {each["worker"]: each["pool"] for each in session.api.get("/v1/view")["members"]}
    for worker in workers:
        if worker not in pools:
            hint = did_you_mean(worker, pools) or "`cachefs worker list` lists them"
            raise NotKnownError("no such worker", subject=printable(worker), hint=hint)
    found = {pools[worker] for worker in workers}
    if len(found) > 1:
        raise ConfigError(f"they are of several pools: {', '.join(sorted(found))}")
    return found.pop() if found else _DEFAULT_POOL


def _zones(text: str | None, pool: dict[str, Any]) -> dict[str, int] | None:
    """Return what ``--per-zone`` says, for each zone."""
    from cachefs.errors import ConfigError

    if text is None:
        return None
    if text.isdecimal():
        zones = sorted({*pool["wanted_by_zone"], *pool["live_by_zone"]} - {""})
        if not zones:
            raise ConfigError(
                "nobody knows which zones there are", hint="name them: --per-zone a=3,b=3"
            )
        return dict.fromkeys(zones, int(text))
    found: dict[str, int] = {}
    for part in text.split(","):
        zone, equals, count = part.strip().partition("=")
        if not equals or not count.isdecimal():
            raise ConfigError(f"not a zone with a number: {part!r}", hint="--per-zone a=3,b=3")
        found[zone] = int(count)
    return found


def _save_maps(session: "Session", name: str | None, pool: str) -> list[dict[str, Any]]:
    """Keep which blocks of a dataset, or of all in a pool, are resident."""
    from cachefs.config.units import format_size

    if name is not None:
        datasets = [str(session.find(name).dataset)]
    else:
        datasets = [each["name"] for each in session.datasets() if each["pool"] == pool]
    saved = []
    for dataset in datasets:
        found = session.api.post("/v1/maps", {"dataset": dataset})
        say(
            f"saved what is resident of {dataset}: {format_size(found['bytes'])}, map {found['id']}"
        )
        saved.append(found)
    return saved


def _path(pool: str, what: str = "") -> str:
    from urllib.parse import quote

    return f"/v1/pools/{quote(pool, safe='')}{what}"


def _put(session: "Session", pool: str, change: dict[str, Any]) -> dict[str, Any]:
    return _send(session, "PUT", _path(pool), change)


def _send(session: "Session", method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    import json

    answer: dict[str, Any] = json.loads(session.api.fetch(method, path, body))
    return answer


def _finish(
    session: "Session",
    pool: dict[str, Any],
    *,
    wait: bool,
    as_json: bool,
    maps: list[dict[str, Any]] | None = None,
) -> None:
    """Say what is wanted, wait for it if asked to, and show how it stands.

    Raises:
        CapacityError: The provider has no room for what is wanted.
        DeadlineError: It takes longer than an hour.
    """
    from cachefs.core.pools import workers

    before, wanted = pool["live"], pool["wanted"]
    if not as_json:
        say(f"pool {pool['name']}: {before} → {workers(wanted)}")
    if wait:
        pool = _wait(session, pool)
        if not as_json:
            say(f"pool {pool['name']} has {workers(pool['live'])}")
    if as_json:
        print_json(pool | {"maps": maps} if maps else pool)


def _wait(session: "Session", pool: dict[str, Any]) -> dict[str, Any]:
    from cachefs.errors import CapacityError, DeadlineError

    deadline = session.runtime.monotonic() + _WAIT_SECONDS
    told = ""
    while not pool["settled"]:
        if pool["problem"] and not pool["draining"]:
            raise CapacityError(pool["problem"], subject=f"pool {pool['name']}")
        now = ", ".join(pool["draining"])
        if now and now != told:
            told = now
            say(f"handing over: {now}")
        if session.runtime.monotonic() > deadline:
            raise DeadlineError("the pool is not as it shall be", subject=pool["name"])
        session.runtime.sleep(_POLL_SECONDS)
        pool = session.api.get(_path(pool["name"]))
    return pool


def _show_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    from cachefs.config.units import format_duration, format_size
    from cachefs.core.pools import workers

    if as_json:
        print_json(plan)
        return
    start, leave = plan["start"], plan["leave"]
    if start:
        zones = ", ".join(sorted({zone for zone in start if zone}))
        say(f"{workers(len(start))} would start" + (f", in {zones}" if zones else ""))
    if leave:
        say(f"{', '.join(leave)} would leave")
    if not start and not leave:
        say("nothing would change")
        return
    about = "about " if start else ""
    say(
        f"{about}{plan['blocks']} blocks, {format_size(plan['bytes'])} would move between workers, "
        f"in about {format_duration(plan['seconds'])}; the origin pays nothing"
    )
    if plan["lost_bytes"]:
        say(
            f"{format_size(plan['lost_bytes'])} would be lost, for nobody is left to take them; "
            "--save-map keeps which, to warm them later"
        )


def _by_zone(zones: dict[str, int]) -> str:
    return ", ".join(f"{zone or '(none)'} {count}" for zone, count in sorted(zones.items())) or "-"
