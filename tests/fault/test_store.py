"""The store at its limits: full tiers, leases, pins, failing disks, many threads."""

import errno
import os
import threading

import pytest

from cachefs.errors import CapacityError, ConfigError, InvariantError
from cachefs.testing.blocks import block_bytes, block_digest, fill_block, make_file, read_block
from cachefs.workers.storage.disk import OsDisk

BLOCK = 4096


def test_a_block_that_was_filled_is_served(bench):
    bench.open(8)
    file = make_file("a", 3 * BLOCK - 100)
    bench.fill(file, 0, 2)
    assert bench.read(file, 0) == block_bytes(file, 0, BLOCK)
    assert bench.read(file, 1) is None
    assert bench.read(file, 2) == block_bytes(file, 2, BLOCK)
    assert bench.resident(file) == [0, 2]
    assert (bench.store.statistics().hits, bench.store.statistics().misses) == (2, 1)


def test_a_block_that_is_filled_twice_is_counted_once(bench):
    bench.open(8)
    file = make_file("a", BLOCK)
    bench.fill(file, 0, 0)
    assert bench.tier().used_bytes == BLOCK
    assert bench.tier().reserved_bytes == 0


def test_a_reservation_that_is_not_used_gives_its_room_back_and_leaves_no_file(bench):
    store = bench.open(1)
    file = make_file("a", BLOCK)
    with store.reserve(file, 0):
        assert bench.tier().reserved_bytes == BLOCK
        with pytest.raises(CapacityError):
            store.reserve(make_file("b", BLOCK), 0)
    assert bench.tier().reserved_bytes == 0
    assert not bench.data_path(file).exists()
    assert store.residency() == []


def test_a_reservation_is_used_once_with_a_whole_block(bench):
    store = bench.open(4)
    file = make_file("a", BLOCK)
    with store.reserve(file, 0) as reservation:
        with pytest.raises(InvariantError):
            reservation.commit(memoryview(b"short"), b"d" * 16)
        reservation.commit(memoryview(block_bytes(file, 0, BLOCK)), block_digest(file, 0, BLOCK))
        with pytest.raises(InvariantError):
            reservation.commit(memoryview(bytes(BLOCK)), b"d" * 16)


def test_a_full_tier_evicts_what_was_unread_longest_down_to_the_low_mark(bench):
    bench.open(8)
    file = make_file("a", 8 * BLOCK)
    bench.fill(file, *range(8))
    bench.read(file, 0)
    other = make_file("b", BLOCK)
    bench.fill(other, 0)
    assert bench.resident(file) == [0, 4, 5, 6, 7]
    assert bench.resident(other) == [0]
    assert bench.tier().used_bytes == 6 * BLOCK == bench.allocated()
    assert bench.tier().evictions == 3


def test_a_file_whose_last_block_went_has_no_data_file(bench):
    bench.open(4)
    file = make_file("a", BLOCK)
    bench.fill(file, 0)
    freed, refused = bench.store.evict([file.entry.file_version])
    assert (freed, refused) == (BLOCK, ())
    assert not bench.data_path(file).exists()
    assert bench.tier().used_bytes == 0


def test_blocks_of_a_leased_file_are_never_punched_out(bench):
    store = bench.open(4)
    file = make_file("a", 4 * BLOCK)
    bench.fill(file, 0, 1, 2, 3)
    lease = store.lease(file)
    stamp = lease.stamp()
    with pytest.raises(CapacityError):
        store.reserve(make_file("b", BLOCK), 0)
    assert store.evict([file.entry.file_version]) == (0, (file.entry.file_version,))
    store.expire(1e12)
    assert lease.stamp() == stamp == lease.file.stamp()
    lease.release()
    lease.release()
    bench.fill(make_file("b", BLOCK), 0)


def test_pinned_blocks_are_not_evicted_and_held_ones_neither(bench):
    store = bench.open(2)
    pinned, held = make_file("pinned", BLOCK), make_file("held", BLOCK)
    bench.fill(pinned, 0)
    bench.fill(held, 0)
    store.set_pins([pinned.entry.file_version], {})
    with store.find(held, 0) as block:
        with pytest.raises(CapacityError):
            store.reserve(make_file("c", BLOCK), 0)
        assert block.medium == "disk"
    bench.fill(make_file("c", BLOCK), 0)
    assert bench.resident(pinned) == [0]
    assert bench.resident(held) == []
    assert store.evict([pinned.entry.file_version])[1] == (pinned.entry.file_version,)


