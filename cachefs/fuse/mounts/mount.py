"""Mounts as commands see them: the mount table joined with the run folders, and how to end one.

Every look and every step is bounded in time, whatever state a mount is in. ``live`` answers. ``dead``
has nobody who serves it: every use gets ``ENOTCONN``. ``frozen`` has, but no answer came in time.
``orphan`` answers, but its keeper is gone, so that the next death of the server ends it.
``elsewhere`` is in another mount namespace, a container's for instance. ``gone`` is a run folder of
which nothing else is left.
"""

import errno
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cachefs.core.names import printable
from cachefs.errors import (
    CacheFSError,
    ConflictError,
    DeadlineError,
    DeniedError,
    NotKnownError,
)
from cachefs.fuse.mounts import blocking
from cachefs.fuse.mounts.runfolder import MountRecord, RunFolder, RunFolders
from cachefs.fuse.mounts.table import TableEntry, elsewhere, locate, read_table
from cachefs.fuse.mounts.users import find_users
from cachefs.ports import Runtime

LIVE, DEAD, FROZEN, ORPHAN = "live", "dead", "frozen", "orphan"
ELSEWHERE, GONE = "elsewhere", "gone"

Known = Sequence[tuple[RunFolder, MountRecord]]

ANSWER_SECONDS = 2.0
"""How long a live mount may take to say how large it is, which is in its memory."""
_UNMOUNT_SECONDS = 5.0
_END_SECONDS = 5.0
"""After an unmount, so long may its processes take to end before they are killed."""
_END_SECONDS_FROZEN = 0.5
"""Those of a frozen mount will not."""
_POLL_SECONDS = 0.02
_USERS_NAMED = 5
_LOST = (errno.ENOTCONN, errno.ECONNABORTED)
_CONNECTIONS = Path("/sys/fs/fuse/connections")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount."""

    mountpoint: Path
    source: str
    state: str
    entry: TableEntry | None
    """``None`` if it is not in our mount table."""
    record: MountRecord | None
    """``None`` if it is another user's, or its run folder was removed."""
    folder: RunFolder | None

    @property
    def stale(self) -> bool:
        """Whether nobody can use it any more, so that it may be cleared away."""
        return self.state in (DEAD, GONE) and not (self.record and self.record.alive)


def list_mounts(folders: RunFolders, *, system: str | None = None) -> list[Mount]:
    """Return the mounts of this mount namespace, and those of the run folders.

    Args:
        folders: Where this user's mounts have their records.
        system: Only those that read from it: :attr:`MountRecord.state`. No other is looked at.
    """
    known = [each for each in folders.all() if system in (None, each[1].state)]
    table = [entry for entry in read_table() if entry.ours]
    if system is not None:
        table = [entry for entry in table if _record_of(entry, known) is not None]
    found = [_of_entry(entry, known) for entry in table]
    taken = {mount.folder.path for mount in found if mount.folder is not None}
    for folder, record in known:
        if folder.path not in taken:
            state = ELSEWHERE if record.alive else GONE
            found.append(Mount(record.mountpoint, record.source, state, None, record, folder))
    return found


def find_mount_at(folders: RunFolders, given: str | Path) -> Mount:
    """Return the mount on a folder.

    Raises:
        NotKnownError: None of ours is mounted there.
    """
    mountpoint = locate(given)
    found = [entry for entry in read_table() if entry.mountpoint == mountpoint]
    if found and found[-1].ours:
        return _of_entry(found[-1], list(folders.all()))
    raise NotKnownError(
        "nothing of cachefs is mounted there",
        subject=printable(str(mountpoint)),
        hint="`cachefs mount list` shows what is",
    )


def unmount(runtime: Runtime, mount: Mount, *, lazily: bool = False, force: bool = False) -> str:
    """Unmount within bounded time, and see its processes end; return what a person should know.

    Args:
        runtime: The clock.
        mount: What to unmount; it must be in our mount table.
        lazily: Take it out of the table even if it is in use; who uses it may go on.
        force: If it is in use, end its connection: who uses it gets errors from now on.

    Raises:
        ConflictError: It is in use; names by whom.
        DeniedError: It is not ours.
        DeadlineError: The system did not unmount it in time.
    """
    with suppress(OSError):
        os.chdir("/")  # We may be in it ourselves.
    path = mount.mountpoint
    status = _unmount_once(mount, lazily=lazily)
    if status == errno.EBUSY and (force or mount.state == DEAD):
        if force:
            abort(mount)
        status = _unmount_once(mount, lazily=True)
    if status == errno.EBUSY:
        raise _in_use(mount)
    if status not in (0, None, errno.EINVAL) or _in_table(mount):
        raise _refused(path, status)
    if lazily:
        remaining = _wait_for_end(runtime, mount, seconds=_POLL_SECONDS * 5)
        return "it ends when the last user is gone" if remaining else ""
    return _end(runtime, mount)


