"""SEMANTICS.md, "The mount": what is refused, and locks."""

import fcntl
import mmap
import os
import subprocess
import sys

import pytest

from tests.fuse.shown import FILES, fails

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.mark.parametrize(
    "flags",
    [
        os.O_WRONLY,
        os.O_RDWR,
        os.O_RDONLY | os.O_TRUNC,
        os.O_WRONLY | os.O_APPEND,
    ],
)
def test_opening_a_file_for_writing_is_erofs(shown, flags):
    assert fails(os.open, shown / "config.json", flags) == "EROFS"


def test_nothing_can_be_made(shown):
    new = shown / "new"
    assert fails(os.open, new, os.O_CREAT | os.O_WRONLY) == "EROFS"
    assert fails(os.mkdir, new) == "EROFS"
    assert fails(os.mknod, new) == "EROFS"
    assert fails(os.mkfifo, new) == "EROFS"
    assert fails(os.symlink, "config.json", new) == "EROFS"
    assert fails(os.link, shown / "config.json", new) == "EROFS"
    assert fails(os.open, shown, os.O_TMPFILE | os.O_WRONLY) in ("EROFS", "EOPNOTSUPP")


def test_nothing_can_be_changed_or_removed(shown):
    file, folder = shown / "config.json", shown / "weights"
    assert fails(os.unlink, file) == "EROFS"
    assert fails(os.rmdir, folder) == "EROFS"
    assert fails(os.rename, file, shown / "new") == "EROFS"
    assert fails(os.chmod, file, 0o666) == "EROFS"
    assert fails(os.chown, file, 1, 1) == "EROFS"
    assert fails(os.utime, file) == "EROFS"
    assert fails(os.truncate, file, 0) == "EROFS"
    assert fails(os.setxattr, file, "user.x", b"1") == "EROFS"
    assert fails(os.removexattr, file, "user.cachefs.path") == "EROFS"
    descriptor = os.open(file, os.O_RDONLY)
    try:
        assert fails(os.write, descriptor, b"x") == "EBADF"
        assert fails(os.ftruncate, descriptor, 0) == "EINVAL"
        assert fails(os.posix_fallocate, descriptor, 0, 10) == "EBADF"
        os.fsync(descriptor)  # there is nothing to do, and it is done
    finally:
        os.close(descriptor)
    assert file.read_bytes() == FILES["config.json"]


def test_access_says_what_is_allowed(shown):
    assert os.access(shown / "config.json", os.R_OK)
    assert not os.access(shown / "config.json", os.W_OK)
    assert not os.access(shown / "config.json", os.X_OK)
    assert os.access(shown / "weights", os.R_OK | os.X_OK)


def test_nothing_can_be_run(shown):
    assert fails(os.execv, shown / "config.json", ["x"]) == "EACCES"
    with (shown / "config.json").open("rb") as file:
        assert fails(mmap.mmap, file.fileno(), 0, prot=mmap.PROT_EXEC) == "EPERM"


def test_a_shared_mapping_cannot_be_written_and_a_private_one_is_the_programs_own(shown):
    with (shown / "config.json").open("rb") as file:
        assert fails(mmap.mmap, file.fileno(), 0, access=mmap.ACCESS_WRITE) == "EACCES"
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as copy:
            copy[0:1] = b"X"
            assert copy[0:2] == b"X" + FILES["config.json"][1:2]
    assert (shown / "config.json").read_bytes() == FILES["config.json"]


_TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1], "rb") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(11)
"""


def test_locks_hold_among_the_processes_of_one_machine(shown):
    command = [sys.executable, "-c", _TRY_LOCK, shown / "config.json"]
    with (shown / "config.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert subprocess.run(command, check=False).returncode == 11
        fcntl.flock(file, fcntl.LOCK_UN)
        assert subprocess.run(command, check=False).returncode == 0
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert fails(fcntl.lockf, file, fcntl.LOCK_EX | fcntl.LOCK_NB) == "EBADF"


def test_there_are_no_ioctls(shown):
    with (shown / "config.json").open("rb") as file:
        assert fails(fcntl.ioctl, file, 0x80086601, bytes(8)) == "ENOTTY"