def test_nothing_is_evicted_for_a_block_that_does_not_fit_anyway(bench):
    store = bench.open(4)
    pinned, free = make_file("pinned", 3 * BLOCK), make_file("free", BLOCK)
    bench.fill(pinned, 0, 1, 2)
    bench.fill(free, 0)
    store.set_pins([pinned.entry.file_version, free.entry.file_version], {})
    with pytest.raises(CapacityError):
        store.reserve(make_file("c", BLOCK), 0)
    assert bench.tier().evictions == 0


def test_blocks_unread_for_their_time_to_live_go(bench):
    store = bench.open(8)
    mortal, other = make_file("mortal", 2 * BLOCK), make_file("other", BLOCK)
    bench.fill(mortal, 0, 1)
    bench.fill(other, 0)
    store.set_pins([], {mortal.entry.file_version: 60.0})
    now = store._runtime.monotonic()
    assert store.expire(now) == 0
    assert store.expire(now + 61.0) == 2
    assert bench.resident(mortal) == []
    assert bench.resident(other) == [0]


def test_a_file_goes_to_the_fastest_tier_that_takes_it_whole(bench):
    bench.open(4, 100)
    small, big = make_file("small", 3 * BLOCK), make_file("big", 8 * BLOCK)
    bench.fill(small, 0)
    bench.fill(big, 0)
    assert bench.data_path(small, 0).exists()
    assert bench.data_path(big, 1).exists()


def test_memory_is_not_evicted_while_the_disk_has_room(bench):
    bench.open(4, 100)
    hot = make_file("hot", 4 * BLOCK)
    bench.fill(hot, 0, 1, 2, 3)
    for number in range(10):
        bench.fill(make_file(f"f{number}", BLOCK), 0)
    assert bench.tier(0).evictions == 0
    assert bench.tier(1).blocks == 10


def test_when_all_tiers_are_full_the_one_with_the_coldest_block_gives_way(bench):
    bench.open(2, 2)
    memory = [make_file(f"m{number}", BLOCK) for number in range(2)]
    disk = [make_file(f"d{number}", BLOCK) for number in range(2)]
    for file in (*memory, *disk):
        bench.fill(file, 0)
    for file in disk:
        bench.read(file, 0)
    new = make_file("new", BLOCK)
    bench.fill(new, 0)
    assert bench.data_path(new, 0).exists()
    assert bench.tier(1).evictions == 0


def test_a_dropped_file_stays_readable_for_who_has_it_open_and_takes_room_until_then(bench):
    store = bench.open(4)
    file = make_file("a", 2 * BLOCK)
    bench.fill(file, 0, 1)
    lease = store.lease(file)
    store.drop([file.entry.file_version])
    assert not bench.data_path(file).exists()
    assert bench.read(file, 0) is None
    assert bench.tier().used_bytes == 2 * BLOCK
    assert lease.stamp() == lease.file.stamp()
    assert all(lease.digests())
    assert not lease.is_current
    into = memoryview(bytearray(BLOCK))
    lease.file.pread_into(into, BLOCK)
    assert bytes(into) == block_bytes(file, 1, BLOCK)
    lease.release()
    assert bench.tier().used_bytes == 0


def test_a_file_dropped_while_its_block_is_filled_is_not_brought_back(bench):
    store = bench.open(4)
    file = make_file("a", 2 * BLOCK)
    bench.fill(file, 0)
    with store.reserve(file, 1) as reservation:
        store.drop([file.entry.file_version])
        with pytest.raises(CapacityError):
            reservation.commit(
                memoryview(block_bytes(file, 1, BLOCK)), block_digest(file, 1, BLOCK)
            )
    assert bench.tier().used_bytes == bench.tier().reserved_bytes == 0
    bench.fill(file, 1)
    assert bench.resident(file) == [1]


def test_a_lease_of_a_file_that_is_not_here_makes_its_sparse_file(bench):
    store = bench.open(4)
    file = make_file("a", 3 * BLOCK)
    lease = store.lease(file)
    assert lease.file.size() == 3 * BLOCK
    assert lease.digests() == [None, None, None]
    bench.fill(file, 1)
    assert lease.digests() == [None, block_digest(file, 1, BLOCK), None]
    assert lease.stamp() == lease.file.stamp()
    lease.release()
    assert bench.resident(file) == [1]


