"""A mount as a container with users of its own sees it: its owners are mapped by the kernel."""

import ctypes
import os
import struct
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from cachefs.fuse.engines.choice import look_around
from tests.fuse.mounting import FILES, LARGE
from tests.integration.systems import wait_for

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(look_around().kernel < (6, 12), reason="needs Linux 6.12"),
]

OPEN_TREE, MOUNT_SETATTR = 428, 442
CLONE, EMPTY_PATH, RECURSIVE = 1, 0x1000, 0x8000
IDMAP = 0x00100000
FIRST = 100_000
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(done):
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


@contextmanager
def users():
    """A user namespace whose user 0 is the machine's ``FIRST``; a pid in it."""
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    process = subprocess.Popen(["unshare", "--user", *waits], stdin=subprocess.PIPE)
    try:
        ours, theirs = Path("/proc/self/ns/user"), Path(f"/proc/{process.pid}/ns/user")
        wait_for(lambda: theirs.readlink() != ours.readlink())
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text(f"0 {FIRST} 65536\n")
        yield process.pid
    finally:
        process.communicate(b"")


def mapped(place, pid):
    """Return a descriptor of a copy of a mount, as a runtime makes it for such a container."""
    tree = checked(LIBC.syscall(OPEN_TREE, -100, os.fsencode(place), CLONE))
    with Path(f"/proc/{pid}/ns/user").open() as namespace:
        attributes = struct.pack("=QQQQ", IDMAP, 0, 0, namespace.fileno())
        checked(LIBC.syscall(MOUNT_SETATTR, tree, b"", EMPTY_PATH, attributes, len(attributes)))
    return tree


def test_a_container_with_users_of_its_own_sees_its_root_as_the_owner_and_reads(mounted):
    place = mounted("model", "--allow-other")
    with users() as pid:
        tree = mapped(place, pid)
        try:
            status = os.stat(LARGE, dir_fd=tree)
            assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (FIRST, FIRST, 0o444)
            assert (place / LARGE).stat().st_uid == 0
            for name in (LARGE, "tokenizer/vocab.txt"):
                file = os.open(name, os.O_RDONLY, dir_fd=tree)
                with os.fdopen(file, "rb") as opened:
                    assert opened.read() == FILES[name]
            folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree)
            try:
                assert set(os.listdir(folder)) == {name.split("/")[0] for name in FILES}  # noqa: PTH208
            finally:
                os.close(folder)
        finally:
            os.close(tree)
    assert (place / LARGE).read_bytes() == FILES[LARGE]
