"""The calls of :mod:`.binding`, each by a child that is left behind if it does not come back in time."""

import errno
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from cachefs.core.names import printable
from cachefs.errors import (
    CacheFSError,
    ClusterError,
    ConfigError,
    ConflictError,
    DeadlineError,
    DeniedError,
    NotKnownError,
)
from cachefs.fuse.mounts import blocking

_FILE = Path(__file__).with_name("binding.py")
_NO_PATH = {
    errno.ENOENT: "no such folder in the dataset",
    errno.ENOTDIR: "is a file, and only folders can be volumes",
    errno.ELOOP: "no such folder in the dataset",
    errno.EXDEV: "no such folder in the dataset",
}
_NO_TARGET = (ConfigError, "the target is not a folder below the kubelet's")
_FAILURES: Mapping[int, tuple[type[CacheFSError], str]] = {
    errno.ENOTCONN: (ClusterError, "the node's mount is dead; it is mounted anew by itself"),
    errno.ECONNABORTED: (ClusterError, "the node's mount is dead; it is mounted anew by itself"),
    errno.ENOSYS: (ClusterError, "this kernel lacks a call: Linux 5.12 or newer is needed"),
    errno.EXDEV: (ConflictError, "something is mounted there"),
    errno.ELOOP: _NO_TARGET,
    errno.ENOTDIR: _NO_TARGET,
    errno.ENOENT: _NO_TARGET,
    errno.EPERM: (DeniedError, "the system does not let us"),
    errno.EACCES: (DeniedError, "the system does not let us"),
}


class AbsentError(NotKnownError):
    """The mount does not have what the coordinator knows: it may not have heard of it yet."""


def bind(
    *,
    mount: Path,
    device: str,
    source: str,
    path: str,
    targets: Path,
    target: Path,
    read_only: bool,
    over: bool,
    seconds: float,
) -> None:
    """Show a folder of a mount at a target, which is made if need be.

    Args:
        mount: Where the mount is.
        device: Its ``major:minor``, if anything else that is found there will not do.
        source: The version's folder, as a path below the mount.
        path: A folder below that; empty for itself.
        targets: The folder that the target must be below.
        target: Where to show it.
        read_only: Or not.
        over: On top of what is mounted there; else nothing may be.
        seconds: How long to wait.

    Raises:
        AbsentError: The mount does not have the version's folder, or not yet.
        NotKnownError: The version has no such folder.
        ConfigError: The target will not do.
        ConflictError: Something is mounted there.
        ClusterError: The mount is dead.
        DeadlineError: It did not come back in time.
    """
    relative = os.fspath(target.relative_to(targets))
    modes = ("ro" if read_only else "rw", "over" if over else "bare")
    said = _call("bind", mount, device, source, path, targets, relative, *modes, seconds=seconds)
    if said.get("errno"):
        raise _failure(said, source=path or source, target=target)


def unbind(*, targets: Path, target: Path, seconds: float) -> None:
    """Unmount a target at once, whoever uses it, and remove its folder.

    Raises:
        DeadlineError: It did not come back in time.
        ConfigError: The target is no folder of ours.
        CacheFSError: It cannot be unmounted, or is not empty.
    """
    relative = os.fspath(target.relative_to(targets))
    said = _call("unbind", targets, relative, seconds=seconds)
    if said.get("errno"):
        raise _failure(said, source="", target=target)


def measure(*, targets: Path, target: Path, seconds: float) -> Mapping[str, int]:
    """Return ``total``, ``available`` and ``used`` bytes, ``inodes`` and ``inodes_free`` of a target.

    Raises:
        DeadlineError: No answer in time.
        CacheFSError: None that can be had.
    """
    relative = os.fspath(target.relative_to(targets))
    said = _call("measure", targets, relative, seconds=seconds)
    if said.get("errno"):
        raise _failure(said, source="", target=target)
    return {name: int(value) for name, value in said.items()}


def _call(name: str, *words: str | Path, seconds: float) -> dict[str, int | str]:
    # Isolated (-I) and without site (-S): nothing of the caller's environment, and quick.
    command = [sys.executable, "-I", "-S", str(_FILE), name, *map(str, words)]
    status, said = blocking.wait(command, seconds)
    if status is None:
        raise DeadlineError("the system did not answer in time", subject=name)
    try:
        document: dict[str, int | str] = json.loads(said)
    except ValueError:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise ClusterError("a call ended without a word", subject=name, hint=last) from None
    return document


def _failure(said: Mapping[str, int | str], *, source: str, target: Path) -> CacheFSError:
    number, stage = int(said["errno"]), str(said.get("stage"))
    if stage == "source" and number == errno.ENOENT:
        return AbsentError("the node's mount does not have it", subject=printable(source))
    if stage == "path" and number in _NO_PATH:
        return NotKnownError(_NO_PATH[number], subject=printable(source))
    kind, message = _FAILURES.get(number, (ClusterError, f"cannot {stage} it"))
    return kind(message, subject=printable(str(target)), hint=os.strerror(number))
