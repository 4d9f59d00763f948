"""Mounts that there are: as lines or JSON, and those of a system that stops."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachefs.cli.rendering import print_json, print_table, say
from cachefs.errors import CacheFSError, ConflictError

if TYPE_CHECKING:
    from cachefs.config.discovery import Endpoint
    from cachefs.fuse.mounts.mount import Mount
    from cachefs.fuse.mounts.runfolder import RunFolders


def show_list(*, as_json: bool) -> None:
    """Print the mounts of this machine that this user may know of."""
    from cachefs.fuse.mounts.mount import GONE, list_mounts

    mounts = [each for each in list_mounts(run_folders()) if each.state != GONE]
    if as_json:
        print_json([document_of(each) for each in mounts])
        return
    headings = ("MOUNTPOINT", "SOURCE", "STATE", "ENGINE", "RECOVERY", "RESTARTS>", "PID>")
    print_table(headings, [_row(each) for each in mounts])


def document_of(found: "Mount") -> dict[str, Any]:  # Any: a JSON document
    """Return what ``mount list --json`` says of a mount."""
    record = found.record
    keeper, server = (record.keeper, record.server) if record else (None, None)
    return {
        "mountpoint": os.fspath(found.mountpoint),
        "source": found.source,
        "state": found.state,
        "device": found.entry.device if found.entry else None,
        "engine": record.engine if record else None,
        "engine_reason": record.engine_reason if record else None,
        "recovery": record.recovery if record else None,
        "since": record.since if record else None,
        "restarts": record.restarts if record else None,
        "keeper": keeper.pid if keeper and keeper.alive else None,
        "server": server.pid if server and server.alive else None,
        "system": record.state if record else None,
        "log": record.log if record else None,
        "failure": record.failure if record else "",
    }


def _row(found: "Mount") -> Sequence[object]:
    document = document_of(found)
    recovery = {True: "on", False: "off", None: "-"}[document["recovery"]]
    state = f"{found.state}: {document['failure']}" if document["failure"] else found.state
    numbers = (
        each if each is not None else "-" for each in (document["restarts"], document["server"])
    )
    return (found.mountpoint, found.source, state, document["engine"] or "-", recovery, *numbers)


def run_folders() -> "RunFolders":
    """Return where this user's mounts have their run folders."""
    from cachefs.config.discovery import run_folder
    from cachefs.fuse.mounts.runfolder import RunFolders

    return RunFolders(run_folder(os.environ, os.getuid()))


def mounts_of(endpoint: "Endpoint") -> "list[Mount]":
    """Return the mounts on this machine that read from a system."""
    from cachefs.fuse.mounts.mount import GONE, list_mounts

    name = system_of(endpoint.state, endpoint.coordinator)
    return [each for each in list_mounts(run_folders(), system=name) if each.state != GONE]


def unmount_idle(state: Path) -> None:
    """Unmount the mounts of a system that stops, but for those in use, of which a person is told."""
    from cachefs.fuse.mounts.mount import list_mounts, unmount
    from cachefs.transport.runtime import ThreadRuntime

    for mount in list_mounts(run_folders(), system=system_of(state, "")):
        if mount.entry is None:
            continue
        try:
            unmount(ThreadRuntime(), mount)
            say(f"unmounted {mount.mountpoint}")
        except ConflictError as error:
            say(
                f"{error.subject} {error.message}; what is not cached there fails until `cachefs up`"
            )
        except CacheFSError as error:
            say(f"{error.subject}: {error.message}")


def system_of(state: Path | None, coordinator: str) -> str:
    """Return what a mount's record calls the system that it reads from."""
    return coordinator if state is None else os.fspath(state)
