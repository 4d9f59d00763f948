"""SEMANTICS.md, "The mount": opening, reading, mapping."""

import mmap
import os
import random
import shutil
import socket
import subprocess
import threading

import pytest

from tests.fuse.mounting import MIB
from tests.fuse.shown import FILES, HUGE, HUGE_BYTES

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

PATH = "weights/model.safetensors"
CONTENT = FILES[PATH]


@pytest.fixture
def file(shown):
    descriptor = os.open(shown / PATH, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def forget(descriptor):
    """Make the kernel drop what it has of a file."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def test_every_file_reads_as_the_origin_has_it(shown):
    assert {path: (shown / path).read_bytes() for path in FILES} == FILES


def test_any_range_reads_as_pread_says(file):
    draw = random.Random(5)
    for _ in range(200):
        if draw.random() < 0.1:
            forget(file)
        offset, length = draw.randrange(len(CONTENT) + 10_000), draw.randrange(300_000)
        assert os.pread(file, length, offset) == CONTENT[offset : offset + length]


def test_a_read_at_or_after_the_end_gives_nothing(file):
    assert os.pread(file, 10, len(CONTENT)) == b""
    assert os.pread(file, 10, len(CONTENT) + MIB) == b""
    assert os.pread(file, 10, len(CONTENT) - 4) == CONTENT[-4:]


def test_a_mapping_has_the_bytes_of_the_file_and_zeros_to_the_end_of_its_last_page(file):
    for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
        forget(file)
        with mmap.mmap(file, 0, flags, mmap.PROT_READ) as mapped:
            assert mapped[MIB : MIB + 10] == CONTENT[MIB : MIB + 10]
            assert mapped[:] == CONTENT
    last = len(CONTENT) // mmap.PAGESIZE * mmap.PAGESIZE
    with mmap.mmap(file, len(CONTENT) - last, prot=mmap.PROT_READ, offset=last) as page:
        assert page[:] == CONTENT[last:]


def test_a_mapping_outlives_the_descriptor(shown):
    with (shown / PATH).open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
    with mapped:
        assert mapped[:] == CONTENT


def test_reads_past_the_page_cache_give_the_same(shown):
    descriptor = os.open(shown / PATH, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4 * MIB) as buffer:
            count = os.preadv(descriptor, [buffer], 0)
            assert buffer[:count] == CONTENT[:count]
            assert count == len(CONTENT)
            assert os.preadv(descriptor, [buffer], MIB) == len(CONTENT) - MIB
            assert buffer[: len(CONTENT) - MIB] == CONTENT[MIB:]
    finally:
        os.close(descriptor)


def test_whatever_copies_inside_the_kernel_gives_the_same(shown, tmp_path):
    subprocess.run(["cp", shown / PATH, tmp_path / "copy"], check=True)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert shutil.copyfile(shown / PATH, tmp_path / "other") == tmp_path / "other"
    assert (tmp_path / "other").read_bytes() == CONTENT
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=theirs.sendfile, args=((shown / PATH).open("rb"),))
        sender.start()
        received = bytearray()
        while len(received) < len(CONTENT):
            received += ours.recv(MIB)
        sender.join()
    assert received == CONTENT


def test_a_file_is_one_run_of_data_without_holes(shown):
    descriptor = os.open(shown / HUGE, os.O_RDONLY)
    try:
        assert os.lseek(descriptor, MIB, os.SEEK_DATA) == MIB
        assert os.lseek(descriptor, MIB, os.SEEK_HOLE) == HUGE_BYTES
    finally:
        os.close(descriptor)


def test_many_readers_of_one_file_get_right_bytes(shown):
    wrong = []

    def read(seed):
        draw = random.Random(seed)
        with (shown / PATH).open("rb", buffering=0) as opened:
            for _ in range(60):
                if draw.random() < 0.2:
                    forget(opened.fileno())
                offset = draw.randrange(len(CONTENT))
                length = draw.randrange(1, 400_000)
                if os.pread(opened.fileno(), length, offset) != CONTENT[offset : offset + length]:
                    wrong.append((seed, offset, length))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_hint_on_how_a_file_will_be_read_is_taken(file):
    for advice in (os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_RANDOM, os.POSIX_FADV_WILLNEED):
        os.posix_fadvise(file, 0, 0, advice)
        assert os.pread(file, 100, MIB) == CONTENT[MIB : MIB + 100]
