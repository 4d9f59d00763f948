"""System calls on mounts and targets, made by a child process: any of them may hang in a frozen mount.

This file is run by itself, without the package and without site-packages (as
:mod:`cachefs.fuse.mounts.blocking` is, and for its reasons). It says on standard error what came of it, a JSON
object: ``errno``, the ``stage`` at which it came, and numbers that were asked for.

Paths are never trusted twice. A folder that we were given is opened once, everything below it is found by
``openat2`` without leaving it and without following a link, and what was opened is what is mounted, or mounted
upon, whatever anybody makes of the path meanwhile. A mount is finished before it is put in its place: nobody
sees it writable.
"""

import contextlib
import ctypes
import errno
import json
import os
import stat
import struct
import sys
from collections.abc import Callable

_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442
"""The same on every architecture: ``asm-generic/unistd.h``."""
_OPEN_HOW = struct.Struct("=QQQ")
_MOUNT_ATTR = struct.Struct("=QQQQ")
_NO_XDEV, _NO_MAGIC_LINKS, _NO_LINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_STRICTLY = _NO_MAGIC_LINKS | _NO_LINKS | _BENEATH
_EMPTY_PATH = 0x1000
_CLONE, _CLONE_CLOEXEC = 1, os.O_CLOEXEC
_FROM_EMPTY, _TO_EMPTY = 0x04, 0x40
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC = 1, 2, 4, 8
_DETACH, _NO_FOLLOW = 2, 8
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_STACKED_MAX = 16
"""Mounts on top of one another at one target; more is somebody's mistake, and not ours to undo."""
_TARGET_MODE = 0o750
"""As kubelet's own folders; what is mounted there brings its own."""

_LIBC = ctypes.CDLL(None, use_errno=True)


class _Failure(Exception):  # noqa: N818 - one of this file's own
    def __init__(self, stage: str, number: int) -> None:
        super().__init__(stage)
        self.stage = stage
        self.number = number


def _checked(done: int) -> int:
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return done


def _beneath(folder: int, path: bytes, *, also: int = 0) -> int:
    how = _OPEN_HOW.pack(_FOLDER | os.O_NOFOLLOW, 0, _STRICTLY | also)
    return _checked(_LIBC.syscall(_OPENAT2, folder, path, how, len(how)))


def _bind(words: list[bytes]) -> dict[str, int]:
    """Bind a folder of a mount to a target.

    The words: where the mount is, its device as ``major:minor`` (empty: any), the version's folder below it,
    a path below that (empty: the folder itself), the folder of all targets, the target below that, ``ro`` or
    ``rw``, and ``over`` if it is to be on top of what is mounted there.
    """
    mount, device, source, path, targets, target, mode, over = words
    folder = _staged("source", lambda: _version(mount, device, source))
    if path:
        above = folder
        folder = _staged("path", lambda: _beneath(above, path))
    tree = _staged("clone", lambda: _clone(folder, read_only=mode == b"ro"))
    place = _staged("target", lambda: _target(targets, target, over=over == b"over"))
    _staged(
        "mount",
        lambda: _checked(
            _LIBC.syscall(_MOVE_MOUNT, tree, b"", place, b"", _FROM_EMPTY | _TO_EMPTY)
        ),
    )
    return {}


def _version(mount: bytes, device: bytes, path: bytes) -> int:
    folder = _beneath(os.open(mount, _FOLDER | os.O_NOFOLLOW), path)
    if device:
        found = os.fstat(folder).st_dev
        if device != b"%d:%d" % (os.major(found), os.minor(found)):
            raise OSError(errno.ENOTCONN, "another file system")
    return folder


def _clone(folder: int, *, read_only: bool) -> int:
    flags = _EMPTY_PATH | _CLONE | _CLONE_CLOEXEC
    tree = _checked(_LIBC.syscall(_OPEN_TREE, folder, b"", flags))
    wanted = _NO_SUID | _NO_DEV | _NO_EXEC | (_READ_ONLY if read_only else 0)
    attributes = _MOUNT_ATTR.pack(wanted, 0, 0, 0)
    _checked(_LIBC.syscall(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH, attributes, len(attributes)))
    return tree


def _target(root: bytes, path: bytes, *, over: bool) -> int:
    parent = _parent(root, path)
    name = path.rpartition(b"/")[2]
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, _TARGET_MODE, dir_fd=parent)
    # Not on top of another mount, unless it is meant: who asked has looked, and somebody was quicker.
    return _beneath(parent, name, also=0 if over else _NO_XDEV)


def _parent(root: bytes, path: bytes) -> int:
    folder = os.open(root, _FOLDER)
    above = path.rpartition(b"/")[0]
    return _beneath(folder, above) if above else folder


def _unbind(words: list[bytes]) -> dict[str, int]:
    """Unmount a target, and remove its folder; what is not there is no failure.

    The words: the folder of all targets, and the target below it.
    """
    root, path = words
    try:
        parent = _parent(root, path)
    except FileNotFoundError:
        return {}
    name = path.rpartition(b"/")[2]
    place = b"/proc/self/fd/%d/%s" % (parent, name)
    for _ in range(_STACKED_MAX):
        if _LIBC.umount2(place, _DETACH | _NO_FOLLOW):
            break
    number = ctypes.get_errno()
    if number not in (0, errno.EINVAL, errno.ENOENT):
        raise _Failure("unmount", number)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=parent)
    return {}


def _measure(words: list[bytes]) -> dict[str, int]:
    """Say how large a target's file system is, and which it is. The words: as for :func:`_unbind`."""
    root, path = words
    folder = _beneath(_parent(root, path), path.rpartition(b"/")[2])
    status, size = os.fstat(folder), os.fstatvfs(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ENOTDIR, "not a folder")
    return {
        "total": size.f_blocks * size.f_frsize,
        "available": size.f_bavail * size.f_frsize,
        "used": (size.f_blocks - size.f_bfree) * size.f_frsize,
        "inodes": size.f_files,
        "inodes_free": size.f_favail,
    }


def _staged(stage: str, call: Callable[[], int]) -> int:
    try:
        return call()
    except OSError as error:
        raise _Failure(stage, error.errno or errno.EIO) from error


_CALLS: dict[str, Callable[[list[bytes]], dict[str, int]]] = {
    "bind": _bind,
    "unbind": _unbind,
    "measure": _measure,
}


def main() -> int:
    """Make the call that the arguments say."""
    name, *words = sys.argv[1:]
    said: dict[str, int | str]
    try:
        said = {"errno": 0, **_CALLS[name]([os.fsencode(word) for word in words])}
    except _Failure as failure:
        said = {"errno": failure.number, "stage": failure.stage}
    except OSError as error:
        said = {"errno": error.errno or errno.EIO, "stage": name}
    sys.stderr.write(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
