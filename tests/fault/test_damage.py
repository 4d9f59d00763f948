"""Damaged cache files: wrong bytes are never served, and what is good survives."""

import contextlib
import os

import pytest

from cachefs.errors import CapacityError
from cachefs.testing.blocks import block_bytes, block_digest, make_file
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.storage.scrub import Scrubber

BLOCK = 4096
COUNT = 4


def flip(path):
    with path.open("r+b") as file:
        file.seek(BLOCK + 17)
        byte = file.read(1)
        file.seek(BLOCK + 17)
        file.write(bytes([byte[0] ^ 1]))


def zero(path):
    with path.open("r+b") as file:
        file.seek(BLOCK)
        file.write(bytes(BLOCK))


def truncate(path):
    os.truncate(path, 2 * BLOCK - 5)


def extend(path):
    with path.open("ab") as file:
        file.write(b"more" * BLOCK)


def empty(path):
    os.truncate(path, 0)


def swap(path):
    other = path.with_suffix(".swapped")
    other.write_bytes(bytes(COUNT * BLOCK))
    other.replace(path)


def swap_for_a_copy_with_a_flip(path):
    other = path.with_suffix(".swapped")
    other.write_bytes(path.read_bytes())
    flip(other)
    other.replace(path)


def delete(path):
    path.unlink()


def link_elsewhere(path):
    other = path.with_suffix(".elsewhere")
    path.rename(other)
    path.symlink_to(other)


def replace_by_a_folder(path):
    path.unlink()
    path.mkdir()


def replace_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def make_unreadable(path):
    path.chmod(0)


DAMAGES = {
    flip: {0, 2, 3},
    zero: {0, 2, 3},
    truncate: {0},
    extend: {0, 1, 2, 3},
    empty: set(),
    swap: set(),
    swap_for_a_copy_with_a_flip: set(),
    delete: set(),
    link_elsewhere: set(),
    replace_by_a_folder: set(),
    replace_by_a_pipe: set(),
    make_unreadable: {0, 1, 2, 3},
}
"""How a file is damaged, and which blocks survive at least."""

each_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


def check_only_right_bytes(bench, file, survivors):
    served = {}
    for index in range(COUNT):
        content = bench.read(file, index)
        assert content in (None, block_bytes(file, index, BLOCK))
        served[index] = content is not None
    assert {index for index, is_served in served.items() if is_served} >= survivors
    assert bench.tier().used_bytes + bench.tier().reserved_bytes <= bench.tier().capacity_bytes


def check_it_heals(bench, file):
    bench.fill(
        file,
        *(index for index in range(COUNT) if not bench.store.holds(file.entry.file_version, index)),
    )
    for index in range(COUNT):
        assert bench.read(file, index) == block_bytes(file, index, BLOCK)
    assert bench.data_path(file).stat().st_size == file.entry.size
    assert bench.tier().used_bytes == COUNT * BLOCK
    assert bench.allocated() == COUNT * BLOCK


@pytest.fixture
def file(bench):
    bench.open(8)
    file = make_file("a", COUNT * BLOCK - 100)
    bench.fill(file, *range(COUNT))
    return file


@each_damage
def test_damage_while_the_worker_runs(bench, file, damage):
    assert bench.read(file, 0) is not None
    damage(bench.data_path(file))
    check_only_right_bytes(bench, file, DAMAGES[damage])
    check_it_heals(bench, file)


@each_damage
def test_damage_while_the_worker_is_down(bench, file, damage):
    bench.kill()
    damage(bench.data_path(file))
    bench.restart()
    check_only_right_bytes(bench, file, DAMAGES[damage])
    check_it_heals(bench, file)


@each_damage
def test_damage_is_remembered_when_the_worker_fills_on_and_is_killed(bench, file, damage):
    bench.store.evict([file.entry.file_version])
    bench.fill(file, 0, 1, 2)
    bench.kill()
    damage(bench.data_path(file))
    bench.restart()
    bench.fill(file, 3)
    bench.kill()
    bench.restart()
    check_only_right_bytes(bench, file, set())
    check_it_heals(bench, file)


@each_damage
def test_damage_to_a_file_that_is_lent_out(bench, file, damage):
    lease = bench.store.lease(file)
    before = lease.stamp()
    damage(bench.data_path(file))
    assert lease.file.stamp() != before
    stamp = lease.stamp()
    digests = lease.digests()
    assert stamp == lease.file.stamp()
    into = memoryview(bytearray(BLOCK))
    for index, digest in enumerate(digests):
        if digest is not None:
            assert digest == block_digest(file, index, BLOCK)
            right = block_bytes(file, index, BLOCK)
            assert lease.file.pread_into(into, index * BLOCK) >= len(right)
            assert bytes(into[: len(right)]) == right
    lease.release()
    check_only_right_bytes(bench, file, set())
    check_it_heals(bench, file)


@each_damage
def test_damage_is_found_although_the_file_is_dropped_next(bench, file, damage):
    lease = bench.store.lease(file)
    lease.stamp()
    damage(bench.data_path(file))
    bench.store.drop([file.entry.file_version])
    lease.stamp()
    into = memoryview(bytearray(BLOCK))
    for index, digest in enumerate(lease.digests()):
        if digest is not None:
            right = block_bytes(file, index, BLOCK)
            lease.file.pread_into(into, index * BLOCK)
            assert bytes(into[: len(right)]) == right
    lease.release()
    assert bench.tier().used_bytes == 0


@each_damage
def test_damage_is_found_before_more_is_written(bench, file, damage):
    bench.store.evict([file.entry.file_version])
    bench.fill(file, 0, 1, 2)
    damage(bench.data_path(file))
    # Either it is written into the file as it was put right, or the file is given up.
    with contextlib.suppress(CapacityError):
        bench.fill(file, 3)
    check_only_right_bytes(bench, file, set())
    check_it_heals(bench, file)


@pytest.mark.parametrize("damage", [flip, zero])
def test_the_scrubber_finds_what_no_stamp_shows(bench, file, damage):
    damage(bench.data_path(file))
    cached = bench.store._tiers[0].books.files[file.entry.file_version]
    cached.stamp = cached.handle.stamp()  # as if the medium had changed below the file system
    told = []
    scrubber = Scrubber(
        ThreadRuntime(), bench.store, period_seconds=0.01, bytes_rate=1e9, refill=told.append
    )
    for _ in range(500):
        if scrubber.statistics().rounds >= 2:
            break
        scrubber._runtime.sleep(0.01)
    scrubber.close()
    assert [block.index for block in told] == [1]
    assert scrubber.statistics().bad_blocks == 1
    assert bench.resident(file) == [0, 2, 3]
    assert bench.tier().corrupt_blocks == 1
