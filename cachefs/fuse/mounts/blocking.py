"""Calls that a frozen mount may block for ever, each made by a process of its own.

A process that waits for a mount whose server is frozen cannot always be killed before the server
moves again. So whoever must not wait does not ask by itself: a child asks, the parent waits a bounded
time, and leaves the child behind if that does not come back.

The child runs this very file, without the package and without site-packages: it starts for each look
at a mount. Its exit status is the ``errno`` of the call.
"""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

DETACHED = 2
"""``MNT_DETACH``: leave the mount table now, and end with the last user."""
FORCED = 1
"""``MNT_FORCE``: abort the connection first; root only."""
_KILLED_SECONDS = 1.0
"""A child that was killed ends at once, unless its question is with the frozen server already; on a busy
machine not quite at once, and as long as it is there it uses the mount, which cannot be unmounted."""
_NO_FOLLOW = 8
_NOT_ALLOWED = (errno.EPERM, errno.EACCES)

_left_behind: list["subprocess.Popen[bytes]"] = []
"""Children that did not come back; they end when their mount does."""


def ask(mountpoint: Path, *, user: int, group: int, seconds: float) -> int | None:
    """Ask a mount for its size, which its server must answer itself.

    Args:
        mountpoint: Where it is.
        user: Who mounted it: to anybody else the kernel may answer by itself. Taken on if we may.
        group: Likewise.
        seconds: How long to wait.

    Returns:
        0, the ``errno`` of the answer, or ``None`` if none came in time.
    """
    return _run_here("statvfs", mountpoint, user, group, seconds=seconds)


def unmount(mountpoint: Path, *, flags: int = 0, seconds: float) -> int | None:
    """Unmount, by the system call if we may, else by ``fusermount3``.

    Returns:
        0, an ``errno`` (``EBUSY``: in use; ``EINVAL``: not a mount point; ``EPERM``: not ours), or
        ``None`` if it did not come back in time; it may be out of the mount table by then.
    """
    status = _run_here("umount2", mountpoint, flags | _NO_FOLLOW, seconds=seconds)
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if status not in _NOT_ALLOWED or flags & FORCED or program is None:
        return status
    lazily = ["-z"] if flags & DETACHED else []
    status, said = wait([program, "-u", *lazily, "--", os.fspath(mountpoint)], seconds)
    return _errno_said(said.decode(errors="replace")) if status else status


def _errno_said(said: str) -> int:
    """Return the ``errno`` behind what fusermount prints, which ends with 1 whatever it was."""
    if "not found in" in said:  # the mount table: it is unmounted already
        return errno.EINVAL
    # The longest first: some texts are part of others.
    known = sorted(errno.errorcode, key=lambda number: -len(os.strerror(number)))
    return next((number for number in known if os.strerror(number) in said), errno.EPERM)


def _run_here(name: str, mountpoint: Path, *words: int, seconds: float) -> int | None:
    # Isolated (-I) and without site (-S): nothing of the caller's environment, and quick.
    command = [sys.executable, "-I", "-S", __file__, name, os.fspath(mountpoint), *map(str, words)]
    return wait(command, seconds)[0]


def wait(command: list[str], seconds: float) -> tuple[int | None, bytes]:
    """Run a command that may hang; return its exit status and what it said on standard error.

    The status is ``None`` if it did not end in time. It is then killed, or left behind.
    """
    _left_behind[:] = [child for child in _left_behind if child.poll() is None]
    child = subprocess.Popen(  # noqa: S603 - our own arguments, and no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
    )
    try:
        said = child.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        child.kill()
        try:
            child.communicate(timeout=_KILLED_SECONDS)
        except subprocess.TimeoutExpired:
            _left_behind.append(child)
        return None, b""
    return child.returncode, said


def _statvfs(mountpoint: bytes, user: int, group: int) -> None:
    if os.geteuid() == 0 and (user, group) != (0, 0):
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    os.statvfs(mountpoint)


def _umount2(mountpoint: bytes, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(mountpoint, flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main() -> int:
    """Make the call that the arguments say; return its ``errno``."""
    name, mountpoint, *numbers = sys.argv[1:]
    try:
        if name == "statvfs":
            _statvfs(os.fsencode(mountpoint), *map(int, numbers))
        else:
            _umount2(os.fsencode(mountpoint), *map(int, numbers))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


if __name__ == "__main__":
    sys.exit(main())
