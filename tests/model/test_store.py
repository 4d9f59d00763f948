"""The store against a drive that loses power, is written by others and runs full, for many seeds.

Whatever happens, a block that is served is right, what is leased is not punched, and neither the
books nor the drive pass the capacity.
"""

from random import Random

import pytest

from cachefs.config.schema import ClusterConfig, TierConfig
from cachefs.errors import CapacityError
from cachefs.testing.blocks import block_bytes, block_digest, fill_block, make_file, read_block
from cachefs.testing.simulation.world.disk import SimDisk
from cachefs.testing.simulation.world.drive import PAGE_BYTES, SimDrive
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.storage.store import TieredStore

BLOCK = PAGE_BYTES
CAPACITY_BLOCKS = 12
STEPS = 120


class Machine:
    """One drive, and the worker on it, which dies and comes back."""

    def __init__(self, tmp_path, seed: int) -> None:
        self.random = Random(seed)
        self.drive = SimDrive(self.random, capacity_bytes=CAPACITY_BLOCKS * BLOCK * 20)
        self.tier = TierConfig(
            folder=tmp_path,
            medium="disk",
            capacity_bytes=CAPACITY_BLOCKS * BLOCK,
            eviction=self.random.choice(("lru", "tinylfu", "size")),
        )
        self.boots = 0
        self.files = [make_file(f"f{number}", number * BLOCK - 7) for number in range(1, 6)]
        self.leases = []
        self.start()

    def start(self) -> None:
        self.leases = []
        self.disk = SimDisk(self.drive)
        self.store = TieredStore(
            [self.tier],
            cluster=ClusterConfig(block_size=BLOCK),
            runtime=ThreadRuntime(),
            open_disk=lambda _folder: self.disk,
            boot_id=f"boot-{self.boots}",
        )
        self.store.recover()

    def step(self) -> None:
        kind = self.random.choices(
            ("fill", "read", "lease", "release", "evict", "drop", "scribble", "full", "kill",
             "close", "power"),
            (40, 30, 6, 6, 4, 2, 4, 2, 3, 1, 2),
        )[0]  # fmt: skip
        file = self.random.choice(self.files)
        index = self.random.randrange(-(-file.entry.size // BLOCK))
        getattr(self, kind)(file, index)
        self.check_room()

    def fill(self, file, index) -> None:
        try:
            fill_block(self.store, file, index, BLOCK)
        except CapacityError:
            return
        assert self.store.holds(file.entry.file_version, index)

    def read(self, file, index) -> None:
        assert read_block(self.store, file, index, BLOCK) in (
            None,
            block_bytes(file, index, BLOCK),
        )

    def lease(self, file, _index) -> None:
        if len(self.leases) < 2:
            self.leases.append((file, self.store.lease(file)))
        for leased, lease in self.leases:
            assert lease.stamp() == lease.file.stamp()
            for index, digest in enumerate(lease.digests()):
                if digest is not None:
                    right = block_bytes(leased, index, BLOCK)
                    into = memoryview(bytearray(len(right)))
                    assert lease.file.pread_into(into, index * BLOCK) == len(right)
                    assert bytes(into) == right
                    assert digest == block_digest(leased, index, BLOCK)

    def release(self, _file, _index) -> None:
        if self.leases:
            self.leases.pop()[1].release()

    def evict(self, file, _index) -> None:
        self.store.evict([file.entry.file_version])

    def drop(self, file, _index) -> None:
        self.store.drop([file.entry.file_version])

    def scribble(self, file, _index) -> None:
        name = f"{file.entry.file_version}.data"
        if name in self.drive.files:
            kind = self.random.choice(("scribble", "truncate", "extend"))
            self.drive._damage(kind, name, self.drive.files[name])

    def full(self, file, index) -> None:
        self.drive.faults.full = 0.5
        self.fill(file, index)
        self.drive.faults.full = 0.0

    def kill(self, _file, _index) -> None:
        self.disk.close()
        self.start()

    def close(self, _file, _index) -> None:
        for _, lease in self.leases:
            lease.release()
        self.store.close()
        if self.random.random() < 0.5:
            self.boots += 1
            self.drive.cut_power()
        self.start()

    def power(self, _file, _index) -> None:
        self.disk.close()
        self.drive.cut_power()
        self.boots += 1
        self.start()

    def check_room(self) -> None:
        tier = self.store.statistics().tiers[0]
        assert tier.reserved_bytes == 0
        assert tier.used_bytes <= tier.capacity_bytes
        taken = self.drive.allocated_bytes(matching=lambda name: name.endswith(".data"))
        assert taken <= tier.capacity_bytes


# 57 and 842: a file that was damaged and then dropped was trusted by those who had it open.
@pytest.mark.parametrize("seed", [*range(40), 57, 842])
def test_no_history_of_a_drive_makes_the_store_serve_a_wrong_block(tmp_path, seed):
    machine = Machine(tmp_path, seed)
    for _ in range(STEPS):
        machine.step()
    for file in machine.files:
        for index in range(-(-file.entry.size // BLOCK)):
            machine.read(file, index)
