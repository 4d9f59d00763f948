"""A file version that moves from memory to disk: what it must not lose, and when it must stay."""

import threading

import pytest

from cachefs.testing.blocks import block_bytes, make_file
from cachefs.workers.storage.demoting import Demoter
from tests.fault.test_openers import mapped, nobody_can_tell

__all__ = ["nobody_can_tell"]
BLOCK = 4096


@pytest.fixture
def file(bench):
    bench.open(8, 16)
    made = make_file("a", 4 * BLOCK - 100)
    bench.fill(made, 0, 1, 3)
    assert bench.store.inspect(made.entry.file_version).medium == "memory"
    return made


def medium(bench, file):
    found = bench.store.inspect(file.entry.file_version)
    return found.medium if found else None


def demote(bench, file):
    return bench.store.demote([file.entry.file_version])


def test_a_demoted_file_is_on_disk_with_all_its_blocks_and_its_room_in_memory_is_free(bench, file):
    size = 3 * BLOCK - 100
    assert demote(bench, file) == (size, ())
    assert medium(bench, file) == "disk"
    assert bench.resident(file) == [0, 1, 3]
    for index in (0, 1, 3):
        assert bench.read(file, index) == block_bytes(file, index, BLOCK)
    assert (bench.tier(0).used_bytes, bench.tier(1).used_bytes) == (0, 3 * BLOCK)
    assert not bench.data_path(file).exists()
    assert demote(bench, file) == (0, ()), "there is nothing left to do"


def test_both_changes_are_reported(bench, file):
    bench.store.residency_changes()
    demote(bench, file)
    changes = {each.medium: each.resident for each in bench.store.residency_changes()}
    assert changes == {"memory": 0, "disk": 0b1011}


def test_a_demoted_file_outlives_a_reboot(bench, file):
    demote(bench, file)
    bench.store.close()
    bench.boot_id = "boot-2"
    bench.restart()
    assert bench.read(file, 3) == block_bytes(file, 3, BLOCK)


def test_what_is_pinned_lent_out_or_read_stays_in_memory(bench, file):
    name = file.entry.file_version
    bench.store.set_pins([name], {})
    assert demote(bench, file) == (0, (name,))
    bench.store.set_pins([], {})
    lease = bench.store.lease(file)
    assert demote(bench, file) == (0, (name,))
    lease.release()
    with bench.store.find(file, 0):
        assert demote(bench, file) == (0, (name,))
    assert medium(bench, file) == "memory"
    assert bench.resident(file) == [0, 1, 3]


def test_a_file_that_is_lent_out_while_it_is_copied_stays_in_memory(bench, file, monkeypatch):
    copied, leases = Demoter._copied, []

    def copy_and_lend(*arguments):
        leases.append(bench.store.lease(file))
        return copied(*arguments)

    monkeypatch.setattr(Demoter, "_copied", copy_and_lend)
    assert demote(bench, file)[0] == 0
    assert medium(bench, file) == "memory"
    assert leases[0].is_current
    leases[0].release()
    assert bench.tier(1).used_bytes == 0, "the copy is gone"


def test_what_somebody_has_mapped_stays_in_memory(bench, file):
    with mapped(bench.data_path(file)) as mapping:
        assert demote(bench, file)[0] == 0
        assert mapping[:BLOCK] == block_bytes(file, 0, BLOCK)
    assert medium(bench, file) == "memory"


@pytest.mark.usefixtures("nobody_can_tell")
def test_where_nobody_can_tell_who_has_it_open_it_stays_if_it_was_ever_lent(bench, file):
    bench.store.lease(file).release()
    assert demote(bench, file)[0] == 0
    assert medium(bench, file) == "memory"


def test_a_disk_without_room_takes_nothing_and_loses_nothing(bench):
    bench.open(8, 2)
    file = make_file("a", 3 * BLOCK)
    bench.fill(file, 0, 1, 2)
    assert demote(bench, file) == (0, (file.entry.file_version,))
    assert (medium(bench, file), bench.resident(file)) == ("memory", [0, 1, 2])


def test_a_disk_that_fails_leaves_the_file_in_memory(bench, failing_disk):
    bench.open_disk = failing_disk
    bench.open(8, 16)
    file = make_file("a", 2 * BLOCK)
    bench.fill(file, 0, 1)
    bench.disks[1].fault = 5
    assert demote(bench, file)[0] == 0
    bench.disks[1].fault = None
    assert medium(bench, file) == "memory"
    assert bench.read(file, 1) == block_bytes(file, 1, BLOCK)
    assert bench.tier(1).reserved_bytes == 0
    assert demote(bench, file) == (2 * BLOCK, ())


def test_a_damaged_block_is_not_carried_over(bench, file):
    with bench.data_path(file).open("r+b") as data:
        data.write(b"damage")
    assert demote(bench, file)[0] == 0
    assert bench.read(file, 3) == block_bytes(file, 3, BLOCK)
    assert bench.read(file, 0) in (None, block_bytes(file, 0, BLOCK))


def test_reads_fills_and_demotions_at_once_give_the_right_bytes_and_lose_no_room(bench):
    bench.open(32, 64)
    files = [make_file(name, 3 * BLOCK) for name in "abcd"]
    wrong, end = [], threading.Event()

    def read_and_fill(file):
        while not end.is_set():
            for index in range(3):
                got = bench.read(file, index)
                if got is None:
                    bench.fill(file, index)
                elif got != block_bytes(file, index, BLOCK):
                    wrong.append((file, index))

    threads = [threading.Thread(target=read_and_fill, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for round_ in range(60):
        file = files[round_ % 4]
        demote(bench, file)
        if round_ % 3 == 0:
            bench.store.evict([file.entry.file_version])
    end.set()
    for thread in threads:
        thread.join(20.0)
    assert wrong == []
    for file in files:
        demote(bench, file)
    assert [bench.tier(n).used_bytes for n in (0, 1)] == [bench.allocated(n) for n in (0, 1)]
    assert [bench.tier(n).reserved_bytes for n in (0, 1)] == [0, 0]
