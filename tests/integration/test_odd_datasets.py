"""Odd datasets: names, sizes and numbers of files at the edge of what is legal, read on every road."""

import os
import random
import unicodedata
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from cachefs.errors import CacheFSError, ConfigError, NotKnownError, OriginNotFoundError
from tests.integration.systems import PacedOrigin, System

BLOCK = 4096
WORKERS = ("w1", "w2")
SIZES = sorted(
    {0, 1, 2, 511, 512, 513}
    | {count * BLOCK + odd for count in (1, 2, 3, 16) for odd in (-1, 0, 1)}
    | {5 * BLOCK + BLOCK // 2}
)
NAMES = [
    "with spaces .bin",
    " begins and ends with one ",
    "new\nline\r.bin",
    "tab\t\x01\x1b[31mred\x7f",
    "-rf",
    "--",
    "~root",
    "...",
    "quote'\"`$(touch x);|&<>*?[a].bin",
    "back\\slash\\..\\up",
    "percent%2F%00%0a.bin",
    "hash#query?dataset=other&version=0",
    "plus+and@at=:colon",
    "größe-模型-نموذج-🤖.safetensors",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "CASE",
    "case",
    "n" * 255,
    "ü" * 127,
    "/".join(["deep" * 50] * 12),
    "folder/.hidden/.bin",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with System(tmp_path_factory.mktemp("odd"), block_size=BLOCK) as system:
        system.start_coordinator()
        for name in WORKERS:
            system.start_worker(name)
        system.settle(*WORKERS)
        yield system


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "odd origin"
    made.mkdir()
    return made


def write(folder, path, content):
    """Write a file whose whole path may be longer than one call to the system takes."""
    *folders, name = path.split("/")
    place = os.open(folder, os.O_RDONLY)
    for each in folders:
        with suppress(FileExistsError):
            os.mkdir(each, dir_fd=place)
        inner = os.open(each, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=place)
    os.close(place)
    with os.fdopen(file, "wb") as opened:
        opened.write(content)


def url_of(folder):
    return f"file://{quote(str(folder))}"


def check_whole(system, name, contents, **config):
    """Read a dataset whole, by every file."""
    with system.open(name, **config) as dataset:
        assert {entry.path: entry.size for entry in dataset.files} == {
            path: len(content) for path, content in contents.items()
        }
        for path, content in contents.items():
            assert dataset.read(path) == content, path


def test_odd_names_are_listed_warmed_and_read_byte_for_byte(system, folder):
    contents = {path: random.Random(path).randbytes(BLOCK + 7) for path in NAMES}
    for path, content in contents.items():
        write(folder, path, content)
    system.add("names", url_of(folder))
    assert system.wait_for_job(system.warm("names"))["state"] == "done"
    check_whole(system, "names", contents)
    check_whole(system, "names", contents, local=False)
    for path in NAMES:
        explained = system.api.get(f"/v1/explain?dataset=names&path={quote(path, safe='')}")
        assert (explained["path"], explained["size"]) == (path, BLOCK + 7)
    job = system.api.post("/v1/warm", {"dataset": "names", "paths": ["new\nline\r.bin", "é"]})
    assert system.wait_for_job(job["id"])["bytes_total"] == 2 * (BLOCK + 7)


def test_a_name_of_the_index_page_of_a_web_server_is_not_misread(system, folder):
    paths = ["with spaces .bin", "größe-模型.bin", "percent%2F.bin", "plus+and@at=.bin"]
    contents = {path: path.encode() * 100 for path in paths}
    for path, content in contents.items():
        write(folder, quote(path), content)  # the test's server looks up what it is asked for
    with PacedOrigin(folder) as origin:
        system.add("web-names", f"{origin.url}/")
        check_whole(system, "web-names", contents)


def test_a_name_that_is_not_unicode_is_refused_with_its_name_and_can_be_left_out(system, folder):
    write(folder, "good", b"good")
    os.close(os.open(os.fsencode(folder) + b"/bad\xff.bin", os.O_WRONLY | os.O_CREAT, 0o644))
    with pytest.raises(ConfigError, match="bad"):
        system.add("not-unicode", url_of(folder))
    with pytest.raises(NotKnownError):
        system.open("not-unicode")
    system.add("not-unicode", url_of(folder), exclude=["bad*"])
    check_whole(system, "not-unicode", {"good": b"good"})


@pytest.mark.parametrize("local", [True, False], ids=["descriptors", "network"])
def test_files_of_every_size_around_a_block_are_exact(system, folder, local):
    name = f"sizes-{'local' if local else 'network'}"
    contents = {f"{size:05}": random.Random(size).randbytes(size) for size in SIZES}
    for path, content in contents.items():
        write(folder, path, content)
    system.add(name, url_of(folder))
    check_whole(system, name, contents, local=local)
    with system.open(name, local=local) as dataset:
        for path, content in contents.items():
            check_ranges(dataset, path, content)
    job = system.wait_for_job(system.warm(name))
    blocks = sum(-(-size // BLOCK) for size in SIZES)
    assert (job["state"], job["bytes_done"], job["blocks_done"]) == ("done", sum(SIZES), blocks)


def check_ranges(dataset, path, content):
    """Read ranges that begin and end at, before and after the edges of blocks and of the file."""
    size = len(content)
    edges = {0, 1, size - 1, size, size + 1, size + BLOCK}
    edges |= {BLOCK * (size // BLOCK) + odd for odd in (-1, 0, 1)} | {BLOCK - 1, BLOCK, BLOCK + 1}
    edges = sorted(edge for edge in edges if edge >= 0)
    with dataset.open(path) as file:
        assert file.size == size
        for begin in edges:
            for end in edges:
                if end < begin:
                    continue
                into = bytearray(b"\xa5" * (end - begin + 3))
                count = file.read_into(begin, memoryview(into)[: end - begin])
                assert bytes(into[:count]) == content[begin:end], (path, begin, end)
                assert into[end - begin :] == b"\xa5" * 3, "written behind the buffer"


def test_empty_files_are_files_and_are_warm_at_once(system, folder):
    for path in ("a", "b/c", "d.safetensors"):
        write(folder, path, b"")
    (folder / "empty folder").mkdir()
    system.add("empty-files", url_of(folder))
    job = system.wait_for_job(system.warm("empty-files"))
    assert (job["state"], job["blocks_total"], job["bytes_total"]) == ("done", 0, 0)
    contents = {"a": b"", "b/c": b"", "d.safetensors": b""}
    check_whole(system, "empty-files", contents)
    check_whole(system, "empty-files", contents, local=False)
    with system.open("empty-files") as dataset, dataset.open("a") as file:
        assert file.read() == b""
        assert file.read_at(0, 10) == b""
        path = dataset.local_path("a")
        assert path is None or Path(path).stat().st_size == 0


@pytest.mark.parametrize("exclude", [[], ["*"]], ids=["an empty folder", "everything left out"])
def test_an_origin_without_a_file_is_refused_and_leaves_no_dataset(system, folder, exclude):
    (folder / "only a folder").mkdir()
    if exclude:
        write(folder, "a", b"a")
    with pytest.raises(OriginNotFoundError):
        system.add("no-files", url_of(folder), exclude=exclude)
    with pytest.raises(NotKnownError):
        system.open("no-files")


def test_a_dataset_that_has_lost_all_files_keeps_its_version(system, folder):
    write(folder, "a", b"content")
    system.add("lost", url_of(folder))
    with system.open("lost") as dataset:
        version = dataset.version
        assert dataset.read("a") == b"content"
    (folder / "a").unlink()
    with pytest.raises(OriginNotFoundError):
        system.api.post("/v1/datasets/default/lost/update")
    with system.open("lost") as dataset:
        assert dataset.version == version
        assert dataset.read("a") == b"content"


def test_what_is_no_file_of_the_dataset_is_not_known(system, folder):
    write(folder, "folder/a", b"a")
    system.add("paths", url_of(folder))
    with system.open("paths") as dataset:
        for path in ("folder", "folder/b", "A", "folder/a/b", "n" * 256, "x/" * 3000 + "x"):
            with pytest.raises(NotKnownError):
                dataset.read(path)
        for path in ("../paths/folder/a", "/folder/a", "folder//a", "folder/./a", "a\0b", ""):
            with pytest.raises(CacheFSError):
                dataset.read(path)