def clear(runtime: Runtime, mount: Mount) -> None:
    """Remove what is left of a mount that is :attr:`Mount.stale`.

    Raises:
        CacheFSError: As :func:`unmount`.
    """
    if mount.entry is not None:
        unmount(runtime, mount)
    elif mount.folder is not None:
        mount.folder.remove()


def abort(mount: Mount) -> None:
    """End a mount's connection: whoever uses it gets errors, whoever waits for it first of all."""
    if mount.entry is None:
        return
    minor = mount.entry.device.partition(":")[2]
    with suppress(OSError):
        (_CONNECTIONS / minor / "abort").write_text("1")
    blocking.unmount(mount.mountpoint, flags=blocking.FORCED, seconds=_UNMOUNT_SECONDS)
    _kill(mount)


def _record_of(entry: TableEntry, known: Known) -> tuple[RunFolder, MountRecord] | None:
    matching = (
        each
        for each in known
        if each[1].mountpoint == entry.mountpoint and each[1].device in ("", entry.device)
    )
    return next(matching, None)


def _of_entry(entry: TableEntry, known: Known) -> Mount:
    folder, record = _record_of(entry, known) or (None, None)
    user, group = entry.owner()
    status = blocking.ask(entry.mountpoint, user=user, group=group, seconds=ANSWER_SECONDS)
    if status in _LOST:
        state = DEAD
    elif status is None:
        state = FROZEN
    else:  # An error is an answer too.
        kept = record is None or (record.keeper is not None and record.keeper.alive)
        state = LIVE if kept else ORPHAN
    return Mount(entry.mountpoint, entry.source, state, entry, record, folder)


def _unmount_once(mount: Mount, *, lazily: bool) -> int | None:
    flags = blocking.DETACHED if lazily else 0
    return blocking.unmount(mount.mountpoint, flags=flags, seconds=_UNMOUNT_SECONDS)


def _in_table(mount: Mount) -> bool:
    # The kernel uses numbers again at once; together with the place they name one mount.
    return mount.entry is not None and any(
        (each.id, each.device, each.mountpoint)
        == (mount.entry.id, mount.entry.device, mount.mountpoint)
        for each in read_table()
    )


def _in_use(mount: Mount) -> ConflictError:
    users = [] if mount.entry is None else find_users(mount.entry)
    named = ", ".join(map(str, users[:_USERS_NAMED])) or "by a process that we may not look into"
    more = f", and {len(users) - _USERS_NAMED} more" if len(users) > _USERS_NAMED else ""
    return ConflictError(
        f"is in use: {printable(named)}{more}",
        subject=printable(str(mount.mountpoint)),
        hint="end them, or --lazy (they go on), or --force (they get errors)",
    )


def _refused(path: Path, status: int | None) -> CacheFSError:
    subject = printable(str(path))
    if status in (errno.EPERM, errno.EACCES):
        return DeniedError("is not yours to unmount", subject=subject, hint="be root, or its owner")
    if status is None:
        return DeadlineError(
            "the system did not unmount it in time", subject=subject, hint="try --force"
        )
    return DeniedError("cannot be unmounted", subject=subject, hint=os.strerror(status))


def _end(runtime: Runtime, mount: Mount) -> str:
    """See the processes of a mount end that has left the table; kill those that do not."""
    record = mount.record
    if record is None or mount.entry is None:
        return ""
    patience = _END_SECONDS_FROZEN if mount.state == FROZEN else _END_SECONDS
    if _wait_for_end(runtime, mount, seconds=patience):
        if elsewhere(mount.entry.device):
            return "it is still mounted in other mount namespaces, a container's for instance"
        _kill(mount)
        if _wait_for_end(runtime, mount, seconds=_END_SECONDS):
            return "its processes are killed, but have not ended yet"
    if mount.folder is not None and not any(_processes_alive(mount)):
        mount.folder.remove()
    return ""


def _wait_for_end(runtime: Runtime, mount: Mount, *, seconds: float) -> bool:
    """Wait until the processes of a mount have ended; say whether some have not."""
    give_up = runtime.monotonic() + seconds
    while any(_processes_alive(mount)):
        if runtime.monotonic() > give_up:
            return True
        runtime.sleep(_POLL_SECONDS)
    return False


def _kill(mount: Mount) -> None:
    for record in _records(mount):
        # The keeper first, or it would start another server.
        for process in record.processes:
            process.send(signal.SIGKILL)


def _processes_alive(mount: Mount) -> Iterator[bool]:
    return (record.alive for record in _records(mount))


def _records(mount: Mount) -> list[MountRecord]:
    """Return what is known of a mount's processes, by a keeper that may have replaced its server."""
    newest = mount.folder.read() if mount.folder is not None else None
    return [record for record in (mount.record, newest) if record is not None]
