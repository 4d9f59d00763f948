"""What the port ``Disk`` promises, of a folder and of the simulated disk alike."""

import random
import time

import pytest

from cachefs.ports import Disk, DiskFile
from cachefs.testing.simulation.world.disk import SimDisk
from cachefs.testing.simulation.world.drive import SimDrive
from cachefs.workers.storage.disk import OsDisk

BLOCK_BYTES = 64 * 1024
"""A multiple of every file system's page, so that a hole gives space back."""


@pytest.fixture(params=["folder", "simulation"])
def disk(request, tmp_path):
    if request.param == "folder":
        disk = OsDisk(tmp_path / "tier")
    else:
        disk = SimDisk(SimDrive(random.Random(5), capacity_bytes=64 * BLOCK_BYTES))
    yield disk
    disk.close()


def read(file: DiskFile, length: int, offset: int = 0) -> bytes:
    buffer = bytearray(length)
    return bytes(buffer[: file.pread_into(memoryview(buffer), offset)])


def write(disk: Disk, name: str, content: bytes) -> None:
    file = disk.open(name, create=True)
    file.pwrite(memoryview(content), 0)
    file.close()


def test_what_was_written_is_read(disk):
    file = disk.open("file", create=True)
    file.pwrite(memoryview(b"hello world"), 0)
    file.pwrite(memoryview(b"W"), 6)
    assert read(file, 11) == b"hello World"
    assert read(file, 5, 6) == b"World"
    assert file.size() == 11
    file.close()


def test_a_read_ends_with_the_file(disk):
    write(disk, "file", b"abc")
    file = disk.open("file")
    assert read(file, 100, 1) == b"bc"
    assert read(file, 100, 3) == b""
    assert read(file, 100, 300) == b""
    file.close()


def test_a_write_beyond_the_end_leaves_zeros(disk):
    file = disk.open("file", create=True)
    file.pwrite(memoryview(b"x"), 10)
    assert read(file, 20) == bytes(10) + b"x"
    file.close()


def test_a_file_that_is_not_there_is_not_opened_without_create(disk):
    with pytest.raises(FileNotFoundError):
        disk.open("missing")


def test_opening_with_create_keeps_what_is_there(disk):
    write(disk, "file", b"abc")
    file = disk.open("file", create=True)
    assert read(file, 10) == b"abc"
    file.close()


def test_names_are_those_of_the_files(disk):
    assert list(disk.names()) == []
    for name in ("b", "a", "c"):
        write(disk, name, b"")
    assert sorted(disk.names()) == ["a", "b", "c"]
    disk.remove("b")
    assert sorted(disk.names()) == ["a", "c"]


def test_removing_what_is_gone_is_no_error(disk):
    disk.remove("never was")


def test_a_removed_file_lives_on_for_those_who_have_it_open(disk):
    write(disk, "file", b"abc")
    file = disk.open("file")
    disk.remove("file")
    assert read(file, 3) == b"abc"
    assert not disk.refers("file", file)
    write(disk, "file", b"xyz")
    assert read(file, 3) == b"abc"
    assert not disk.refers("file", file)
    file.close()


def test_an_open_file_is_what_its_name_refers_to(disk):
    write(disk, "file", b"abc")
    write(disk, "other", b"abc")
    file = disk.open("file")
    assert disk.refers("file", file)
    assert not disk.refers("other", file)
    assert not disk.refers("missing", file)
    file.close()


def test_replace_renames_over_its_target(disk):
    write(disk, "new", b"new")
    write(disk, "old", b"old")
    disk.replace("new", "old")
    assert list(disk.names()) == ["old"]
    file = disk.open("old")
    assert read(file, 3) == b"new"
    file.close()


def test_replacing_by_a_file_that_is_not_there_changes_nothing(disk):
    write(disk, "old", b"old")
    with pytest.raises(FileNotFoundError):
        disk.replace("missing", "old")
    file = disk.open("old")
    assert read(file, 3) == b"old"
    file.close()


