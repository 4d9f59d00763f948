"""``cachefs warm``, ``pin``, ``unpin`` and ``evict``: what the workers hold, and keep."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_json, say

if TYPE_CHECKING:
    from cachefs.cli.session import Session

_POLL_SECONDS = 0.2
_NOTHING_TO_DO_SECONDS = 0.05
"""A warm-up that took less filled nothing worth a rate."""
_ENDED = ("done", "failed", "cancelled")

Name = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A dataset.")]
Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="Files or folders in it; all if none is named."),
]

Zone = Annotated[str, typer.Option("--zone", metavar="ZONE", help="Only the workers of this zone.")]
Workers = Annotated[
    list[str] | None,
    typer.Option("--worker", metavar="WORKER", help="Only this worker, or these."),
]


def warm(
    name: Name,
    paths: Paths = None,
    *,
    state: options.State = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the warm-up was accepted.")
    ] = False,
    cancel: Annotated[
        str | None, typer.Option("--cancel", metavar="ID", help="Cancel a warm-up instead.")
    ] = None,
    zone: Zone = "",
    worker: Workers = None,
    copies: Annotated[
        int, typer.Option("--copies", metavar="N", help="On so many workers each block.")
    ] = 0,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="SIZE", help="Bytes a second at most: 500MiB."),
    ] = None,
    from_map: Annotated[
        str,
        typer.Option(
            "--map",
            metavar="ID",
            help="Only the blocks of a saved map; `latest` for the newest. "
            "`cachefs scale --save-map` saves one.",
        ),
    ] = "",
    as_json: options.Json = False,
) -> None:
    """Bring a dataset into the workers ahead of use.

    The coordinator does the work: it goes on when this command is interrupted. What is here already
    is not fetched again.
    """
    from cachefs.cli.session import Session
    from cachefs.config.units import parse_size

    session = Session(state)
    if cancel is not None:
        job = session.api.delete(f"/v1/warm/{cancel}")
        say(f"cancelled warm-up {cancel}")
    else:
        reference, wanted = _wanted(session, name, paths)
        body = {
            "dataset": str(reference.dataset),
            "version": reference.version or "",
            "paths": wanted,
            "zone": zone,
            "workers": worker or [],
            "copies": copies,
            "rate": 0 if rate is None else parse_size(rate),
            "map": from_map,
        }
        job = session.api.post("/v1/warm", body)
        if detach:
            say(f"warm-up {job['id']} runs; `cachefs warm {name} --cancel {job['id']}` cancels it")
        else:
            try:
                job = _follow(session, job)
            except KeyboardInterrupt:
                say(
                    f"the warm-up goes on; `cachefs warm {name} --cancel {job['id']}` cancels it, "
                    f"`cachefs warm {name}` follows it again"
                )
                raise
    if as_json:
        print_json(job)


def _wanted(session: "Session", name: str, paths: list[str] | None) -> tuple[Any, list[str]]:
    """Return the dataset and the paths; ``NAME/PATH`` works as ``NAME PATH`` does."""
    from cachefs.core.names import parse_path

    reference = session.find(name)
    wanted = [parse_path(path.rstrip("/")) for path in paths or []]
    wanted = [*([reference.path] if reference.path else []), *wanted]
    session.check_paths(reference, wanted)
    return reference, wanted


def _follow(session: "Session", job: dict[str, Any]) -> dict[str, Any]:  # Any: a JSON document
    """Show a warm-up until it ends.

    Raises:
        CacheFSError: It failed; the error is the one that the fill met.
    """
    from cachefs.cli.progress import progress_bar
    from cachefs.config.units import format_duration, format_size
    from cachefs.errors import ConflictError
    from cachefs.wire import failures

    shown = 0
    with progress_bar(f"warming {job['dataset']}", job["bytes_total"]) as advance:
        while job["state"] not in _ENDED:
            session.runtime.sleep(_POLL_SECONDS)
            job = session.api.get(f"/v1/warm/{job['id']}")
            advance(job["bytes_done"] - shown)
            shown = job["bytes_done"]
    if job["state"] == "failed":
        raise failures.decode(str(job["failure"]).encode())
    if job["state"] == "cancelled":
        raise ConflictError("somebody cancelled the warm-up", subject=job["id"])
    seconds = job["ended_at"] - job["started_at"]
    size = job["bytes_total"]
    if seconds < _NOTHING_TO_DO_SECONDS:
        say(f"{job['dataset']} is warm: {format_size(size)}")
    else:
        speed = format_size(size / seconds)
        say(
            f"warmed {job['dataset']}: {format_size(size)} in {format_duration(seconds)}, {speed}/s"
        )
    return job


def pin(name: Name, paths: Paths = None, state: options.State = None) -> None:
    """Never evict the blocks of a dataset, or of some of its files."""
    _change_pins(name, paths, state, "pin")
    say(f"pinned {name}")


def unpin(name: Name, paths: Paths = None, state: options.State = None) -> None:
    """Let blocks be evicted again."""
    _change_pins(name, paths, state, "unpin")
    say(f"unpinned {name}")


def _change_pins(name: str, paths: list[str] | None, state: options.State, verb: str) -> None:
    from cachefs.cli.session import Session, dataset_path

    session = Session(state)
    reference, wanted = _wanted(session, name, paths)
    session.api.patch(dataset_path(reference.dataset), {verb: wanted or [""]})


def evict(
    name: Name, paths: Paths = None, state: options.State = None, as_json: options.Json = False
) -> None:
    """Make room: drop a dataset's blocks from all tiers. Pinned files and files in use stay."""
    from cachefs.cli.session import Session
    from cachefs.config.units import format_size

    session = Session(state)
    reference, wanted = _wanted(session, name, paths)
    answer = session.api.post(
        "/v1/evict",
        {
            "dataset": str(reference.dataset),
            "version": reference.version or "",
            "paths": wanted,
        },
    )
    if as_json:
        print_json(answer)
        return
    stayed = len(answer["refused"])
    files = "1 file" if stayed == 1 else f"{stayed:,} files"
    also = f"; {files} stayed, pinned or in use" if stayed else ""
    say(f"evicted {format_size(answer['bytes'])}{also}")
