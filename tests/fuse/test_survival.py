"""The processes of a mount die, freeze and are replaced, under programs that read it all the while."""

import errno
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from cachefs.fuse.mounts.table import find_mount
from tests.fuse.mounting import FILES, LARGE, MIB
from tests.integration.systems import RUNTIME, wait_for

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

LOST = (errno.ENOTCONN, errno.ECONNABORTED)


class Programs:
    """Threads that read a mounted file by ``pread`` and by mapping, as other programs do.

    They open and close it, drop what the kernel has cached, and compare every byte. Calls of the
    kernel let the interpreter run, and so do page faults of a mapping that is copied by ``write``.
    """

    def __init__(self, place: Path, name: str = LARGE, count: int = 3) -> None:
        self._path = place / name
        self._content = FILES[name]
        self.wrong: list[object] = []
        self.errors: list[OSError] = []
        self.reads = 0
        self.slowest = 0.0
        self._stopped = threading.Event()
        kinds = [self._pread, self._copy_mapping]
        self._threads = [
            threading.Thread(target=kinds[n % 2], args=(random.Random(n),)) for n in range(count)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads), "a read hangs"

    def _pread(self, draw: random.Random) -> None:
        file = os.open(self._path, os.O_RDONLY)
        while not self._stopped.is_set():
            if draw.random() < 0.2:
                os.close(file)
                file = os.open(self._path, os.O_RDONLY)
            if draw.random() < 0.3:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            offset, length = draw.randrange(len(self._content)), draw.randrange(1, MIB)
            self._check(offset, partial(os.pread, file, length, offset))
        os.close(file)

    def _copy_mapping(self, draw: random.Random) -> None:
        # The kernel copies from the mapping, and so waits for its pages without our interpreter.
        sink = os.memfd_create("sink")
        with self._path.open("rb") as file:
            view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        with view, memoryview(view) as whole:
            while not self._stopped.is_set():
                if draw.random() < 0.3:
                    view.madvise(mmap.MADV_DONTNEED)
                offset = draw.randrange(len(self._content))
                part = whole[offset : offset + draw.randrange(1, MIB)]
                with part:
                    self._check(offset, partial(_through, sink, part))
        os.close(sink)

    def _check(self, offset: int, read) -> None:
        began = RUNTIME.monotonic()
        try:
            got = read()
        except OSError as error:
            self.errors.append(error)
            RUNTIME.sleep(0.01)
        else:
            if got != self._content[offset : offset + len(got)]:
                self.wrong.append((offset, len(got)))
        self.reads += 1
        self.slowest = max(self.slowest, RUNTIME.monotonic() - began)

    def wait_for_more(self, count: int = 10) -> None:
        before = self.reads
        wait_for(lambda: self.reads >= before + count, what="nobody reads any more")

    def check(self) -> None:
        assert self.wrong == []
        assert self.errors == []
        assert self.reads > 0


def _through(sink: int, part: memoryview) -> bytes:
    count = os.pwrite(sink, part, 0)
    return os.pread(sink, count, 0)


@contextmanager
def program(*words: object):
    """Run a reader in a process of its own; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            yield process
            process.kill()
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


READS_ON_DEMAND = """
import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
for line in sys.stdin:
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        print(len(os.pread(file, 1000, int(line))), "read", flush=True)
    except OSError as error:
        print(error.errno, "error", flush=True)
