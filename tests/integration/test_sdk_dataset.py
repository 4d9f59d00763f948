"""Datasets for programs: files as Python has them, ranges, paths on this node, coroutines."""

import asyncio
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cachefs.config.schema import ReaderConfig
from cachefs.errors import ConfigError, NotKnownError
from cachefs.sdk import open_dataset
from cachefs.sdk.asynchronous import aopen_dataset
from tests.integration.sdk_systems import BLOCK, running
from tests.integration.systems import wait_for

pytestmark = pytest.mark.slow

LARGE = random.Random(2).randbytes(9 * BLOCK + 77)
ONE_BLOCK = random.Random(3).randbytes(1000)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origin")
    (folder / "large.bin").write_bytes(LARGE)
    (folder / "small.bin").write_bytes(ONE_BLOCK)
    (folder / "config.json").write_text('{"layers": 1}')
    (folder / "lines.txt").write_text("one\ntwo\nthree\n")
    (folder / "empty").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def system(origin, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "small.bin").write_bytes(ONE_BLOCK)
    folders = {"warm": origin, "cold": other}
    with running(tmp_path_factory.mktemp("run"), folders, ("warm",), workers=2) as system:
        yield system


@pytest.fixture(params=[True, False], ids=["local", "remote"])
def dataset(system, request):
    with open_dataset("warm", state=system.folder, config=ReaderConfig(local=request.param)) as it:
        yield it


def test_a_file_is_one_as_python_has_them(dataset):
    with dataset.open("large.bin") as file:
        assert isinstance(file, io.RawIOBase)
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert (file.name, file.size, file.mode) == ("large.bin", len(LARGE), "rb")
        assert file.read(10) == LARGE[:10]
        assert file.tell() == 10
        assert file.seek(-5, io.SEEK_END) == len(LARGE) - 5
        assert file.read() == LARGE[-5:]
        assert file.read() == b""
        assert file.seek(0) == 0
        assert file.seek(BLOCK - 3, io.SEEK_CUR) == BLOCK - 3
        buffer = bytearray(10)
        assert file.readinto(buffer) == 10
        assert buffer == LARGE[BLOCK - 3 : BLOCK + 7]
        assert file.read_at(5, 3) == LARGE[5:8]
        assert file.tell() == BLOCK + 7
        assert file.seek(len(LARGE) + 10) == len(LARGE) + 10
        assert file.readinto(buffer) == 0
        file.seek(0)
        assert file.readall() == LARGE
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_what_a_file_cannot_do_is_refused(dataset):
    with dataset.open("small.bin") as file:
        for offset, whence in ((-1, 0), (-1001, 2), (0, 7)):
            with pytest.raises(ValueError, match=r"position|whence"):
                file.seek(offset, whence)
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")


def test_python_s_own_readers_go_on_top_of_it(dataset):
    with io.BufferedReader(dataset.open("large.bin"), 1000) as buffered:
        buffered.seek(17)
        assert buffered.read(5000) == LARGE[17:5017]
        assert buffered.peek(1)[:1] == LARGE[5017:5018]
    with dataset.open("config.json") as file:
        assert json.load(file) == {"layers": 1}
    with io.TextIOWrapper(io.BufferedReader(dataset.open("lines.txt"))) as text:
        assert [line.strip() for line in text] == ["one", "two", "three"]
    with dataset.open("lines.txt") as file:
        assert file.readlines() == [b"one\n", b"two\n", b"three\n"]


def test_buffers_of_any_kind_are_filled(dataset):
    whole = memoryview(bytearray(64))
    with dataset.open("large.bin") as file:
        for buffer in (bytearray(64), whole.cast("I"), whole):
            file.seek(0)
            assert file.readinto(buffer) == 64
            assert bytes(memoryview(buffer).cast("B")) == LARGE[:64]


