"""The journal: torn ends, damaged records, other boots, and 90 % of a long history."""

import random

import pytest

from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.testing.blocks import block_bytes, make_file
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.storage.disk import OsDisk
from cachefs.workers.storage.journal import (
    SLOT_SIZE,
    BlockAdded,
    BlockGone,
    FileAdded,
    FileRemoved,
    Journal,
    Setting,
    Stamped,
    decode,
)

BLOCK = 4096
SETTING = Setting(boot_id="boot-1", block_size=BLOCK, digest="xxh3-128")
DATASET = DatasetName("tests", "data")
VERSION = VersionId("ab" * 20)


def name(number: int) -> FileVersionId:
    return FileVersionId(f"{number:040x}")


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def disk(tmp_path):
    disk = OsDisk(tmp_path / "tier")
    yield disk
    disk.close()


def open_journal(disk, setting=SETTING) -> tuple[Journal, bool]:
    journal = Journal(disk, ThreadRuntime(), setting)
    return journal, journal.load()


def add(journal: Journal, number: int, *, blocks: int = 1) -> None:
    journal.append([FileAdded(name(number), blocks * BLOCK, DATASET, VERSION)])
    for index in range(blocks):
        journal.append([BlockAdded(name(number), index, digest(index), 100 + index)])


def test_what_was_recorded_is_read_back(disk):
    journal, _ = open_journal(disk)
    add(journal, 1, blocks=3)
    add(journal, 2)
    journal.append([BlockGone(name(1), 1, 555), FileRemoved(name(2))])
    journal, reliable = open_journal(disk)
    assert reliable
    (recorded,) = journal.files.values()
    assert recorded.blocks == {0: digest(0), 2: digest(2)}
    assert (recorded.size, recorded.stamp) == (3 * BLOCK, 555)
    assert (recorded.dataset, recorded.version) == (DATASET, VERSION)


def test_a_digest_of_32_bytes_and_the_longest_dataset_name_fit(disk):
    longest = DatasetName("n" * 63, "d" * 63)
    journal, _ = open_journal(disk)
    journal.append([FileAdded(name(1), BLOCK, longest, VERSION)])
    journal.append([BlockAdded(name(1), 0, b"d" * 32, 7)])
    journal, _ = open_journal(disk)
    assert journal.files[name(1)].dataset == longest
    assert journal.files[name(1)].blocks == {0: b"d" * 32}


def test_a_file_that_was_made_again_has_none_of_its_old_blocks(disk):
    journal, _ = open_journal(disk)
    add(journal, 1, blocks=3)
    add(journal, 1, blocks=1)
    journal, _ = open_journal(disk)
    assert list(journal.files[name(1)].blocks) == [0]


def test_a_torn_end_costs_only_the_record_that_was_being_written(disk, tmp_path):
    journal, _ = open_journal(disk)
    add(journal, 1, blocks=3)
    path = tmp_path / "tier" / "journal"
    path.write_bytes(path.read_bytes()[:-11])
    journal, reliable = open_journal(disk)
    assert reliable, "what is missing shows in the stamp of its file"
    assert list(journal.files[name(1)].blocks) == [0, 1]


@pytest.mark.parametrize("slot", range(8))
def test_a_damaged_record_costs_only_itself_and_the_trust(disk, tmp_path, slot):
    journal, _ = open_journal(disk)
    add(journal, 1, blocks=3)
    add(journal, 2, blocks=2)
    path = tmp_path / "tier" / "journal"
    content = bytearray(path.read_bytes())
    assert len(content) == 8 * SLOT_SIZE
    content[slot * SLOT_SIZE + 30] ^= 0x40
    path.write_bytes(content)
    journal, reliable = open_journal(disk)
    assert not reliable
    assert all(recorded.stamp == 0 for recorded in journal.files.values())
    survivors = sum(len(recorded.blocks) for recorded in journal.files.values())
    lost = {0: 0, 1: 3, 5: 2}.get(slot, 1)  # the session, the two files' own records, a block
    assert survivors == 5 - lost


