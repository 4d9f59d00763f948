"""The folder that a mount shall be on: there, free, and without what a dead mount has left."""

import os
from contextlib import suppress

from cachefs.cli.rendering import say
from cachefs.config.schema import MountPlan
from cachefs.core.names import printable
from cachefs.errors import ConfigError, ConflictError, NotKnownError
from cachefs.fuse.mounts.mount import DEAD, LIVE, clear, find_mount_at
from cachefs.fuse.mounts.runfolder import RunFolders
from cachefs.fuse.mounts.table import find_mount, read_table
from cachefs.ports import Runtime


def free_folder(runtime: Runtime, folders: RunFolders, plan: MountPlan, *, nonempty: bool) -> bool:
    """Make sure that a mount can be made; return whether the very same one is there already.

    A dead mount of ours is cleared away: it serves nobody any more.

    Raises:
        ConflictError: Another mount of ours is there.
        ConfigError: There is no such folder, or it is not empty.
    """
    shown = printable(os.fspath(plan.mountpoint))
    with suppress(NotKnownError):
        there = find_mount_at(folders, plan.mountpoint)
        if there.state == LIVE and there.source == plan.source:
            return True
        if there.state != DEAD:
            raise ConflictError(
                f"{printable(there.source)} is mounted there and {there.state}",
                subject=shown,
                hint=f"`cachefs umount {shown}`, or choose another folder",
            )
        say(f"clearing away the dead mount of {there.source}")
        clear(runtime, there)
    try:
        names = os.listdir(plan.mountpoint)  # noqa: PTH208 - a mount point may not be stat'ed twice
    except OSError as error:
        hint = f"mkdir {shown}" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(
            "not a folder that can be mounted on",
            subject=shown,
            hint=hint or (error.strerror or ""),
        ) from error
    if names and not nonempty and find_mount(plan.mountpoint) is None:
        raise ConfigError(
            "the folder is not empty, and what is in it would be hidden",
            subject=shown,
            hint="choose an empty one, or say --nonempty",
        )
    return False


def prune(folders: RunFolders) -> None:
    """Remove run folders of mounts of which nothing else is left."""
    mounted = {(entry.mountpoint, entry.device) for entry in read_table() if entry.ours}
    for folder, record in folders.all():
        if not record.alive and (record.mountpoint, record.device) not in mounted:
            folder.remove()
