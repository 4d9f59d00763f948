"""``cachefs dataset``: declare what is cached, and which version is current."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Iterable

app = typer.Typer(
    name="dataset",
    help="Datasets: declare what is cached, and which version is current.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_LIST_SECONDS = 600.0
"""Listing an origin of a million files takes minutes."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="A dataset: name, or namespace/name.")]
Replicas = Annotated[
    int | None,
    typer.Option("--replicas", metavar="N", help="Keep each block on N workers. (default: 1)"),
]
Consistency = Annotated[
    str | None,
    typer.Option(
        "--consistency",
        metavar="POLICY",
        help="When the current version moves: pinned (only by `dataset update`), max_age=60s, "
        "or validate_on_open. (default: pinned)",
    ),
]
Pool = Annotated[
    str | None, typer.Option("--pool", metavar="POOL", help="Workers to use. (default: default)")
]
Ttl = Annotated[
    str | None,
    typer.Option("--ttl", metavar="TIME", help="Evict blocks that nobody read for so long: 7d."),
]


@app.command()
def add(
    name: Name,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="Where the files are: s3://bucket/prefix, hf://owner/model, file:///folder, …",
        ),
    ],
    *,
    state: options.State = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="K=V",
            help="An option of the store, such as endpoint_url=… or credentials=profile:NAME. "
            "Repeatable.",
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="GLOB", help="Take only files that match. Repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="GLOB", help="Leave out files that match. Repeatable."),
    ] = None,
    checksums: Annotated[
        Path | None,
        typer.Option(
            "--checksums", metavar="FILE", help="Expected digests, as sha256sum prints them."
        ),
    ] = None,
    replicas: Replicas = None,
    consistency: Consistency = None,
    pool: Pool = None,
    ttl: Ttl = None,
    as_json: options.Json = False,
) -> None:
    """Declare a dataset and list its origin for the first time."""
    from cachefs.cli.checksums import parse_option, read_checksums
    from cachefs.cli.session import Session, whole_dataset

    body: dict[str, Any] = {  # Any: a JSON document
        "name": str(whole_dataset(name)),
        "origin": {"url": url, "options": dict(map(parse_option, option or []))},
        "include": include or [],
        "exclude": exclude or [],
        "checksums": {} if checksums is None else read_checksums(checksums),
    }
    body |= _changes(replicas=replicas, consistency=consistency, pool=pool, ttl=ttl)
    session = Session(state)
    added = session.api.post("/v1/datasets", body, timeout_seconds=_LIST_SECONDS)
    if as_json:
        print_json(added)
        return
    versions = session.api.get(f"{_path(name)}/versions")["versions"]
    say(f"added {added['name']}: {_contents(versions[0]) if versions else 'not listed yet'}")


@app.command("list")
def list_datasets(state: options.State = None, as_json: options.Json = False) -> None:
    """List datasets."""
    from cachefs.cli.session import Session

    datasets = Session(state).datasets()
    if as_json:
        print_json(datasets)
        return
    if not datasets:
        say("no datasets yet; `cachefs dataset add NAME URL` declares one")
        return
    rows = (
        (
            row["name"],
            (row["current"] or "-")[:12],
            row["consistency"],
            row["replicas"],
            row["pool"],
            row["origin"]["url"],
        )
        for row in datasets
    )
    print_table(("NAME", "CURRENT", "CONSISTENCY", "REPLICAS>", "POOL", "ORIGIN"), rows)


@app.command()
def show(name: Name, state: options.State = None, as_json: options.Json = False) -> None:
    """Show all about a dataset."""
    from cachefs.cli.session import Session

    row = Session(state).api.get(_path(name))
    if as_json:
        print_json(row)
        return
    options_of = row["origin"]["options"]
    print_facts(
        [
            ("name", row["name"]),
            ("origin", row["origin"]["url"]),
            *((f"  {key}", value) for key, value in sorted(options_of.items())),
            ("current", row["current"] or "not listed yet"),
            ("consistency", row["consistency"]),
            ("replicas", row["replicas"]),
            ("pool", row["pool"]),
            ("include", _joined(row["include"])),
            ("exclude", _joined(row["exclude"])),
            ("pins", _joined(path or "all files" for path in row["pins"])),
            ("ttl", _duration(row["ttl_seconds"])),
            ("versions kept", row["versions_kept"]),
        ]
    )


