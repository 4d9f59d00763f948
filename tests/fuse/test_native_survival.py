"""Files open in a native mount go on when the process that serves it is killed and replaced."""

import errno
import fcntl
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachefs.fuse.engines.native import device as system
from cachefs.fuse.mounts.table import find_mount
from tests.fuse.served_folder import FolderMount, abort

pytestmark = pytest.mark.fuse

MIB = 1024 * 1024
CONTENT = random.Random(11).randbytes(6 * MIB + 77)
MAPPER = (
    "import mmap, sys, hashlib\n"
    "file = open(sys.argv[1], 'rb')\n"
    "view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
    "file.close()\n"
    "view[0]\n"
    "print('mapped', flush=True)\n"
    "sys.stdin.readline()\n"
    "print(hashlib.sha256(view).hexdigest())\n"
)


def wait_until(condition, what):
    until = time.monotonic() + 15  # noqa: TID251 - a test with real processes
    while not condition():
        assert time.monotonic() < until, what  # noqa: TID251 - likewise
        time.sleep(0.01)  # noqa: TID251 - likewise


@pytest.fixture
def mount(tmp_path):
    made = FolderMount(tmp_path)
    try:
        for name in ("one", "two"):
            (made.source / name).write_bytes(CONTENT)
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def mapper(mount):
    started = []

    def start(name):
        process = subprocess.Popen(
            [sys.executable, "-c", MAPPER, str(mount.mountpoint / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "mapped\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def digest_of(process):
    said, _ = process.communicate("go\n", timeout=20)
    return said.strip()


def expected():
    import hashlib  # noqa: PLC0415 - used here alone

    return hashlib.sha256(CONTENT).hexdigest()


def is_open(path):
    """Whether anybody has the file open, the kernel for one: as its worker asks before it evicts."""
    with path.open("rb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            return True
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False


def drop_pages(file):
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# ---- modes ------------------------------------------------------------------------------------


def test_a_file_that_is_whole_here_is_read_by_the_kernel_alone(mount):
    mount.say("whole", "one")
    assert (mount.mountpoint / "one").read_bytes() == CONTENT
    assert mount.reads("one") == []
    assert (mount.mountpoint / "two").read_bytes() == CONTENT
    assert mount.reads("two") != []


def test_a_file_that_becomes_whole_while_it_is_open_is_passed_through_after_its_last_close(mount):
    with (mount.mountpoint / "one").open("rb") as before:
        assert before.read(10) == CONTENT[:10]
        mount.say("whole", "one")
        with (mount.mountpoint / "one").open("rb") as after:
            assert after.read() == CONTENT
        assert before.read() == CONTENT[10:]
    wait_until(lambda: _reads_nothing(mount, "one"), "the file is not passed through")


def _reads_nothing(mount, name):
    count = len(mount.reads(name))
    with (mount.mountpoint / name).open("rb") as file:
        drop_pages(file)
        assert file.read() == CONTENT
    return len(mount.reads(name)) == count


def test_a_local_copy_that_is_dropped_serves_those_who_have_it_open(mount):
    mount.say("whole", "one")
    with (mount.mountpoint / "one").open("rb") as first:
        mount.say("whole")
        with (mount.mountpoint / "one").open("rb") as second:
            assert second.read() == CONTENT
        assert first.read() == CONTENT
    assert mount.reads("one") == []


@pytest.mark.slow
def test_the_backing_file_stays_open_until_its_last_mapping_is_gone(mount, mapper):
    mount.say("whole", "one")
    process = mapper("one")
    settled = time.monotonic() + 1.5  # noqa: TID251 - several looks at it later
    wait_until(lambda: time.monotonic() > settled, "")  # noqa: TID251 - likewise
    assert is_open(mount.source / "one")
    assert digest_of(process) == expected()
    wait_until(lambda: not is_open(mount.source / "one"), "the kernel keeps it")
    assert (mount.mountpoint / "one").read_bytes() == CONTENT
    assert mount.reads("one") == []


# ---- taking over ------------------------------------------------------------------------------


def test_a_read_under_way_is_answered_by_the_successor(mount):
    mount.say("held", "one")
    with ThreadPoolExecutor(4) as pool:
        names = ["one", "one", "one"]
        waiting = [pool.submit((mount.mountpoint / name).read_bytes) for name in names]
        wait_until(lambda: mount.reads("one"), "no read arrived")
        mount.kill()
        mount.say("held")
        mount.start()
        assert [each.result(20) == CONTENT for each in waiting] == [True] * 3


def test_requests_that_nobody_has_read_yet_wait_for_the_successor(mount):
    mount.kill()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit((mount.mountpoint / "two").read_bytes)
        mount.start()
        assert waiting.result(20) == CONTENT


def test_open_files_and_mappings_go_on(mount, mapper):
    process = mapper("one")
    with (mount.mountpoint / "two").open("rb") as file:
        assert file.read(100) == CONTENT[:100]
        for _ in range(3):
            mount.kill()
            mount.start()
            drop_pages(file)
            file.seek(0)
            assert file.read() == CONTENT
        assert digest_of(process) == expected()


def test_a_cached_file_stays_cached_for_the_successor_until_the_kernel_has_let_go_of_it(mount):
    with (mount.mountpoint / "one").open("rb") as before:
        assert before.read(10) == CONTENT[:10]
        mount.kill()
        mount.say("whole", "one")
        mount.start()
        # Passing it through now would make this open fail with EIO.
        with (mount.mountpoint / "one").open("rb") as after:
            assert after.read() == CONTENT
    wait_until(lambda: _reads_nothing(mount, "one"), "the file is not passed through")


def test_a_file_that_is_passed_through_goes_on_without_and_with_a_successor(mount, mapper):
    mount.say("whole", "one")
    process = mapper("one")
    with (mount.mountpoint / "one").open("rb") as file:
        mount.kill()
        assert file.read() == CONTENT  # nobody serves
        assert is_open(mount.source / "one")
        mount.start()
        # Whoever opens it gets the backing file that the kernel has, whatever is whole here now.
        mount.say("whole")
        with (mount.mountpoint / "one").open("rb") as again:
            assert again.read() == CONTENT
        assert mount.reads("one") == []
    assert is_open(mount.source / "one")
    assert digest_of(process) == expected()
    wait_until(lambda: not is_open(mount.source / "one"), "the kernel keeps it")
    assert (mount.mountpoint / "one").read_bytes() == CONTENT
    assert mount.reads("one") != []


def test_a_server_that_leaves_finishes_what_it_has_and_another_goes_on(mount):
    mount.say("held", "one")
    with (mount.mountpoint / "two").open("rb") as file, ThreadPoolExecutor(2) as pool:
        file.read(10)
        waiting = pool.submit((mount.mountpoint / "one").read_bytes)
        wait_until(lambda: mount.reads("one"), "no read arrived")
        mount.server.terminate()
        time.sleep(0.2)  # noqa: TID251 - it must not have ended
        assert mount.server.poll() is None
        mount.say("held")
        mount.leave()
        mount.start()
        assert waiting.result(20) == CONTENT
        assert file.read() == CONTENT[10:]


@pytest.mark.slow
def test_many_kills_under_load_give_no_wrong_byte(mount):
    mount.say("whole", "two")
    stop = []

    def read(seed):
        rng = random.Random(seed)
        rounds = 0
        while not stop:
            name = rng.choice(("one", "two"))
            with (mount.mountpoint / name).open("rb", buffering=0) as file:
                drop_pages(file)
                for _ in range(5):
                    offset = rng.randrange(len(CONTENT))
                    length = rng.randrange(1, MIB)
                    assert os.pread(file.fileno(), length, offset) == CONTENT[offset:][:length]
            rounds += 1
        return rounds

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, seed) for seed in range(4)]
        try:
            for _ in range(10):
                time.sleep(0.1)  # noqa: TID251 - real readers
                mount.kill()
                mount.start()
        finally:
            stop.append(True)
        assert all(each.result(30) > 0 for each in readers)


# ---- interrupts and the end -------------------------------------------------------------------


class _Interrupted(Exception):  # noqa: N818 - raised by a signal
    pass


def test_a_signal_interrupts_a_read_past_the_page_cache_at_once(mount):
    def interrupt(*_):
        raise _Interrupted

    mount.say("held", "one")
    before = signal.signal(signal.SIGALRM, interrupt)
    descriptor = os.open(mount.mountpoint / "one", os.O_RDONLY | os.O_DIRECT)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        began = time.monotonic()  # noqa: TID251 - how long a program waits
        with mmap.mmap(-1, 4096) as buffer, pytest.raises(_Interrupted):
            os.preadv(descriptor, [buffer], 0)
        assert time.monotonic() - began < 2  # noqa: TID251 - likewise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        mount.say("held")
        os.close(descriptor)
    assert (mount.mountpoint / "one").read_bytes() == CONTENT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_program_that_waits_for_a_read_can_be_ended(mount, number):
    mount.say("held", "one")
    process = subprocess.Popen(["cat", str(mount.mountpoint / "one")], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: mount.reads("one"), "no read arrived")
        process.send_signal(number)
        assert process.wait(3) == -number
    finally:
        process.kill()
        process.wait()
        mount.say("held")
    assert (mount.mountpoint / "one").read_bytes() == CONTENT


def test_an_abort_gives_readers_an_error_and_ends_the_server(mount):
    mount.say("held", "one")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit((mount.mountpoint / "one").read_bytes)
        wait_until(lambda: mount.reads("one"), "no read arrived")
        entry = find_mount(mount.mountpoint)
        assert f"0:{system.connection_of(mount.device)}" == entry.device
        abort(entry)
        with pytest.raises(OSError) as caught:
            waiting.result(10)
        assert caught.value.errno in (errno.ECONNABORTED, errno.ENOTCONN, errno.EIO)
    mount.say("held")
    assert mount.server.wait(20) == 0
    with pytest.raises(OSError) as caught:
        (mount.mountpoint / "two").read_bytes()
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)


def test_unmounting_ends_the_server(mount):
    subprocess.run(["umount", str(mount.mountpoint)], check=True)
    # A mount namespace that was made meanwhile, by another test, has a copy of the mount.
    assert mount.server.wait(60) == 0