def test_distrust_lasts_until_the_blocks_are_verified(disk):
    journal, _ = open_journal(disk)
    add(journal, 1, blocks=2)
    other = Setting(boot_id="boot-2", block_size=BLOCK, digest="xxh3-128")
    assert not open_journal(disk, other)[1]
    journal, reliable = open_journal(disk, other)
    assert reliable
    assert journal.files[name(1)].stamp == 0, "nobody has verified them since the power cut"
    journal.append([Stamped(name(1), 900)])
    assert open_journal(disk, other)[0].files[name(1)].stamp == 900


def test_a_clean_end_is_trusted_after_a_reboot_once(disk):
    journal, _ = open_journal(disk)
    add(journal, 1)
    journal.close(clean=True)
    second = Setting(boot_id="boot-2", block_size=BLOCK, digest="xxh3-128")
    assert open_journal(disk, second)[1]
    third = Setting(boot_id="boot-3", block_size=BLOCK, digest="xxh3-128")
    assert not open_journal(disk, third)[1]


def test_a_boot_that_cannot_be_known_is_never_the_same(disk):
    unknown = Setting(boot_id="", block_size=BLOCK, digest="xxh3-128")
    add(open_journal(disk, unknown)[0], 1)
    assert not open_journal(disk, unknown)[1]


@pytest.mark.parametrize("content", [b"", b"\0" * 4000, b"not a journal" * 999])
def test_a_journal_that_is_none_counts_as_empty(disk, tmp_path, content):
    (tmp_path / "tier" / "journal").write_bytes(content)
    journal, _ = open_journal(disk)
    assert journal.files == {}
    add(journal, 1)
    assert list(open_journal(disk)[0].files) == [name(1)]


def test_history_is_left_out_when_it_is_most_of_the_journal(disk, tmp_path, monkeypatch):
    monkeypatch.setattr("cachefs.workers.storage.journal.HISTORY_SLOTS_MIN", 50)
    journal, _ = open_journal(disk)
    for _ in range(100):
        add(journal, 1, blocks=2)
        journal.append([FileRemoved(name(1))])
    add(journal, 2, blocks=2)
    assert (tmp_path / "tier" / "journal").stat().st_size < 70 * SLOT_SIZE
    assert list(open_journal(disk)[0].files) == [name(2)]


def test_random_damage_never_breaks_reading_and_never_invents_a_block():
    noise = random.Random(7)
    for _ in range(200):
        content = bytearray(noise.randbytes(noise.randrange(2000)))
        assert decode(bytes(content)).files == {}


def test_after_a_power_cut_every_block_is_verified_before_it_is_served(bench):
    bench.open(16)
    file = make_file("a", 8 * BLOCK)
    bench.fill(file, *range(8))
    bench.kill()
    with bench.data_path(file).open("r+b") as data:
        data.seek(3 * BLOCK)
        data.write(bytes(BLOCK))
    cheated = bench.data_path(file).stat().st_ctime_ns
    bench.boot_id = "boot-2"
    bench.restart()
    cached = bench.store._tiers[0].books.files[file.entry.file_version]
    assert cached.stamp == 0
    served = [index for index in range(8) if bench.read(file, index) is not None]
    assert served == [0, 1, 2, 4, 5, 6, 7]
    assert cheated
    assert not cached.doubtful
    bench.kill()
    bench.restart()
    cached = bench.store._tiers[0].books.files[file.entry.file_version]
    assert cached.stamp != 0
    assert bench.read(file, 5) == block_bytes(file, 5, BLOCK)


def test_room_taken_by_bytes_that_no_record_knows_is_freed_at_start(bench):
    bench.open(16)
    file = make_file("a", 8 * BLOCK)
    bench.fill(file, 0)
    bench.kill()
    with bench.data_path(file).open("r+b") as data:
        data.seek(5 * BLOCK)
        data.write(b"x" * BLOCK)
    (bench.data_path(file).parent / f"{'0' * 40}.data").write_bytes(b"orphan" * BLOCK)
    assert bench.allocated() > BLOCK
    bench.restart()
    assert bench.allocated() == BLOCK == bench.tier().used_bytes
    assert bench.read(file, 0) == block_bytes(file, 0, BLOCK)