def test_a_hole_reads_as_zeros_and_keeps_the_size(disk):
    content = bytes(range(256)) * (3 * BLOCK_BYTES // 256)
    write(disk, "file", content)
    file = disk.open("file")
    file.punch(BLOCK_BYTES, BLOCK_BYTES)
    assert file.size() == len(content)
    assert read(file, len(content)) == (
        content[:BLOCK_BYTES] + bytes(BLOCK_BYTES) + content[2 * BLOCK_BYTES :]
    )
    file.close()


def test_a_hole_in_the_middle_of_a_page_leaves_its_surroundings(disk):
    write(disk, "file", b"abcdefghij")
    file = disk.open("file")
    file.punch(3, 4)
    assert read(file, 10) == b"abc" + bytes(4) + b"hij"
    file.close()


def test_a_hole_beyond_the_end_does_not_grow_the_file(disk):
    write(disk, "file", b"abc")
    file = disk.open("file")
    file.punch(2, 100)
    assert file.size() == 3
    assert read(file, 10) == b"ab\0"
    file.close()


def test_truncate_cuts_and_grows(disk):
    write(disk, "file", b"abcdef")
    file = disk.open("file")
    file.truncate(3)
    assert read(file, 10) == b"abc"
    file.truncate(6)
    assert read(file, 10) == b"abc\0\0\0"
    assert file.size() == 6
    file.close()


def test_the_stamp_stays_until_somebody_writes(disk, request):
    write(disk, "file", b"abc")
    file = disk.open("file")
    other = disk.open("file")
    stamp = file.stamp()
    assert read(file, 3) == b"abc"
    assert file.stamp() == stamp
    changes = [
        lambda: other.pwrite(memoryview(b"x"), 0),
        lambda: other.punch(0, 1),
        lambda: other.truncate(1),
    ]
    for change in changes:
        # The kernel's clock ticks every few milliseconds; two writes within one share a stamp.
        while file.stamp() == stamp:
            change()
        stamp = file.stamp()
    file.close()
    other.close()


def test_sync_and_close_can_be_repeated(disk):
    file = disk.open("file", create=True)
    file.pwrite(memoryview(b"abc"), 0)
    file.sync()
    file.sync()
    disk.sync()
    file.close()
    file.close()


def test_a_closed_file_is_not_read(disk):
    file = disk.open("file", create=True)
    file.close()
    with pytest.raises(OSError, match=r"descriptor|closed"):
        read(file, 1)


def test_a_closed_folder_opens_nothing(disk):
    write(disk, "file", b"abc")
    disk.close()
    with pytest.raises(OSError, match="closed"):
        disk.open("file")


def test_free_bytes_is_a_number_of_bytes(disk):
    assert disk.free_bytes() > BLOCK_BYTES


def test_two_handles_see_each_others_writes(disk):
    write(disk, "file", b"abc")
    one, two = disk.open("file"), disk.open("file")
    one.pwrite(memoryview(b"X"), 1)
    assert read(two, 3) == b"aXc"
    one.close()
    two.close()


def test_a_file_is_shared_while_it_is_open_twice(disk):
    file = disk.open("file", create=True)
    if file.shared() is None:
        file.close()
        pytest.skip("this file system cannot tell who has a file open")
    assert file.shared() is False
    other = disk.open("file")
    assert file.shared() is True
    disk.remove("file")  # the name does not matter
    assert file.shared() is True
    other.close()
    assert file.shared() is False
    file.close()


def test_a_hole_takes_no_room_and_what_was_written_does(disk):
    file = disk.open("file", create=True)
    file.truncate(4 * BLOCK_BYTES)
    file.pwrite(memoryview(b"x" * BLOCK_BYTES), BLOCK_BYTES)
    assert not file.takes_room(0, BLOCK_BYTES)
    assert file.takes_room(BLOCK_BYTES, BLOCK_BYTES)
    assert file.takes_room(0, 2 * BLOCK_BYTES)
    assert not file.takes_room(2 * BLOCK_BYTES, 2 * BLOCK_BYTES)
    file.punch(BLOCK_BYTES, BLOCK_BYTES)
    assert not file.takes_room(0, 4 * BLOCK_BYTES)
    file.close()


def test_a_removed_name_changes_the_stamp_of_who_has_it_open(disk):
    file = disk.open("file", create=True)
    file.pwrite(memoryview(b"x"), 0)
    before = file.stamp()
    time.sleep(0.02)  # noqa: TID251 - longer than a tick of the kernel's clock
    disk.remove("file")
    assert file.stamp() != before
    file.close()