def test_an_empty_file_can_be_leased(bench):
    store = bench.open(4)
    lease = store.lease(make_file("empty", 0))
    assert lease.file.size() == 0
    assert lease.digests() == []
    assert lease.stamp() == lease.file.stamp()
    lease.release()
    assert bench.allocated() == 0


def test_the_descriptor_that_is_handed_out_cannot_be_written(bench):
    store = bench.open(4)
    lease = store.lease(make_file("a", BLOCK))
    descriptor = lease.file.lend()
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(descriptor, b"x")
        with pytest.raises(OSError, match="Invalid argument"):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
        lease.release()


def test_changes_are_told_once_and_a_file_that_left_has_no_block(bench):
    store = bench.open(8)
    file = make_file("a", 10 * BLOCK)
    bench.fill(file, 0, 3)
    (change,) = store.residency_changes()
    assert (change.file_version, str(change.dataset)) == (file.entry.file_version, "tests/data")
    assert (change.resident, change.medium) == (0b1001, "disk")
    assert change.digests == (block_digest(file, 0, BLOCK), block_digest(file, 3, BLOCK))
    assert store.residency() == [change]
    assert store.residency_changes() == []
    store.evict([file.entry.file_version])
    (gone,) = store.residency_changes()
    assert (gone.resident, gone.digests) == (0, ())
    assert gone.version == file.version


def test_a_store_finds_its_blocks_again_and_reports_them(bench):
    bench.open(8)
    file = make_file("a", 3 * BLOCK)
    bench.fill(file, 0, 2)
    bench.store.close()
    store = bench.restart()
    assert bench.resident(file) == [0, 2]
    assert bench.read(file, 2) == block_bytes(file, 2, BLOCK)
    assert bench.tier().used_bytes == 2 * BLOCK
    assert [change.resident for change in store.residency_changes()] == [0b101]


def test_a_capacity_that_was_lowered_is_kept_at_the_next_start(bench):
    bench.open(8)
    for number in range(8):
        bench.fill(make_file(f"f{number}", BLOCK), 0)
    bench.store.close()
    bench.open(4)
    assert bench.tier().used_bytes <= 4 * BLOCK
    assert bench.allocated() <= 4 * BLOCK


def test_blocks_of_another_block_size_are_left_behind(bench):
    bench.open(8)
    file = make_file("a", 4 * BLOCK)
    bench.fill(file, 0, 1)
    bench.store.close()
    bench.block_size = 2 * BLOCK
    bench.restart()
    assert bench.tier().blocks == 0
    assert bench.allocated() == 0


def test_files_that_are_not_ours_are_left_alone(bench):
    bench.open(8)
    bench.store.close()
    stranger = bench.tiers[0].folder / "thesis.tex"
    stranger.write_text("years of work")
    bench.restart()
    assert stranger.exists()


def test_a_folder_that_others_may_enter_is_refused(bench, tmp_path):
    bench.open(8)
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        OsDisk(folder)


def test_a_folder_that_is_in_use_is_refused(bench):
    bench.open(8)
    with pytest.raises(ConfigError, match="in use"):
        OsDisk(bench.tiers[0].folder)


