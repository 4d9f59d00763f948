"""Whoever has a cache file open: under them nothing is punched, cut short or written over.

Here the stranger is a mapping whose descriptor is closed, made behind the store's back: no lease
tells of it. That the same holds across processes is shown in
``tests/integration/workers/test_openers.py``.
"""

import errno
import mmap
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from cachefs.errors import CapacityError
from cachefs.testing.blocks import block_bytes, make_file
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.storage.disk import OsDiskFile

BLOCK = 4096
LOOK_SECONDS = 0.05


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch):
    monkeypatch.setattr("cachefs.workers.storage.users.LOOK_SECONDS", LOOK_SECONDS)


@pytest.fixture
def nobody_can_tell(monkeypatch):
    """A file system without leases of the kernel's."""
    monkeypatch.setattr(OsDiskFile, "shared", lambda _: None)


@contextmanager
def mapped(path):
    """A mapping of a whole file by somebody who has closed it."""
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with mapping:
        yield mapping


def shows(mapping, file, index):
    return mapping[index * BLOCK : (index + 1) * BLOCK] == block_bytes(file, index, BLOCK)


def let_the_clock_tick():
    """Wait until a change by somebody else shows in the stamp, on older kernels too."""
    ThreadRuntime().sleep(0.02)


def look_again(bench):
    """Let the store look whether strangers have left, as its owner does now and then."""
    ThreadRuntime().sleep(2 * LOOK_SECONDS)
    bench.store.expire(0.0)


def test_a_file_that_is_mapped_is_passed_over_in_favour_of_others(bench):
    bench.open(4)
    file, others = make_file("a", 2 * BLOCK), [make_file(name, BLOCK) for name in "bc"]
    bench.fill(file, 0, 1)
    for other in others:
        bench.fill(other, 0)
    with mapped(bench.data_path(file)) as mapping:
        bench.fill(make_file("new", BLOCK), 0)
        assert bench.resident(file) == [0, 1], "the coldest, but somebody has it before their eyes"
        assert [bench.resident(other) for other in others] == [[], []]
        assert shows(mapping, file, 0)
        assert shows(mapping, file, 1)
    assert bench.tier().used_bytes == 3 * BLOCK == bench.allocated()


def test_when_all_is_mapped_there_is_no_room_until_it_is_left(bench):
    store = bench.open(2)
    file, other = make_file("a", 2 * BLOCK), make_file("b", BLOCK)
    bench.fill(file, 0, 1)
    with mapped(bench.data_path(file)) as mapping:
        with pytest.raises(CapacityError):
            store.reserve(other, 0)
        assert bench.resident(file) == [0, 1]
        assert shows(mapping, file, 0)
        assert shows(mapping, file, 1)
    ThreadRuntime().sleep(2 * LOOK_SECONDS)
    bench.fill(other, 0)
    assert bench.resident(other) == [0]


def test_what_is_mapped_cannot_be_evicted_by_name_nor_expire(bench):
    store = bench.open(4)
    file = make_file("a", 2 * BLOCK)
    name = file.entry.file_version
    bench.fill(file, 0, 1)
    store.set_pins([], {name: 1.0})
    with mapped(bench.data_path(file)) as mapping:
        assert store.evict([name]) == (0, (name,))
        ThreadRuntime().sleep(2 * LOOK_SECONDS)
        assert store.expire(1e12) == 0
        assert bench.resident(file) == [0, 1]
        assert shows(mapping, file, 1)
    assert store.evict([name]) == (2 * BLOCK, ()), "who asks by name gets an answer of this moment"


def test_a_dropped_file_takes_room_until_its_last_mapping_is_gone(bench):
    store = bench.open(4)
    file = make_file("a", 2 * BLOCK)
    bench.fill(file, 0, 1)
    with mapped(bench.data_path(file)) as mapping:
        store.drop([file.entry.file_version])
        assert not bench.data_path(file).exists()
        look_again(bench)
        assert bench.tier().used_bytes == 2 * BLOCK
        assert shows(mapping, file, 0)
        assert shows(mapping, file, 1)
    look_again(bench)
    assert bench.tier().used_bytes == 0


def test_a_bad_block_is_mended_under_a_mapping_and_not_cut_out(bench):
    bench.open(4)
    file = make_file("a", 2 * BLOCK)
    bench.fill(file, 0, 1)
    with mapped(bench.data_path(file)) as mapping:
        let_the_clock_tick()
        with bench.data_path(file).open("r+b") as damaging:
            damaging.write(b"rot")
        assert bench.read(file, 0) is None
        assert mapping[3:BLOCK] == block_bytes(file, 0, BLOCK)[3:], "no hole took its place"
        bench.fill(file, 0)
        assert shows(mapping, file, 0)
        assert shows(mapping, file, 1)
        assert bench.resident(file) == [0, 1]
        assert bench.tier().used_bytes == 2 * BLOCK


def test_a_block_whose_record_was_lost_is_kept_for_who_was_promised_it(bench):
    bench.open(4)
    file = make_file("a", 3 * BLOCK)
    journal = bench.tiers[0].folder / "journal"
    bench.fill(file, 0)
    size = journal.stat().st_size
    bench.fill(file, 1)
    with mapped(bench.data_path(file)) as mapping:
        bench.kill()
        os.truncate(journal, size)
        bench.restart()
        assert bench.resident(file) == [0]
        assert shows(mapping, file, 1)
        assert bench.tier().used_bytes == 2 * BLOCK, "it takes room all the same"
    look_again(bench)
    assert bench.tier().used_bytes == BLOCK == bench.allocated()
    assert bench.read(file, 0) == block_bytes(file, 0, BLOCK)


