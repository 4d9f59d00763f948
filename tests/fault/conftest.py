"""A store on real folders that can be killed, restarted and moved to another boot of the machine."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cachefs.config.schema import ClusterConfig, TierConfig
from cachefs.ports import FileRef
from cachefs.testing.blocks import fill_block, read_block
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.storage.disk import OsDisk, OsDiskFile
from cachefs.workers.storage.inventory import TierStatistics
from cachefs.workers.storage.store import TieredStore

BLOCK = 4096


class Bench:
    """Opens stores over the same tiers, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.block_size = BLOCK
        self.boot_id = "boot-1"
        self.open_disk: Callable[[Path], OsDisk] = OsDisk
        self.disks: list[OsDisk] = []
        self.handles: list[OsDiskFile] = []
        self.store: TieredStore

    def open(self, *capacities_in_blocks: int, **settings) -> TieredStore:
        """Open a store with tiers of so many blocks: memory first, the others disk."""
        self.tiers = [
            TierConfig(
                folder=self.folder / f"tier{number}",
                medium="disk" if number or len(capacities_in_blocks) == 1 else "memory",
                capacity_bytes=capacity * BLOCK,
                **{"high_mark": 1.0, "low_mark": 0.75, **settings},
            )
            for number, capacity in enumerate(capacities_in_blocks)
        ]
        return self.restart()

    def restart(self) -> TieredStore:
        """Open the same tiers again."""
        self.disks, self.handles = [], []
        self.store = TieredStore(
            self.tiers,
            cluster=ClusterConfig(block_size=self.block_size),
            runtime=ThreadRuntime(),
            open_disk=self._open,
            boot_id=self.boot_id,
        )
        self.store.recover()
        return self.store

    def kill(self) -> None:
        """End as ``kill -9`` does: nothing is synced, nothing is marked, all that was open is closed."""
        for opened in (*self.handles, *self.disks):
            opened.close()

    def _open(self, folder: Path) -> OsDisk:
        disk = self.open_disk(folder)
        open_file = disk.open

        def open_and_note(name: str, *, create: bool = False) -> OsDiskFile:
            handle = open_file(name, create=create)
            self.handles.append(handle)
            return handle

        disk.open = open_and_note
        self.disks.append(disk)
        return disk

    def fill(self, file: FileRef, *indexes: int) -> None:
        for index in indexes:
            fill_block(self.store, file, index, BLOCK)

    def read(self, file: FileRef, index: int) -> bytes | None:
        return read_block(self.store, file, index, BLOCK)

    def data_path(self, file: FileRef, tier: int = 0) -> Path:
        return self.tiers[tier].folder / f"{file.entry.file_version}.data"

    def resident(self, file: FileRef) -> list[int]:
        count = -(-file.entry.size // BLOCK)
        return [index for index in range(count) if self.store.holds(file.entry.file_version, index)]

    def tier(self, number: int = 0) -> TierStatistics:
        return self.store.statistics().tiers[number]

    def allocated(self, tier: int = 0) -> int:
        """Return what the data files really take on the disk."""
        folder = self.tiers[tier].folder
        return sum(path.stat().st_blocks * 512 for path in folder.glob("*.data"))


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.store.close()
    bench.kill()


class FailingDisk(OsDisk):
    """A folder whose disk fails on command."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fault: int | None = None
        self.part_written = 0
        self.names_failing = ".data"

    def open(self, name, *, create=False):
        if self.fault in (errno.EMFILE, errno.EACCES) and self.names_failing in name:
            raise OSError(self.fault, os.strerror(self.fault))
        opened = super().open(name, create=create)
        write, punch = opened.pwrite, opened.punch

        def pwrite(data, offset):
            if self.fault in (errno.ENOSPC, errno.EIO) and self.names_failing in name:
                write(data[: self.part_written], offset)
                raise OSError(self.fault, os.strerror(self.fault))
            write(data, offset)

        def punch_or_fail(offset, length):
            if self.fault == errno.EOPNOTSUPP:
                raise OSError(self.fault, os.strerror(self.fault))
            punch(offset, length)

        opened.pwrite, opened.punch = pwrite, punch_or_fail
        return opened


@pytest.fixture
def failing_disk():
    return FailingDisk
