"""What ``cachefs doctor`` says of mounts, and what ``--fix`` does about them.

Only what nobody can use any more is cleared away: a mount that is dead, and run folders of which
nothing else is left. A mount that answers, or may do so again, is never touched.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cachefs.cli.findings import Finding
from cachefs.config.units import format_size
from cachefs.core.names import printable
from cachefs.errors import CacheFSError, ConfigError
from cachefs.fuse.engines.choice import AUTO, choose, look_around
from cachefs.fuse.mounts.mount import (
    DEAD,
    ELSEWHERE,
    FROZEN,
    GONE,
    ORPHAN,
    Mount,
    clear,
    list_mounts,
)
from cachefs.fuse.mounts.runfolder import RunFolders
from cachefs.ports import Runtime

_PAGES_LIMIT = Path("/proc/sys/fs/fuse/max_pages_limit")
"""Since Linux 6.13; before, the kernel's own limit is the one that we ask for."""
_PAGES_WANTED = 256
"""Requests of 1 MiB."""


def check_engine() -> Iterator[Finding]:
    """Say which engine a mount would have, and why."""
    machine = look_around()
    try:
        choice = choose(AUTO, machine)
    except ConfigError as error:
        yield Finding("mounting", "note", error.message, error.hint)
        return
    yield Finding("mounting", "ok", f"engine {choice.engine}: {choice.reason}")
    if not choice.recovery:
        yield Finding(
            "mounting",
            "note",
            f"a mount does not survive the process that serves it: {choice.recovery_reason}",
        )
    if not machine.others_allowed:
        yield Finding(
            "mounting",
            "note",
            "--allow-other is not allowed to you",
            "root can put the line user_allow_other into /etc/fuse.conf",
        )
    with suppress(OSError, ValueError):
        pages = int(_PAGES_LIMIT.read_text())
        if pages < _PAGES_WANTED:
            size = format_size(pages * os.sysconf("SC_PAGE_SIZE"))
            advice = f"sysctl fs.fuse.max_pages_limit={_PAGES_WANTED}"
            yield Finding("mounting", "note", f"requests are at most {size}", advice)


def check_mounts(folders: RunFolders) -> Iterator[Finding]:
    """Say how each mount is."""
    for mount in list_mounts(folders):
        yield _finding(mount)


def _finding(mount: Mount) -> Finding:
    place = printable(os.fspath(mount.mountpoint))
    shown = f"{place}: {printable(mount.source)} is {mount.state}"
    record = mount.record
    if record is not None and record.failure:
        shown += f": {printable(record.failure)}"
    if mount.state in (DEAD, GONE):
        what = "mount" if mount.state == DEAD else "run folder"
        return Finding("mounts", "problem", shown, f"`cachefs doctor --fix` clears the {what} away")
    if mount.state == FROZEN:
        return Finding(
            "mounts", "problem", shown, f"if it stays so: `cachefs umount --force {place}`"
        )
    if mount.state == ORPHAN:
        advice = "it goes on, but would not survive its process; mount it again when nobody uses it"
        return Finding("mounts", "note", shown, advice)
    if mount.state == ELSEWHERE:
        return Finding("mounts", "ok", f"{shown}, in another mount namespace")
    if record is None:
        return Finding("mounts", "ok", f"{shown}, of another user or with another run folder")
    recovery = "on" if record.recovery else "off"
    return Finding("mounts", "ok", f"{shown}, engine {record.engine}, recovery {recovery}")


def clear_stale(runtime: Runtime, folders: RunFolders) -> Iterator[Finding]:
    """Clear away what nobody can use any more, and say what that was."""
    for mount in list_mounts(folders):
        if not mount.stale:
            continue
        place = printable(os.fspath(mount.mountpoint))
        try:
            clear(runtime, mount)
        except CacheFSError as error:
            yield Finding("mounts", "problem", f"{place}: {error.message}", error.hint)
        else:
            yield Finding(
                "mounts", "ok", f"{place}: what was left of {mount.source} is cleared away"
            )