@app.command()
def versions(name: Name, state: options.State = None, as_json: options.Json = False) -> None:
    """List the versions that are kept, newest first."""
    from cachefs.cli.session import Session
    from cachefs.config.units import format_size

    api = Session(state).api
    known = api.get(f"{_path(name)}/versions")["versions"]
    if as_json:
        print_json(known)
        return
    current = api.get(_path(name))["current"]
    rows = (
        (
            "*" if row["id"] == current else "",
            row["id"][:12],
            ", ".join(row["labels"]),
            _moment(row["listed_at"]),
            row["file_count"],
            format_size(row["size"]),
            f"{row['client']} ({row['client_reason']})",
        )
        for row in known
    )
    print_table(("", "VERSION", "LABELS", "LISTED", "FILES>", "SIZE>", "CLIENT"), rows)


@app.command()
def update(
    name: Name,
    *,
    state: options.State = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="VERSION", help="Go to a version that is kept instead."),
    ] = None,
    replicas: Replicas = None,
    consistency: Consistency = None,
    pool: Pool = None,
    ttl: Ttl = None,
    as_json: options.Json = False,
) -> None:
    """List the origin again; what is open stays on its version.

    With --to, go back or forward to a version that is kept. With --replicas, --consistency, --pool
    or --ttl, change those instead of listing.
    """
    from cachefs.cli.session import Session

    changes = _changes(replicas=replicas, consistency=consistency, pool=pool, ttl=ttl)
    if to is not None:
        changes["current"] = to
    api = Session(state).api
    if changes:
        row = api.patch(_path(name), changes)
        text = f"changed {row['name']}" + (f" to version {row['current'][:12]}" if to else "")
    else:
        before = api.get(_path(name))["current"]
        row = api.post(f"{_path(name)}/update", {}, timeout_seconds=_LIST_SECONDS)
        moved = "unchanged" if row["id"] == before else f"now at version {row['id'][:12]}"
        text = f"{name} is {moved}: {_contents(row)}"
    if as_json:
        print_json(row)
    else:
        say(text)


@app.command("rm")
def remove(name: Name, state: options.State = None) -> None:
    """Forget a dataset and drop its blocks; the origin is not touched."""
    from cachefs.cli.session import Session

    Session(state).api.delete(_path(name))
    say(f"removed {name}")


def _path(name: str) -> str:
    from cachefs.cli.session import dataset_path, whole_dataset

    return dataset_path(whole_dataset(name))


def _changes(
    *, replicas: int | None, consistency: str | None, pool: str | None, ttl: str | None
) -> dict[str, Any]:  # Any: a JSON document
    """Return what was given, as the API spells it."""
    from cachefs.config.units import parse_duration

    given = {
        "replicas": replicas,
        "consistency": consistency,
        "pool": pool,
        "ttl_seconds": None if ttl is None else parse_duration(ttl),
    }
    return {key: value for key, value in given.items() if value is not None}


def _contents(version: dict[str, Any]) -> str:  # Any: a JSON document
    from cachefs.config.units import format_size

    number = version["file_count"]
    files = "1 file" if number == 1 else f"{number:,} files"
    return f"version {version['id'][:12]}, {files}, {format_size(version['size'])}"


def _joined(values: "Iterable[str]") -> str:
    return " ".join(values) or "-"


def _duration(seconds: float | None) -> str:
    from cachefs.config.units import format_duration

    return "-" if seconds is None else format_duration(seconds)


def _moment(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