"""


def never_passed_through(mounts):
    """Have every byte go through the serving process, even of files that are whole on this node."""
    mounts.set(reader__local="false")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("local", [False, True], ids=["served", "passed through"])
def test_readers_do_not_notice_that_the_serving_process_is_killed(mounts, request, local):
    kills = request.config.getoption("--kills") // 2
    mounts.set(mount__restarts_limit=str(kills + 10))
    if not local:
        never_passed_through(mounts)
    place = mounts.mount("model")
    draw = random.Random(kills)
    with Programs(place) as programs:
        for _ in range(kills):
            record = mounts.record(place)
            os.kill(record.server.pid, signal.SIGKILL)
            mounts.wait_for_restart(place, record.restarts)
            RUNTIME.sleep(draw.uniform(0, 0.05))
        programs.wait_for_more()
    programs.check()
    assert mounts.record(place).restarts == kills
    assert (place / LARGE).read_bytes() == FILES[LARGE]
    mounts.cachefs("umount", place)
    assert mounts.processes() == []


def test_an_upgrade_under_load_is_not_noticed(mounts):
    place = mounts.mount("model")
    with Programs(place) as programs:
        for restarts in range(3):
            before = mounts.record(place)
            os.kill(before.keeper.pid, signal.SIGHUP)
            after = mounts.wait_for_restart(place, restarts)
            assert after.server != before.server
            assert after.keeper == before.keeper
            wait_for(lambda before=before: not before.server.alive)
            programs.wait_for_more()
    programs.check()
    assert len(mounts.processes()) == 2


def test_an_upgrade_that_cannot_start_leaves_the_mount_as_it_is(mounts):
    place = mounts.mount("model")
    before = mounts.record(place)
    ((folder, _),) = mounts.run_folders.all()
    plan = folder.plan.read_text()
    folder.plan.write_text("not a plan")
    with Programs(place) as programs:
        os.kill(before.keeper.pid, signal.SIGHUP)
        wait_for(lambda: "could not take over" in mounts.logs())
        programs.wait_for_more()
    programs.check()
    assert mounts.record(place) == before
    folder.plan.write_text(plan)
    os.kill(before.keeper.pid, signal.SIGHUP)
    mounts.wait_for_restart(place, 0)


def test_without_its_keeper_a_mount_serves_on_and_ends_with_the_mount(mounts):
    place = mounts.mount("model")
    record = mounts.record(place)
    with Programs(place) as programs:
        os.kill(record.keeper.pid, signal.SIGKILL)
        wait_for(lambda: not record.keeper.alive)
        programs.wait_for_more()
        assert [each["state"] for each in mounts.listed()] == ["orphan"]
    programs.check()
    mounts.cachefs("umount", place)
    assert mounts.processes() == []
    assert list(mounts.run_folders.all()) == []


def test_a_frozen_serving_process_is_replaced_and_its_readers_go_on(mounts):
    mounts.set(mount__watchdog_seconds="1s")
    place = mounts.mount("model")
    record = mounts.record(place)
    with Programs(place) as programs:
        os.kill(record.server.pid, signal.SIGSTOP)
        mounts.wait_for_restart(place, 0)
        programs.wait_for_more()
    programs.check()
    assert "frozen" in mounts.logs()


def test_a_keeper_and_a_server_that_were_stopped_together_go_on_together(mounts):
    mounts.set(mount__watchdog_seconds="2s")
    place = mounts.mount("model")
    record = mounts.record(place)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in record.processes:
            os.kill(process.pid, number)
        RUNTIME.sleep(3.0)
    assert mounts.record(place) == record, mounts.logs()
    assert (place / LARGE).read_bytes() == FILES[LARGE]


def test_a_server_that_cannot_start_again_gives_readers_an_error_and_no_wait(mounts):
    mounts.set(reader__deadline_seconds="2s")
    never_passed_through(mounts)
    place = mounts.mount("model")
    record = mounts.record(place)
    ((folder, _),) = mounts.run_folders.all()
    with program(READS_ON_DEMAND, place / LARGE) as reader:
        assert reader.stdout.readline() == "open\n"
        folder.plan.write_text("not a plan")
        began = RUNTIME.monotonic()
        os.kill(record.server.pid, signal.SIGKILL)
        reader.stdin.write("2000000\n")
        reader.stdin.flush()
        number, word = reader.stdout.readline().split()
        assert word == "error"
        assert int(number) in LOST
        assert RUNTIME.monotonic() - began < 10
    with pytest.raises(OSError) as caught:
        os.statvfs(place)
    assert caught.value.errno in LOST
    (found,) = mounts.listed()
    assert found["state"] == "dead"
    assert "nobody served for 2 s" in found["failure"]
    mounts.cachefs("umount", place)
    assert find_mount(place) is None
    assert list(mounts.run_folders.all()) == []


def test_a_server_that_dies_again_and_again_is_given_up(mounts):
    mounts.set(mount__restarts_limit="4")
    place = mounts.mount("model")
    for _ in range(4):
        record = mounts.record(place)
        os.kill(record.server.pid, signal.SIGKILL)
        wait_for(lambda record=record: mounts.record(place).server != record.server)
    record = mounts.record(place)
    assert "4 serving processes within a minute" in record.failure
    wait_for(lambda: mounts.processes() == [])
    with pytest.raises(OSError) as caught:
        os.statvfs(place)
    assert caught.value.errno in LOST


def test_without_recovery_readers_get_an_error_at_once_and_one_can_mount_again(mounts):
    place = mounts.mount("model", "--no-recovery")
    record = mounts.record(place)
    assert not record.recovery
    file = os.open(place / LARGE, os.O_RDONLY)
    os.kill(record.server.pid, signal.SIGKILL)
    wait_for(lambda: not record.server.alive)
    began = RUNTIME.monotonic()
    with pytest.raises(OSError) as caught:
        os.statvfs(place)
    assert caught.value.errno in LOST
    assert RUNTIME.monotonic() - began < 1
    with suppress(OSError):
        os.close(file)
    wait_for(lambda: mounts.processes() == [])
    (found,) = mounts.listed()
    assert found["state"] == "dead"
    assert "SIGKILL" in found["failure"]
    mounts.mount("model")
    assert (place / LARGE).read_bytes() == FILES[LARGE]
    assert [each["state"] for each in mounts.listed()] == ["live"]


def test_a_reader_of_frozen_workers_can_be_killed_before_its_deadline(own_system, own_mounts):
    own_mounts.set(reader__deadline_seconds="60s")
    place = own_mounts.mount("model")
    for worker in ("worker-1", "worker-2"):
        own_system.send(worker, signal.SIGSTOP)
    with program(READS_ON_DEMAND, place / LARGE) as reader:
        assert reader.stdout.readline() == "open\n"
        reader.stdin.write("2000000\n")
        reader.stdin.flush()
        RUNTIME.sleep(0.5)
        assert reader.poll() is None
        reader.kill()
        reader.wait(5)


def test_a_successor_serves_while_nothing_of_the_system_runs_but_workers(own_system, own_mounts):
    place = own_mounts.mount("model")
    assert (place / LARGE).read_bytes() == FILES[LARGE]
    own_system.kill("coordinator")
    record = own_mounts.record(place)
    os.kill(record.server.pid, signal.SIGKILL)
    own_mounts.wait_for_restart(place, 0)
    names = {path.name for path in place.iterdir()}
    assert names == {name.split("/")[0] for name in FILES}
    for name, data in FILES.items():
        assert (place / name).read_bytes() == data
