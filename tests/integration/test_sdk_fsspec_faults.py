"""The file system ``cachefs://`` when things go wrong: right bytes or an error, and never mixed."""

import copy
import threading

import fsspec
import pytest

from cachefs.config.schema import ReaderConfig
from cachefs.errors import CacheFSError, CoordinatorUnavailableError
from tests.integration.sdk_systems import BLOCK, running

pytestmark = pytest.mark.slow


def write(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


FIRST = {"a": b"a1" * BLOCK, "b": b"b1" * BLOCK}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changing")
    with running(folder, {"data": write(folder / "origin", FIRST)}, workers=2) as system:
        system.origin = folder / "origin"
        yield system


@pytest.fixture
def changing(shared):
    """Return a system of two workers, of which each holds its part of what the dataset was at first."""
    shared.mend("w0", "w1")
    (shared.origin / "c").unlink(missing_ok=True)
    write(shared.origin, FIRST)
    shared.api.post("/v1/datasets/default/data/update")
    assert shared.wait_for_job(shared.warm("data"))["state"] == "done"
    return shared


def test_a_file_system_stays_at_a_version_when_the_dataset_changes(changing):
    fs = fsspec.filesystem("cachefs", state=changing.folder, skip_instance_cache=True)
    version = fs.info("data")["version"]
    before = (fs.checksum("data/a"), fs.ukey("data"), fs.modified("data/a"))
    assert fs.cat_file("data/a") == b"a1" * BLOCK
    write(changing.origin, {"a": b"a2" * BLOCK, "b": b"b2" * BLOCK, "c": b"c"})
    changing.api.post("/v1/datasets/default/data/update")
    fresh = fsspec.filesystem("cachefs", state=changing.folder, skip_instance_cache=True)
    assert fresh.cat(["data/a", "data/b"]) == {"data/a": b"a2" * BLOCK, "data/b": b"b2" * BLOCK}
    assert fs.cat(["data/a", "data/b"]) == {"data/a": b"a1" * BLOCK, "data/b": b"b1" * BLOCK}
    assert not fs.exists("data/c")
    sent = copy.copy(fs)  # as another process gets it
    assert sent is not fs
    assert sent.cat_file("data/a", 0, 2) == b"a1"
    assert (fs.checksum("data/a"), fs.ukey("data"), fs.modified("data/a")) == before
    assert fresh.checksum("data/a") != before[0]
    assert fresh.cat_file(f"data@{version}/a", 0, 2) == b"a1"
    with fs.open("data/a") as file:
        assert file.read(2) == b"a1"
        fs.invalidate_cache()
        assert fs.cat_file("data/b", 0, 2) == b"b2"
        file.seek(BLOCK)
        assert file.read(2) == b"a1"
    fixed = fsspec.filesystem("cachefs", state=changing.folder, versions={"data": version})
    fixed.invalidate_cache()
    assert fixed.cat_file("data/b", 0, 2) == b"b1"


def test_bytes_are_right_or_an_error_while_workers_die(changing):
    config = ReaderConfig(deadline_seconds=4.0, stall_seconds=1.0, block_cache_bytes=0)
    fs = fsspec.filesystem("cachefs", state=changing.folder, config=config)
    assert fs.cat_file("data/a") == b"a1" * BLOCK
    ended = threading.Event()
    wrong, errors = [], []

    def read():
        while not ended.is_set():
            try:
                found = fs.cat_ranges(["data/a"] * 4, [0, 7, 9, BLOCK], [3, 17, None, None])
            except CacheFSError as error:
                errors.append(error)
                continue
            expected = [
                (b"a1" * BLOCK)[each]
                for each in (slice(3), slice(7, 17), slice(9, None), slice(BLOCK, None))
            ]
            for one, other in zip(found, expected, strict=True):
                if isinstance(one, CacheFSError):
                    errors.append(one)
                elif one != other:
                    wrong.append(one)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for each in readers:
        each.start()
    changing.kill("w0")
    assert fs.cat_file("data/b") == b"b1" * BLOCK, "the other worker fills what is lost"
    changing.kill("w1")
    with pytest.raises(CacheFSError):
        fs.cat_file("data/b")
    ended.set()
    for each in readers:
        each.join(20)
    assert not any(each.is_alive() for each in readers)
    assert wrong == []
    assert errors


def test_nobody_there_is_not_the_same_as_nothing_there(changing):
    fs = fsspec.filesystem("cachefs", state=changing.folder, skip_instance_cache=True)
    for name in ("coordinator", "w0", "w1"):
        changing.kill(name)
    for ask in (fs.info, fs.exists, fs.isdir, fs.isfile, fs.ls, fs.find, fs.open):
        with pytest.raises(CoordinatorUnavailableError):
            ask("data/a")
    with pytest.raises(CoordinatorUnavailableError):
        fs.glob("*")


def test_a_copy_that_fails_leaves_nothing(changing, tmp_path):
    config = ReaderConfig(deadline_seconds=2.0, stall_seconds=0.5, local=False)
    fs = fsspec.filesystem("cachefs", state=changing.folder, config=config)
    assert fs.info("data/a")["size"] == 2 * BLOCK
    changing.kill("w0")
    changing.kill("w1")
    target = tmp_path / "copies" / "a"
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(CacheFSError):
        fs.get_file("data/a", str(target))
    assert [each.name for each in target.parent.iterdir()] == ["a"]
    assert target.read_bytes() == b"old"


def test_no_system_is_said_so(tmp_path):
    fs = fsspec.filesystem("cachefs", state=tmp_path)
    with pytest.raises(CoordinatorUnavailableError, match="not running"):
        fs.ls("")
