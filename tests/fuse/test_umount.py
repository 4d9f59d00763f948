"""Unmounting: of a mount that is idle, busy, dead or frozen; always within seconds."""

import errno
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest

from cachefs.fuse.mounts import blocking
from cachefs.fuse.mounts.table import find_mount
from tests.fuse.mounting import FILES, LARGE
from tests.integration.systems import RUNTIME, wait_for

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

BOUND_SECONDS = 30
"""No command takes longer, on a machine that does other things as well."""
HOLDS = "import os, sys, time; {}; print('holds', flush=True); time.sleep(60)"
OPEN = "file = os.open(sys.argv[1], os.O_RDONLY)"
# Python's own mmap keeps the file open.
MAPPED = (
    "import ctypes; file = os.open(sys.argv[1], os.O_RDONLY); map = ctypes.CDLL(None).mmap; "
    "map.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]; "
    "map(None, 4096, 1, 1, file, 0); os.close(file)"
)
INSIDE = "os.chdir(os.path.dirname(sys.argv[1]))"
READS = (
    "import os, sys\n"
    "file = os.open(sys.argv[1], os.O_RDONLY)\n"
    "print('holds', flush=True)\n"
    "sys.stdin.readline()\n"
    "os.pread(file, 1000, 1_000_000)\n"
)


@contextmanager
def holder(program, place):
    """Run a process that uses a mount."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(place / LARGE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout.readline() == "holds\n"
        yield process
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait(20)


@pytest.mark.parametrize(
    ("how", "said"),
    [(OPEN, "has a file open"), (MAPPED, "has a file mapped"), (INSIDE, "is in it")],
    ids=["open", "mapped", "inside"],
)
def test_a_busy_mount_stays_and_its_users_are_named(mounts, how, said):
    place = mounts.mount("model")
    with holder(HOLDS.format(how), place) as process:
        refused = mounts.cachefs("umount", place, code=10)
        assert f"({process.pid}) {said}" in refused.stderr
        assert (place / LARGE).read_bytes() == FILES[LARGE]
    mounts.cachefs("umount", place)
    assert mounts.processes() == []


def test_a_lazy_umount_lets_users_go_on_and_ends_with_the_last(mounts):
    place = mounts.mount("model")
    file = os.open(place / LARGE, os.O_RDONLY)
    assert "last user" in mounts.cachefs("umount", "--lazy", place).stderr
    assert find_mount(place) is None
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(file, 1000, 2_000_000) == FILES[LARGE][2_000_000:][:1000]
    os.close(file)
    wait_for(lambda: mounts.processes() == [])
    assert list(mounts.run_folders.all()) == []


def test_a_forced_umount_gives_users_errors_and_leaves_nothing(mounts):
    mounts.set(reader__local="false")
    place = mounts.mount("model")
    file = os.open(place / LARGE, os.O_RDONLY)
    mounts.cachefs("umount", "--force", place)
    assert find_mount(place) is None
    assert mounts.processes() == []
    with pytest.raises(OSError) as caught:
        os.pread(file, 1000, 0)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
    with suppress(OSError):
        os.close(file)


def test_the_current_folder_of_the_command_does_not_keep_a_mount_busy(mounts):
    place = mounts.mount("model")
    mounts.cachefs("umount", ".", cwd=place)
    assert find_mount(place) is None


def test_what_is_no_mount_of_ours_is_left_alone(mounts):
    for place in (mounts.place(), "/proc", mounts.folder / "missing"):
        refused = mounts.cachefs("umount", place, code=4)
        assert "nothing of cachefs" in refused.stderr


def test_umount_of_the_system_itself_ends_the_processes_too(mounts):
    place = mounts.mount("model")
    subprocess.run(["umount", place], check=True, timeout=BOUND_SECONDS)
    wait_for(lambda: mounts.processes() == [])
    assert list(mounts.run_folders.all()) == []


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_dead_mount_is_unmounted(mounts, busy):
    place = mounts.mount("model", "--no-recovery")
    file = os.open(place / LARGE, os.O_RDONLY) if busy else None
    os.kill(mounts.record(place).server.pid, signal.SIGKILL)
    wait_for(lambda: mounts.processes() == [])
    began = RUNTIME.monotonic()
    mounts.cachefs("umount", place)
    assert RUNTIME.monotonic() - began < BOUND_SECONDS
    assert find_mount(place) is None
    assert list(mounts.run_folders.all()) == []
    if file is not None:
        with suppress(OSError):
            os.close(file)


def test_a_frozen_mount_is_unmounted(mounts):
    place = mounts.mount("model")
    os.kill(mounts.record(place).server.pid, signal.SIGSTOP)
    began = RUNTIME.monotonic()
    (found,) = mounts.listed()
    assert found["state"] == "frozen"
    mounts.cachefs("umount", place)
    assert RUNTIME.monotonic() - began < BOUND_SECONDS
    assert find_mount(place) is None
    # They are killed; a machine that is busy with others lets them end later.
    wait_for(lambda: mounts.processes() == [])


def test_a_frozen_mount_with_a_reader_that_waits_is_unmounted_by_force(mounts):
    mounts.set(reader__local="false")
    place = mounts.mount("model")
    with holder(READS, place) as reader:
        os.kill(mounts.record(place).server.pid, signal.SIGSTOP)
        reader.stdin.write("\n")
        reader.stdin.flush()
        RUNTIME.sleep(0.3)
        assert reader.poll() is None
        began = RUNTIME.monotonic()
        mounts.cachefs("umount", place, code=10)
        mounts.cachefs("umount", "--force", place)
        assert RUNTIME.monotonic() - began < BOUND_SECONDS
        assert reader.wait(10) == 1
    assert find_mount(place) is None
    assert mounts.processes() == []


def test_a_mount_whose_processes_are_all_frozen_is_unmounted(mounts):
    place = mounts.mount("model")
    for process in mounts.record(place).processes:
        os.kill(process.pid, signal.SIGSTOP)
    mounts.cachefs("umount", place)
    assert find_mount(place) is None
    assert mounts.processes() == []


def test_an_aborted_mount_is_dead_and_still_known(mounts):
    place = mounts.mount("model")
    file = os.open(place / LARGE, os.O_RDONLY)
    assert blocking.unmount(place, flags=blocking.FORCED, seconds=5) == errno.EBUSY
    wait_for(lambda: mounts.processes() == [])
    (found,) = mounts.listed()
    assert (found["state"], found["source"]) == ("dead", "cachefs://model")
    assert "aborted" in found["failure"]
    with suppress(OSError):
        os.close(file)
    mounts.cachefs("umount", place)
    assert list(mounts.run_folders.all()) == []
