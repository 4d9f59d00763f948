"""An ordinary user mounts through fusermount3, and gets all but passing through and readahead."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.fuse.served_folder import ROOT

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user"),
    pytest.mark.skipif(shutil.which("fusermount3") is None, reason="no fusermount3"),
]

NOBODY = 65534
# The interpreter may lie in a folder of root's own: everything is loaded before root is left. The
# mount namespace is private, and in it the device is open to everybody, as udev makes it.
PROGRAM = f"""
import ctypes, os, stat, subprocess, sys, threading
from pathlib import Path
from tests.fuse.served_folder import FolderOperations
from cachefs.fuse.showing.attributes import MountOptions
from cachefs.fuse.showing.memory import VolatileMemory
from cachefs.fuse.engines.native import device
from cachefs.fuse.engines.native.engine import NativeEngine
from cachefs.fuse.mounts.table import find_mount
from cachefs.transport.runtime import ThreadRuntime

source, mountpoint, control = map(Path, sys.argv[1:])
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
assert libc.mount(b"none", b"/", None, ctypes.c_ulong(1 << 14 | 1 << 18), None) == 0  # private
os.mknod(control / "device", stat.S_IFCHR | 0o666, os.makedev(10, 229))
(control / "device").chmod(0o666)
assert libc.mount(bytes(control / "device"), b"/dev/fuse", None, ctypes.c_ulong(4096), None) == 0
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
options = MountOptions(uid={NOBODY}, gid={NOBODY})
number = device.mount(mountpoint, "cachefs://a,b\\\\c", options)
operations = FolderOperations(source, control)
engine = NativeEngine(number, operations, VolatileMemory(), options, ThreadRuntime())
serving = threading.Thread(target=engine.serve)
serving.start()
entry = find_mount(mountpoint)
print(entry.type, entry.source, flush=True)
read = subprocess.run(["sha256sum", mountpoint / "file"], capture_output=True, text=True)
print(read.stdout.split()[0], flush=True)
subprocess.run(["fusermount3", "-u", mountpoint], check=True)
serving.join(20)
print(serving.is_alive(), flush=True)
"""


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="cachefs-user-"))
    try:
        for name in ("source", "mount", "control"):
            (made / name).mkdir()
            os.chown(made / name, NOBODY, NOBODY)
        made.chmod(0o755)
        yield made
    finally:
        shutil.rmtree(made)


def test_an_ordinary_user_mounts_reads_and_unmounts(folder):
    content = os.urandom(3_000_000)
    (folder / "source" / "file").write_bytes(content)
    (folder / "source" / "file").chmod(0o444)
    (folder / "control" / "whole").write_text("file")  # which takes privileges
    places = [str(folder / name) for name in ("source", "mount", "control")]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout.split("\n")[:3] == [
        "fuse.cachefs cachefs://a,b\\c",
        hashlib.sha256(content).hexdigest(),
        "False",
    ], ended.stderr
    assert (folder / "control" / "reads").read_text()