def test_a_link_in_place_of_a_folder_is_refused(bench, tmp_path):
    bench.open(8)
    bench.store.close()
    (tmp_path / "link").symlink_to(bench.tiers[0].folder)
    with pytest.raises(ConfigError):
        OsDisk(tmp_path / "link")


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("part_written", [0, BLOCK // 2])
@pytest.mark.parametrize("names_failing", [".data", "journal"])
def test_a_disk_that_does_not_take_a_block_leaves_nothing_resident(
    bench, failing_disk, fault, part_written, names_failing
):
    bench.open_disk = failing_disk
    bench.open(8)
    file, other = make_file("a", 2 * BLOCK), make_file("b", BLOCK)
    bench.fill(file, 0)
    bench.fill(other, 0)
    disk = bench.disks[0]
    disk.fault, disk.part_written, disk.names_failing = fault, part_written, names_failing
    with pytest.raises(CapacityError):
        bench.fill(file, 1)
    assert bench.resident(file) == [0]
    assert bench.read(file, 0) == block_bytes(file, 0, BLOCK)
    assert bench.tier().write_errors == 1
    assert bench.tier().reserved_bytes == 0
    assert bench.allocated() == bench.tier().used_bytes == 2 * BLOCK
    bench.store.evict([other.entry.file_version])
    disk.fault = None
    bench.fill(file, 1)
    bench.kill()
    bench.restart()
    assert bench.resident(file) == [0, 1]
    assert bench.resident(other) == [], "an eviction that could not be recorded is not undone"
    assert bench.read(file, 1) == block_bytes(file, 1, BLOCK)


def test_too_many_open_files_is_a_miss_and_loses_nothing(bench, failing_disk):
    bench.open_disk = failing_disk
    bench.open(8)
    file = make_file("a", BLOCK)
    bench.fill(file, 0)
    bench.store.close()
    bench.restart()
    bench.disks[0].fault = errno.EMFILE
    assert bench.read(file, 0) is None
    assert bench.resident(file) == [0]
    bench.disks[0].fault = None
    assert bench.read(file, 0) == block_bytes(file, 0, BLOCK)


def test_room_that_cannot_be_freed_still_counts(bench, failing_disk):
    bench.open_disk = failing_disk
    bench.open(4)
    file = make_file("a", 4 * BLOCK)
    bench.fill(file, 0, 1, 2, 3)
    bench.disks[0].fault = errno.EOPNOTSUPP
    bench.read(file, 0)
    bench.fill(make_file("b", BLOCK), 0)
    assert bench.tier().used_bytes <= 4 * BLOCK
    assert bench.allocated() <= 4 * BLOCK


def test_more_files_than_descriptors_are_served(bench, monkeypatch):
    monkeypatch.setattr("cachefs.workers.storage.datafile.OPEN_FILES_LIMIT", 3)
    bench.open(32)
    files = [make_file(f"f{number}", BLOCK) for number in range(20)]
    for file in files:
        bench.fill(file, 0)
    for file in files:
        assert bench.read(file, 0) == block_bytes(file, 0, BLOCK)
    assert sum(file.handle is not None for file in bench.store._tiers[0].books.files.values()) <= 3


def test_many_threads_never_pass_the_capacity_and_always_read_right_bytes(bench):
    store = bench.open(6, 10, high_mark=0.9, low_mark=0.6)
    files = [make_file(f"f{number}", (number % 4 + 1) * BLOCK) for number in range(12)]
    wrong: list[str] = []
    over: list[int] = []
    refused = [0]
    rounds = 150

    def work(seed: int) -> None:
        for turn in range(rounds):
            file = files[(seed * 7 + turn * (seed + 1)) % len(files)]
            index = (turn + seed) % -(-file.entry.size // BLOCK)
            try:
                if turn % 29 == 5:
                    store.evict([file.entry.file_version])
                elif turn % 31 == 7:
                    store.drop([file.entry.file_version])
                elif turn % 11 == 3:
                    lease = store.lease(file)
                    lease.stamp()
                    for at, digest in enumerate(lease.digests()):
                        if digest not in (None, block_digest(file, at, BLOCK)):
                            wrong.append("digest")
                    lease.release()
                content = read_block(store, file, index, BLOCK)
                if content is None:
                    fill_block(store, file, index, BLOCK)
                elif content != block_bytes(file, index, BLOCK):
                    wrong.append(f"{file.entry.path}/{index}")
            except CapacityError:
                refused[0] += 1
            over.extend(
                1
                for tier in store.statistics().tiers
                if tier.used_bytes + tier.reserved_bytes > tier.capacity_bytes
            )

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert (wrong, over) == ([], [])
    assert refused[0] < 6 * rounds // 2
    for number, tier in enumerate(store.statistics().tiers):
        assert tier.corrupt_blocks == tier.lost_files == tier.disk_errors == 0
        assert tier.reserved_bytes == 0
        assert tier.used_bytes == tier.blocks * BLOCK == bench.allocated(number)
    assert all(
        not cached.users and not cached.held and not cached.leases
        for tier in store._tiers
        for cached in tier.books.files.values()
    )
    bench.kill()
    bench.restart()
    for file in files:
        for index in bench.resident(file):
            assert bench.read(file, index) == block_bytes(file, index, BLOCK)
