"""What only the simulated disk does: it fails, it is torn, and it loses power."""

import random

import pytest

from cachefs.testing.simulation.world.disk import SimDisk
from cachefs.testing.simulation.world.drive import PAGE_BYTES, DiskFaults, SimDrive

CONTENT = bytes(range(1, 256)) * 8


def drive(seed=1, capacity_bytes=65536):
    return SimDrive(random.Random(seed), capacity_bytes=capacity_bytes)


def read(disk, name):
    file = disk.open(name)
    buffer = bytearray(file.size())
    file.pread_into(memoryview(buffer), 0)
    return bytes(buffer)


def write(disk, name, content, *, synced):
    file = disk.open(name, create=True)
    file.pwrite(memoryview(content), 0)
    if synced:
        file.sync()


def test_synced_bytes_survive_a_power_cut():
    for seed in range(50):
        medium = drive(seed)
        write(SimDisk(medium), "file", CONTENT, synced=True)
        medium.cut_power()
        assert read(SimDisk(medium), "file") == CONTENT


def test_bytes_that_were_not_synced_are_kept_lost_or_torn():
    outcomes = set()
    for seed in range(200):
        medium = drive(seed)
        disk = SimDisk(medium)
        write(disk, "file", bytes(len(CONTENT)), synced=True)
        write(disk, "file", CONTENT, synced=False)
        medium.cut_power()
        after = read(SimDisk(medium), "file")
        assert len(after) == len(CONTENT)
        assert all(new in (old, 0) for new, old in zip(after, CONTENT, strict=True))
        outcomes.add("lost" if not any(after) else "kept" if after == CONTENT else "torn")
    assert outcomes == {"lost", "kept", "torn"}


def test_a_file_that_was_never_synced_may_be_gone_and_a_removed_one_back():
    outcomes = set()
    for seed in range(50):
        medium = drive(seed)
        disk = SimDisk(medium)
        write(disk, "old", CONTENT, synced=True)
        disk.remove("old")
        write(disk, "new", CONTENT, synced=False)
        medium.cut_power()
        outcomes.add(tuple(SimDisk(medium).names()))
    assert outcomes == {(), ("old",), ("new",), ("new", "old")}


def test_a_rename_survives_a_power_cut():
    for seed in range(20):
        medium = drive(seed)
        disk = SimDisk(medium)
        write(disk, "new", CONTENT, synced=True)
        write(disk, "old", b"old", synced=True)
        disk.replace("new", "old")
        medium.cut_power()
        assert list(SimDisk(medium).names()) == ["old"]
        assert read(SimDisk(medium), "old") == CONTENT


def test_a_full_drive_says_so_and_a_hole_makes_room():
    disk = SimDisk(drive(capacity_bytes=2 * PAGE_BYTES))
    file = disk.open("file", create=True)
    file.pwrite(memoryview(bytes(2 * PAGE_BYTES)), 0)
    assert disk.free_bytes() == 0
    with pytest.raises(OSError, match="No space left"):
        file.pwrite(memoryview(b"x"), 2 * PAGE_BYTES)
    file.punch(0, PAGE_BYTES)
    assert disk.free_bytes() == PAGE_BYTES
    file.pwrite(memoryview(b"x"), 2 * PAGE_BYTES)


def test_faults_are_the_operating_systems_errors():
    medium = drive()
    disk = SimDisk(medium)
    file = disk.open("file", create=True)
    file.pwrite(memoryview(CONTENT), 0)
    medium.faults = DiskFaults(write_error=1.0)
    with pytest.raises(OSError, match="Input/output"):
        file.pwrite(memoryview(CONTENT), 0)
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    medium.faults = DiskFaults(full=1.0)
    with pytest.raises(OSError, match="No space left"):
        file.pwrite(memoryview(CONTENT), 0)
    medium.faults = DiskFaults(read_error=1.0)
    with pytest.raises(OSError, match="Input/output"):
        file.pread_into(memoryview(bytearray(1)), 0)
    medium.faults = DiskFaults()
    assert file.pread_into(memoryview(bytearray(1)), 0) == 1


def test_a_process_that_dies_within_a_write_leaves_a_part_of_it():
    class DiedError(Exception):
        pass

    def die():
        raise DiedError

    medium = drive(3)
    with pytest.raises(DiedError):
        write(SimDisk(medium, pause=die), "file", CONTENT, synced=False)
    after = read(SimDisk(medium), "file")
    assert CONTENT.startswith(after)
    assert after != CONTENT


def test_every_kind_of_damage_happens_and_rot_keeps_the_stamp():
    kinds = set()
    for seed in range(60):
        medium = drive(seed)
        disk = SimDisk(medium)
        write(disk, "file", CONTENT, synced=True)
        file = disk.open("file")
        stamp = file.stamp()
        kind = medium.damage().split()[0]
        kinds.add(kind)
        if kind == "remove":
            assert list(disk.names()) == []
        else:
            assert read(disk, "file") != CONTENT
            assert (file.stamp() == stamp) is (kind == "rot")
    assert kinds == {"rot", "scribble", "truncate", "extend", "remove"}
    assert drive().damage() == "nothing to damage"