def test_ranges_of_several_files_are_read_end_to_end(dataset):
    draw = random.Random(4)
    ranges = [("small.bin", 0, 1000), ("empty", 0, 0)]
    for _ in range(40):
        offset = draw.randrange(len(LARGE))
        ranges.append(("large.bin", offset, draw.randrange(len(LARGE) - offset)))
    contents = {"large.bin": LARGE, "small.bin": ONE_BLOCK, "empty": b""}
    expected = [contents[path][offset : offset + length] for path, offset, length in ranges]
    assert [bytes(view) for view in dataset.read_ranges(ranges)] == expected
    total = sum(len(each) for each in expected)
    into = bytearray(total + 3)
    views = dataset.read_ranges(ranges, into=into)
    assert into[:total] == b"".join(expected)
    into[0] ^= 0xFF
    assert views[0][0] == into[0], "the views are of the caller's buffer"
    assert dataset.read_ranges([]) == []


def test_ranges_that_cannot_be_read_are_refused_before_any_is(dataset):
    before = sum(dataset.statistics().bytes_by_source.values())
    for wrong in (("small.bin", 999, 2), ("small.bin", -1, 2), ("small.bin", 0, -1)):
        with pytest.raises(ConfigError):
            dataset.read_ranges([("large.bin", 0, 10), wrong])
    with pytest.raises(NotKnownError):
        dataset.read_ranges([("large.bin", 0, 10), ("nothing", 0, 1)])
    with pytest.raises(ConfigError):
        dataset.read_ranges([("large.bin", 0, 10)], into=bytearray(9))
    assert sum(dataset.statistics().bytes_by_source.values()) == before


def test_a_path_of_the_whole_file_is_for_other_programs(system):
    with open_dataset("warm", state=system.folder) as dataset:
        path = dataset.local_path("small.bin")
        assert path.startswith("/proc/self/fd/")
        assert dataset.local_path("small.bin") == path
        assert Path(path).read_bytes() == ONE_BLOCK
        with pytest.raises(OSError, match="Bad file"):
            os.write(int(path.rpartition("/")[2]), b"x")
        child = path.replace("self", str(os.getpid()))
        program = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
        read = subprocess.run(
            [sys.executable, "-c", program, child], capture_output=True, check=True
        )
        assert read.stdout == ONE_BLOCK
    with open_dataset("warm", state=system.folder, config=ReaderConfig(local=False)) as dataset:
        assert dataset.local_path("small.bin") is None
    with open_dataset("cold", state=system.folder) as dataset, pytest.raises(NotKnownError):
        dataset.local_path("nothing")


def test_a_prefetch_brings_files_in(system):
    with open_dataset("cold", state=system.folder) as dataset:
        assert dataset.local_path("small.bin") is None
        assert system.wait_for_job(dataset.prefetch("small.bin"))["state"] == "done"
        path = wait_for(lambda: dataset.local_path("small.bin"))
        assert Path(path).read_bytes() == ONE_BLOCK


def test_coroutines_read_the_same(system):
    async def read():
        async with await aopen_dataset("warm", state=system.folder) as dataset:
            assert dataset.name == "warm"
            assert "large.bin" in list(dataset)
            assert await dataset.read("small.bin") == ONE_BLOCK
            views = await dataset.read_ranges([("large.bin", 5, 6), ("small.bin", 0, 3)])
            assert [bytes(view) for view in views] == [LARGE[5:11], ONE_BLOCK[:3]]
            async with await dataset.open("large.bin") as file:
                assert file.size == len(LARGE)
                parts = await asyncio.gather(
                    *(file.read_into(at, memoryview(bytearray(10))) for at in range(20))
                )
                assert parts == [10] * 20
                assert await file.read(5) == LARGE[:5]
                assert file.seek(-2, io.SEEK_END) == len(LARGE) - 2
                buffer = bytearray(9)
                assert await file.readinto(buffer) == 2
                assert buffer[:2] == LARGE[-2:]
            assert await dataset.local_path("small.bin")
            assert dataset.statistics().bytes_by_source["local"] > 0

    asyncio.run(read())


def test_a_name_that_is_a_file_s_is_refused(system):
    with pytest.raises(ConfigError, match="names a file"):
        open_dataset("warm@abcdef/small.bin", state=system.folder)
    with pytest.raises(NotKnownError):
        open_dataset("nothing", state=system.folder)