@pytest.mark.parametrize("length", [BLOCK, 5 * BLOCK])
def test_a_file_of_a_wrong_length_is_replaced_and_not_put_right_under_a_mapping(bench, length):
    bench.open(8)
    file = make_file("a", 3 * BLOCK)
    bench.fill(file, 0, 1)
    with bench.data_path(file).open("rb") as stranger:
        let_the_clock_tick()
        os.truncate(bench.data_path(file), length)
        assert bench.read(file, 0) in (None, block_bytes(file, 0, BLOCK))
        assert bench.resident(file) == []
        bench.fill(file, 0, 1)
        status = os.fstat(stranger.fileno())
        assert (status.st_size, status.st_nlink) == (length, 0)
        assert stranger.read(BLOCK) == block_bytes(file, 0, BLOCK)
    assert [bench.read(file, index) for index in (0, 1)] == [
        block_bytes(file, index, BLOCK) for index in (0, 1)
    ]


def test_a_restarted_worker_knows_no_lease_and_leaves_what_is_mapped_alone(bench):
    store = bench.open(4)
    file = make_file("a", 3 * BLOCK)
    bench.fill(file, 0, 1, 2)
    store.lease(file)
    with mapped(bench.data_path(file)) as mapping:
        bench.kill()
        bench.restart()
        for name in "bcd":
            bench.fill(make_file(name, BLOCK), 0)
        assert bench.resident(file) == [0, 1, 2]
        assert all(shows(mapping, file, index) for index in range(3))


def test_a_write_that_fails_leaves_no_hole_under_a_mapping(bench, failing_disk):
    bench.open_disk = failing_disk
    bench.open(4)
    file = make_file("a", 2 * BLOCK)
    bench.fill(file, 0)
    disk = bench.disks[0]
    with mapped(bench.data_path(file)) as mapping:
        disk.fault, disk.part_written = errno.EIO, BLOCK // 2
        with pytest.raises(CapacityError):
            bench.fill(file, 1)
        disk.fault = None
        assert mapping[BLOCK : BLOCK + BLOCK // 2] == block_bytes(file, 1, BLOCK)[: BLOCK // 2]
        assert bench.resident(file) == [0]
        assert bench.tier().used_bytes == 2 * BLOCK
        assert bench.tier().reserved_bytes == 0
    bench.read(file, 0)
    look_again(bench)
    bench.fill(file, 1)
    assert bench.read(file, 1) == block_bytes(file, 1, BLOCK)
    assert bench.tier().used_bytes == 2 * BLOCK == bench.allocated()


def test_what_had_the_name_of_a_new_file_is_unlinked_and_not_emptied(bench):
    bench.open(4)
    file = make_file("a", BLOCK)
    bench.data_path(file).write_bytes(b"of somebody" * 100)
    with bench.data_path(file).open("rb") as stranger:
        bench.fill(file, 0)
        assert stranger.read() == b"of somebody" * 100
    assert bench.read(file, 0) == block_bytes(file, 0, BLOCK)


@pytest.mark.usefixtures("nobody_can_tell")
def test_where_nobody_can_tell_a_file_that_was_lent_goes_whole(bench):
    store = bench.open(4)
    lent, other = make_file("lent", 4 * BLOCK), make_file("other", BLOCK)
    bench.fill(lent, 0, 1, 2, 3)
    store.lease(lent).release()
    with mapped(bench.data_path(lent)) as mapping:
        bench.fill(other, 0)
        assert bench.resident(lent) == [], "one block had to go, and the others with it"
        assert all(shows(mapping, lent, index) for index in range(4))
    assert bench.tier().used_bytes == BLOCK == bench.allocated()


@pytest.mark.usefixtures("nobody_can_tell")
def test_where_nobody_can_tell_a_file_that_was_never_lent_loses_only_what_must_go(bench):
    bench.open(4)
    file = make_file("a", 4 * BLOCK)
    bench.fill(file, 0, 1, 2, 3)
    bench.fill(make_file("other", BLOCK), 0)
    assert bench.resident(file) == [2, 3]


@pytest.mark.usefixtures("nobody_can_tell")
def test_where_nobody_can_tell_a_file_of_an_earlier_worker_goes_whole(bench):
    bench.open(4)
    file = make_file("a", 4 * BLOCK)
    bench.fill(file, 0, 1, 2, 3)
    with mapped(bench.data_path(file)) as mapping:
        bench.kill()
        bench.restart()
        bench.fill(make_file("other", BLOCK), 0)
        assert bench.resident(file) == []
        assert all(shows(mapping, file, index) for index in range(4))


ASKS = 5000
ASK_AGAIN_AND_AGAIN = """
import os, sys
from cachefs.workers.storage.disk import OsDiskFile
file = OsDiskFile(os.open(sys.argv[1], os.O_RDWR))
answers = [file.shared() for _ in range(int(sys.argv[2]))]
print(answers.count(False), answers.count(True))
"""


def test_who_opens_the_file_while_the_kernel_is_asked_does_not_end_the_worker(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(BLOCK))
    asking = subprocess.Popen(
        [sys.executable, "-c", ASK_AGAIN_AND_AGAIN, str(path), str(ASKS)],
        stdout=subprocess.PIPE,
        text=True,
    )
    while asking.poll() is None:
        os.close(os.open(path, os.O_RDONLY))
    alone, shared = map(int, asking.communicate()[0].split())
    assert asking.returncode == 0
    assert alone + shared == ASKS
    assert alone
    assert shared
