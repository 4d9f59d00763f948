"""A disk that is full, by others' doing: what is held is served, and room is made of one's own.

The disk has a size that is shared with others, and refuses the page that does not fit, as a file
system does: also those of the journal.
"""

import errno
import logging
import os
from pathlib import Path

import pytest

from cachefs.config.schema import ClusterConfig, TierConfig, WorkerConfig
from cachefs.config.secrets import Secret
from cachefs.errors import CapacityError
from cachefs.testing.blocks import block_bytes, fill_block, make_file, read_block
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.process import Worker
from cachefs.workers.storage.disk import OsDisk, OsDiskFile
from cachefs.workers.storage.store import TieredStore

BLOCK = 4096


class CrowdedDisk(OsDisk):
    """A folder on a file system that others use as well."""

    def __init__(self, folder: Path, crowd: "Crowd") -> None:
        super().__init__(folder)
        self.folder = folder
        self.crowd = crowd

    def free_bytes(self):
        ours = sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())
        return max(0, self.crowd.size - self.crowd.others - ours)

    def open(self, name, *, create=False):
        opened = super().open(name, create=create)
        write = opened.pwrite

        def pwrite(data, offset):
            touched = range(offset // BLOCK, -(-(offset + len(data)) // BLOCK))
            new = sum(not opened.takes_room(page * BLOCK, BLOCK) for page in touched)
            if new * BLOCK > self.free_bytes():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(data, offset)

        opened.pwrite = pwrite
        return opened


class Crowd:
    """A file system of 32 pages, and what others have put there."""

    def __init__(self) -> None:
        self.size = 32 * BLOCK
        self.others = 0

    def open(self, folder: Path) -> CrowdedDisk:
        return CrowdedDisk(folder, self)

    def fill(self, disk: CrowdedDisk) -> None:
        """Let others take all that is left."""
        self.others += disk.free_bytes()


@pytest.fixture
def crowd(bench):
    crowd = Crowd()
    bench.open_disk = crowd.open
    return crowd


@pytest.fixture
def file(bench, crowd):
    """A file of four blocks on a disk that was full when the worker was started again."""
    bench.open(8)
    file = make_file("a", 4 * BLOCK)
    bench.fill(file, 0, 1, 2, 3)
    bench.kill()
    crowd.fill(bench.disks[0])
    bench.restart()
    return file


def reads(bench, file, *indexes):
    return [bench.read(file, index) for index in indexes] == [
        block_bytes(file, index, BLOCK) for index in indexes
    ]


def test_what_a_worker_holds_is_served_from_a_full_disk(bench, file):
    assert reads(bench, file, 0, 1, 2, 3)
    assert bench.tier().lacking_bytes == 4 * BLOCK


def test_nothing_is_evicted_before_something_else_is_wanted(bench, file):
    assert bench.resident(file) == [0, 1, 2, 3]
    assert bench.tier().evictions == 0


def test_a_fill_evicts_what_is_coldest_and_is_still_there_after_a_kill(bench, file):
    new = make_file("new", BLOCK)
    assert reads(bench, file, 0, 1)
    bench.fill(new, 0)
    assert bench.resident(file) == [0, 1]
    bench.kill()
    bench.restart()
    assert bench.resident(file) == [0, 1]
    assert reads(bench, file, 0, 1)
    assert reads(bench, new, 0)


def test_a_kill_on_a_full_disk_loses_nothing_that_was_not_evicted(bench, file):
    for _ in range(2):
        bench.kill()
        bench.restart()
    assert bench.resident(file) == [0, 1, 2, 3]
    assert reads(bench, file, 0, 1, 2, 3)


def test_what_is_pinned_stays_on_a_full_disk(bench, file):
    bench.store.set_pins([file.entry.file_version], {})
    with pytest.raises(CapacityError):
        bench.fill(make_file("new", BLOCK), 0)
    assert reads(bench, file, 0, 1, 2, 3)
    assert bench.tier().reserved_bytes == 0


def test_the_tier_grows_as_others_make_room(bench, crowd, file):
    crowd.others = 0
    other = make_file("new", 4 * BLOCK)
    bench.fill(other, 0, 1, 2, 3)
    assert bench.tier().evictions == 0
    assert bench.tier().lacking_bytes == 0
    assert reads(bench, file, 0, 1, 2, 3)
    assert reads(bench, other, 0, 1, 2, 3)


def test_a_worker_that_never_held_anything_starts_and_fills_once_there_is_room(bench, crowd):
    crowd.others = crowd.size
    bench.open(8)
    file = make_file("a", BLOCK)
    with pytest.raises(CapacityError):
        bench.fill(file, 0)
    crowd.others = 0
    bench.fill(file, 0)
    bench.kill()
    bench.restart()
    assert reads(bench, file, 0)


def test_a_disk_that_others_fill_later_costs_one_block_and_then_some_are_evicted(bench, crowd):
    bench.open(8)
    file, new = make_file("a", 4 * BLOCK), make_file("new", BLOCK)
    bench.fill(file, 0, 1, 2, 3)
    crowd.fill(bench.disks[0])
    with pytest.raises(CapacityError):
        bench.fill(new, 0)
    assert bench.resident(file) == [0, 1, 2, 3]
    assert bench.tier().write_errors == 1
    bench.fill(new, 0)
    assert bench.resident(file) == [2, 3]
    assert reads(bench, file, 2, 3)
    assert reads(bench, new, 0)


def test_a_whole_worker_starts_on_a_full_disk_and_says_so(tmp_path, monkeypatch, caplog):
    cluster, runtime = ClusterConfig(block_size=64 * 1024), ThreadRuntime()
    tiers = (TierConfig(folder=tmp_path / "tier", medium="disk", capacity_bytes=1024 * 1024),)
    file = make_file("a", 64 * 1024)
    store = TieredStore(tiers, cluster=cluster, runtime=runtime)
    store.recover()
    fill_block(store, file, 0, 64 * 1024)
    store.close()

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(OsDiskFile, "pwrite", refuse)
    monkeypatch.setattr(OsDisk, "free_bytes", lambda _: 0)
    config = WorkerConfig(
        name="w", state_folder=tmp_path / "w", tiers=tiers, coordinator="127.0.0.1:1"
    )
    with caplog.at_level(logging.WARNING):
        worker = Worker(config, cluster, Secret("the-token"), runtime)
    try:
        assert "a tier's disk is full" in caplog.text
        assert read_block(worker.store, file, 0, 64 * 1024) == block_bytes(file, 0, 64 * 1024)
        (tier,) = worker.statistics().to_document()["tiers"]
        assert tier["lacking_bytes"] > 0
    finally:
        worker.close()
