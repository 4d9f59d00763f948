"""The file system ``cachefs://``: what is there, bytes, copies, other processes."""

import asyncio
import errno
import io
import json
import multiprocessing
import os
import random
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress

import fsspec
import pytest

from cachefs.config.schema import ReaderConfig
from cachefs.sdk.filesystem import copies
from tests.integration.sdk_systems import BLOCK, running

pytestmark = pytest.mark.slow

DRAW = random.Random(11)
LARGE = DRAW.randbytes(9 * BLOCK + 77)
FILES = {
    "large.bin": LARGE,
    "block.bin": DRAW.randbytes(4321),
    "icon@2x.png": b"icon",
    "a/one": b"1",
    "a/b/two": b"22",
    "a-b/three": b"333",
    "lines.txt": b"one\ntwo\n\nfour",
    "empty": b"",
}


def write(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    many = write(tmp_path_factory.mktemp("many"), FILES)
    other = write(tmp_path_factory.mktemp("other"), {"config.json": b"{}"})
    origins = {"many": many, "team/llama": other, "team/qwen": other}
    with running(tmp_path_factory.mktemp("run"), origins, ("many",), workers=2) as system:
        yield system


@pytest.fixture(params=[True, False], ids=["local", "remote"])
def fs(system, request):
    config = ReaderConfig(local=request.param)
    fs = fsspec.filesystem("cachefs", state=system.folder, config=config, skip_instance_cache=True)
    yield fs
    fs.close()


def test_fsspec_knows_the_protocol_by_itself(system):
    program = (
        "import fsspec, sys; print(fsspec.open('cachefs://many/lines.txt', 'rt').open().read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CACHEFS_STATE": str(system.folder)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "one\ntwo\n\nfour\n"
    assert done.stderr == ""


def test_folders_are_listed(fs):
    assert fs.ls("", detail=False) == ["many", "team"]
    assert fs.ls("cachefs://team", detail=False) == ["team/llama", "team/qwen"]
    assert fs.ls("team/llama/", detail=False) == ["team/llama/config.json"]
    assert fs.ls("many", detail=False) == [
        "many/a-b", "many/a", "many/block.bin", "many/empty", "many/icon@2x.png", "many/large.bin", "many/lines.txt",
    ]  # fmt: skip
    assert [each["type"] for each in fs.ls("many/a")] == ["directory", "file"]
    assert fs.ls("many/a/one", detail=False) == ["many/a/one"]


def test_trees_are_walked_and_searched(fs):
    assert fs.find("many") == sorted(f"many/{path}" for path in FILES)
    assert fs.find("many/a", withdirs=True) == ["many/a", "many/a/b", "many/a/b/two", "many/a/one"]
    assert fs.find("many", maxdepth=1) == sorted(
        f"many/{path}" for path in FILES if "/" not in path
    )
    assert fs.find("many/a/one") == ["many/a/one"]
    assert fs.find("many/nothing") == []
    assert fs.glob("cachefs://many/**/t*") == ["many/a-b/three", "many/a/b/two"]
    assert fs.glob("team/*/*.json") == ["team/llama/config.json", "team/qwen/config.json"]
    assert fs.glob("*/empty") == ["many/empty"]
    walked = {
        folder: (sorted(folders), sorted(files)) for folder, folders, files in fs.walk("many/a")
    }
    assert walked == {"many/a": (["b"], ["one"]), "many/a/b": ([], ["two"])}
    assert fs.du("many") == sum(map(len, FILES.values()))


def test_what_is_there_is_described(fs):
    version = fs.info("many")["version"]
    assert fs.info("cachefs://many/a") == {
        "name": "many/a", "size": 0, "type": "directory", "version": version,
        "mtime": fs.info("many")["mtime"],
    }  # fmt: skip
    one = fs.info(f"many@{version[:12]}/a/one")
    assert (one["name"], one["size"], one["type"]) == (f"many@{version[:12]}/a/one", 1, "file")
    assert (fs.isfile("many/a/one"), fs.isdir("many/a/one")) == (True, False)
    assert (fs.isfile("many/a"), fs.isdir("many/a")) == (False, True)
    assert fs.isdir("")
    assert fs.isdir("team")
    assert fs.size("many/large.bin") == len(LARGE)
    assert fs.checksum("many/a/one") == fs.checksum(f"many@{version}/a/one")
    assert fs.checksum("many/a/one") != fs.checksum("many/a/b/two")
    assert fs.ukey("many") == version
    assert fs.modified("many/a/one") == fs.created("many/lines.txt")
    assert fs.modified("many").year > 2024


@pytest.mark.parametrize(
    "path",
    [
        "many/nothing", "many/a/on", "many/a/one/two", "nothing", "nothing/x", "team/nothing/x",
        "many@abcdef/a/one", "many@nonsense/x", "many//a", "many/../many", "Bad Name/x", "team@abcd",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(fs, path):
    for ask in (
        fs.info,
        fs.ls,
        fs.open,
        fs.cat_file,
        lambda path: fs.get_file(path, "/nonexistent/x"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            ask(path)
        assert path in str(caught.value)
    assert (fs.exists(path), fs.isdir(path), fs.isfile(path)) == (False, False, False)


def test_bytes_are_those_of_the_source(fs):
    for start, end in (
        (None, None),
        (0, 10),
        (5, BLOCK + 5),
        (-7, None),
        (-9, -2),
        (9, 3),
        (0, 1 << 60),
    ):
        assert fs.cat_file("many/large.bin", start, end) == LARGE[start:end]
    assert fs.cat(["many/a/one", "many/empty"]) == {"many/a/one": b"1", "many/empty": b""}
    assert fs.cat("many/a*/*e*") == {"many/a/one": b"1", "many/a-b/three": b"333"}
    assert fs.head("many/large.bin", 9) == LARGE[:9]
    assert fs.tail("many/large.bin", 9) == LARGE[-9:]
    assert fs.read_block("many/lines.txt", 2, 3, delimiter=b"\n") == b"two\n"
    with pytest.raises(IsADirectoryError):
        fs.cat_file("many/a")


def test_ranges_are_read_in_one_batch(fs):
    draws = [(DRAW.randrange(len(LARGE)), DRAW.randrange(len(LARGE))) for _ in range(50)]
    starts, ends = zip(*draws, strict=True)
    paths = ["many/large.bin"] * len(draws)
    expected = [LARGE[start:end] for start, end in draws]
    assert fs.cat_ranges(paths, starts, ends, max_gap=5) == expected
    assert fs.cat_ranges(["many/large.bin", "many/a/one"], 0, 4) == [LARGE[:4], b"1"]
    assert fs.cat_ranges([], [], []) == []
    found = fs.cat_ranges(["many/nothing", "many/a/one", "many/a"], 0, None)
    assert isinstance(found[0], FileNotFoundError)
    assert found[1] == b"1"
    assert isinstance(found[2], IsADirectoryError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["many/a/one", "many/nothing"], 0, None, on_error="raise")
    with pytest.raises(TypeError):
        fs.cat_ranges("many/a/one", 0, 1)


@pytest.mark.parametrize("buffer_bytes", [None, 17, BLOCK])
def test_an_open_file_is_seekable_and_buffered(fs, buffer_bytes):
    with fs.open("many/large.bin", block_size=buffer_bytes) as file:
        plain = io.BytesIO(LARGE)
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert (file.size, file.path, file.name, file.mode) == (
            len(LARGE), "many/large.bin", "large.bin", "rb",
        )  # fmt: skip
        assert file.full_name == "cachefs://many/large.bin"
        assert file.info()["file_version"] == fs.info("many/large.bin")["file_version"]
        for _ in range(300):
            offset, length = (
                DRAW.randrange(len(LARGE)),
                DRAW.choice([0, 1, 5, 100, BLOCK, len(LARGE)]),
            )
            file.seek(offset)
            plain.seek(offset)
            assert file.read(length) == plain.read(length)
            assert file.loc == plain.tell()
        buffer, other = bytearray(BLOCK * 2), bytearray(BLOCK * 2)
        assert (file.seek(-BLOCK, 2), plain.seek(-BLOCK, 2))[0] == len(LARGE) - BLOCK
        assert file.readinto(buffer) == plain.readinto(other)
        assert buffer == other
        file.seek(0)
        assert file.read() == LARGE
    assert file.closed


def test_text_and_compressed_files_are_read(fs):
    with fs.open("many/lines.txt", "r", encoding="utf-8") as file:
        assert list(file) == ["one\n", "two\n", "\n", "four"]
    with fs.open("many/lines.txt") as file:
        assert file.readline() == b"one\n"
        assert file.readlines() == [b"two\n", b"\n", b"four"]


def test_small_reads_in_order_do_not_ask_for_each(fs):
    reads = []
    with fs.open("many/large.bin", block_size=BLOCK) as file:
        read_into = file.raw._file.read_into
        file.raw._file.read_into = lambda offset, into: (
            reads.append(offset) or read_into(offset, into)
        )
        assert b"".join(iter(lambda: file.read(100), b"")) == LARGE
    assert len(reads) <= len(LARGE) // BLOCK + 3  # the end is met twice


def test_coroutines_read_the_same(system):
    async def read():
        fs = fsspec.filesystem("cachefs", state=system.folder, asynchronous=True)
        assert await fs._cat_file("many/large.bin", 5, 9) == LARGE[5:9]
        assert await fs._cat_ranges(["many/a/one", "many/large.bin"], [0, 1], [1, 2]) == [
            b"1", LARGE[1:2],
        ]  # fmt: skip
        assert (await fs._info("many/a/one"))["size"] == 1
        assert await fs._find("many/a") == ["many/a/b/two", "many/a/one"]
        assert not await fs._exists("many/nothing")
        found = await fs._cat(["many/a/one", "many/a/b/two"])
        assert found == {"many/a/one": b"1", "many/a/b/two": b"22"}
        async with await fs.open_async("many/large.bin") as file:
            assert file.seek(-3, io.SEEK_END) == len(LARGE) - 3
            assert await file.read() == LARGE[-3:]
        with pytest.raises(OSError, match="Read-only"):
            await fs.open_async("many/new", "wb")

    asyncio.run(read())


def test_whatever_would_write_is_refused(fs, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for attempt in (
        lambda: fs.open("many/new", "wb"),
        lambda: fs.open("many/new", "a"),
        lambda: fs.pipe_file("many/new", b"x"),
        lambda: fs.pipe({"many/new": b"x"}),
        lambda: fs.put(str(tmp_path / "file"), "many/new"),
        lambda: fs.cp_file("many/a/one", "many/new"),
        lambda: fs.copy("many/a/one", "many/new"),
        lambda: fs.mv("many/a/one", "many/new"),
        lambda: fs.rm("many/a/one"),
        lambda: fs.rm("many", recursive=True),
        lambda: fs.rm_file("many/a/one"),
        lambda: fs.mkdir("many/new"),
        lambda: fs.makedirs("many/new"),
        lambda: fs.rmdir("many/a"),
        lambda: fs.touch("many/new"),
    ):
        with pytest.raises(OSError, match="Read-only file system") as caught:
            attempt()
        assert caught.value.errno == errno.EROFS
    fs.makedirs("many/a", exist_ok=True)
    with pytest.raises(NotImplementedError):
        fs.sign("many/a/one")


def test_a_tree_is_copied_whole_or_not_at_all(fs, tmp_path):
    told = fsspec.callbacks.Callback()
    fs.get("many", f"{tmp_path}/all", recursive=True)
    found = {path: (tmp_path / "all" / path).read_bytes() for path in FILES}
    assert found == FILES
    fs.get_file("many/large.bin", tmp_path / "all" / "new" / "x", callback=told)
    assert (tmp_path / "all" / "new" / "x").read_bytes() == LARGE
    assert told.value == told.size == len(LARGE)
    old = os.umask(0)
    os.umask(old)
    assert (tmp_path / "all" / "new" / "x").stat().st_mode & 0o777 == 0o666 & ~old
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        fs.get_file("many/large.bin", str(tmp_path / "folder"))
    with pytest.raises(OSError, match="lines"):
        fs.get_file("many/large.bin", str(tmp_path / "all" / "lines.txt" / "x"))
    assert not list(tmp_path.rglob("*.part"))


def test_the_kernel_copies_what_is_whole_here(system, tmp_path, monkeypatch):
    fs = fsspec.filesystem("cachefs", state=system.folder)
    counts, kernel_copies = [], os.copy_file_range
    monkeypatch.setattr(copies, "_KERNEL_BYTES", 1000)
    monkeypatch.setattr(
        os, "copy_file_range", lambda *words: counts.append(kernel_copies(*words)) or counts[-1]
    )
    fs.get_file("many/block.bin", tmp_path / "whole")
    assert counts == [1000] * 4 + [321]
    assert (tmp_path / "whole").read_bytes() == FILES["block.bin"]

    def refuse(*words):
        if len(counts) == 7:
            raise OSError(errno.EXDEV, "not between these")
        counts.append(kernel_copies(*words))
        return counts[-1]

    monkeypatch.setattr(os, "copy_file_range", refuse)
    fs.get_file("many/block.bin", tmp_path / "partly")
    assert (tmp_path / "partly").read_bytes() == FILES["block.bin"]


def child_reads(fs, file, of_parent):
    """Say in the child of a fork what it reads, by its exit code: 0 if all is right."""
    with suppress(BaseException):
        right = fs.cat_file("many/large.bin") == LARGE and file.read() == LARGE[10:]
        own = fs._contents.pins.reader is not of_parent[0] and file.raw._file is not of_parent[1]
        os._exit(0 if right and own and fs.ls("many/a") else 1)
    os._exit(2)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_reads_on_with_connections_of_its_own(fs):
    with fs.open("many/large.bin", block_size=100) as file:
        assert file.read(10) == LARGE[:10]
        of_parent = (fs._contents.pins.reader, file.raw._file)
        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                child_reads(fs, file, of_parent)
            children.append(child)
            assert fs.cat_file("many/large.bin", 3, 5 * BLOCK) == LARGE[3 : 5 * BLOCK]
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 3
        assert file.read() == LARGE[10:]
        assert fs.cat_file("many/a/one") == b"1"


def what_another_process_reads(fs, file):
    return fs.versions, fs.cat_file("many/a/one"), file.read(5), fs.info("many/a/one")["version"]


def test_file_systems_and_files_are_sent_to_other_processes(fs):
    version = fs.info("many")["version"]
    with fs.open("many/large.bin") as file:
        file.seek(7)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(what_another_process_reads, fs, file).result(60)
    assert found == ({"many": version}, b"1", LARGE[7:12], version)


def test_the_same_options_are_one_file_system(system):
    first = fsspec.filesystem("cachefs", state=system.folder)
    assert fsspec.filesystem("cachefs", state=system.folder) is first
    assert (
        fsspec.filesystem("cachefs", state=str(system.folder), versions={"many": "ab"}) is not first
    )
    assert fsspec.url_to_fs("cachefs://many/a/one", state=system.folder) == (first, "many/a/one")


def test_many_threads_share_a_file_system(fs):
    def read(at):
        return fs.cat_file("many/large.bin", at, at + 1000) == LARGE[at : at + 1000]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, [DRAW.randrange(len(LARGE)) for _ in range(100)]))


def test_a_closed_file_system_connects_again_at_the_same_versions(fs):
    version = fs.info("many")["version"]
    fs.close()
    fs.close()
    assert fs.versions == {"many": version}
    assert fs.cat_file("many/a/one") == b"1"


def test_a_program_ends_without_closing_anything(system):
    program = (
        "import fsspec, sys\n"
        "fs = fsspec.filesystem('cachefs')\n"
        "file = fs.open('many/large.bin')\n"
        "assert len(file.read(9)) == 9 and len(fs.cat('many/large.bin')) > 9\n"
        "print('read')\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        env={**os.environ, "CACHEFS_STATE": str(system.folder)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr


def test_other_file_systems_of_fsspec_go_on_top_of_it(system, tmp_path):
    options = {"cachefs": {"state": system.folder}}
    url = "simplecache::cachefs://many/large.bin"
    with fsspec.open(url, simplecache={"cache_storage": str(tmp_path)}, **options) as file:
        assert file.read() == LARGE
    top = fsspec.filesystem(
        "dir", path="many/a", fs=fsspec.filesystem("cachefs", state=system.folder)
    )
    assert top.cat_file("b/two") == b"22"
    mapper = fsspec.get_mapper("cachefs://many/a", state=system.folder)
    assert dict(mapper) == {"one": b"1", "b/two": b"22"}
    assert json.dumps(fsspec.filesystem("cachefs", state=str(system.folder)).to_dict())
