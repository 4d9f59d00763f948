"""Every sentence of ``Destination`` and ``Writing``, held against each store that is written to."""

import uuid
from dataclasses import dataclass

import fsspec
import pytest

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry
from cachefs.errors import ConfigError, OriginDeniedError, OriginNotFoundError, StepCancelledError
from cachefs.origins import open_origin
from cachefs.origins.destinations import Destination, NewFile, open_destination
from cachefs.testing.s3 import s3_server
from cachefs.transport.runtime import ThreadRuntime

MIB = 1024 * 1024
PART = 5 * MIB
CONFIG = OriginConfig(timeout_seconds=5, deadline_seconds=10)
SMALL = b"0123456789"
LARGE = bytes(range(256)) * (4096 * 12) + b"the end"


@dataclass
class Store:
    spec: OriginSpec
    destination: Destination

    def read(self, path: str) -> bytes | None:
        origin = open_origin(self.spec, CONFIG, ThreadRuntime())
        for file in origin.list_files():
            if file.path == path:
                entry = FileEntry(file.path, file.size, file.token, "", "")
                return bytes(origin.read_range(entry, 0, file.size))
        return None

    def token(self, path: str) -> str:
        origin = open_origin(self.spec, CONFIG, ThreadRuntime())
        return next(file.token for file in origin.list_files() if file.path == path)


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture(params=["file", "s3", "fsspec"])
def store(request, tmp_path, s3):
    if request.param == "file":
        spec = OriginSpec(f"file://{tmp_path}/to", {})
    elif request.param == "s3":
        bucket = f"bucket-{uuid.uuid4().hex[:8]}"
        s3.make_bucket(bucket)
        spec = s3.spec(f"{bucket}/to")
    else:
        spec = OriginSpec(f"memory://{uuid.uuid4().hex}/to", {})
    destination = open_destination(spec, CONFIG)
    yield Store(spec, destination)
    destination.close()
    if request.param == "fsspec":
        fsspec.filesystem("memory").store.clear()


def new(path: str, content: bytes, key: str = "run/copy token") -> NewFile:
    return NewFile(path, len(content), PART, key)


def never() -> bool:
    return False


def write(destination: Destination, path: str, content: bytes) -> str:
    writing = destination.begin(new(path, content))
    for offset in range(0, len(content), PART):
        writing.write(offset, memoryview(content)[offset : offset + PART], never)
    return writing.finish()


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "parts"])
def test_what_was_written_is_there_under_the_token_that_an_origin_lists(store, content):
    token = write(store.destination, "deep/ü #%/a.bin", content)
    assert store.read("deep/ü #%/a.bin") == content
    assert store.token("deep/ü #%/a.bin") == token


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "parts"])
def test_until_it_is_finished_what_was_there_stays_there(store, content):
    write(store.destination, "a.bin", b"before")
    writing = store.destination.begin(new("a.bin", content))
    writing.write(0, memoryview(content)[:PART], never)
    assert store.read("a.bin") == b"before"
    for offset in range(PART, len(content), PART):
        writing.write(offset, memoryview(content)[offset : offset + PART], never)
    writing.finish()
    assert store.read("a.bin") == content


def test_what_is_discarded_leaves_nothing(store):
    write(store.destination, "other", b"x")
    writing = store.destination.begin(new("a.bin", LARGE))
    writing.write(0, memoryview(LARGE)[:PART], never)
    writing.discard()
    assert store.read("a.bin") is None
    assert store.destination.resume(new("a.bin", LARGE), writing.state) is None
    names = [file.path for file in open_origin(store.spec, CONFIG, ThreadRuntime()).list_files()]
    assert names == ["other"]


def test_who_resumes_goes_on_with_the_parts_that_are_there(store):
    if not store.destination.resumes:
        pytest.skip("it keeps nothing of an unfinished file")
    file = new("a.bin", LARGE)
    writing = store.destination.begin(file)
    writing.write(PART, memoryview(LARGE)[PART : 2 * PART], never)
    state = writing.state
    writing.close()
    again = open_destination(store.spec, CONFIG)
    resumed = again.resume(file, state)
    if resumed.parts is None:
        read = resumed.writing.read_back
        assert read(PART, PART) == memoryview(LARGE)[PART : 2 * PART]
        assert read(len(LARGE) - 3, 10) != memoryview(LARGE)[-3:]
    else:
        assert resumed.parts == {1}
    for offset in (2 * PART, 0):
        resumed.writing.write(offset, memoryview(LARGE)[offset : offset + PART], never)
    resumed.writing.finish()
    assert store.read("a.bin") == LARGE
    again.close()


def test_another_content_never_goes_on_with_it(store):
    if not store.destination.resumes:
        pytest.skip("it keeps nothing of an unfinished file")
    writing = store.destination.begin(new("a.bin", LARGE))
    writing.write(0, memoryview(LARGE)[:PART], never)
    writing.close()
    assert store.destination.resume(new("a.bin", LARGE, key="run/copy other"), "") is None


def test_a_part_that_nobody_wants_any_more_is_not_written(store):
    writing = store.destination.begin(new("a.bin", LARGE))
    with pytest.raises(StepCancelledError):
        writing.write(0, memoryview(LARGE)[:PART], lambda: True)
    writing.discard()


def test_a_file_is_removed_once_and_removing_it_again_is_nothing(store):
    for path in ("a.bin", "b.bin"):
        write(store.destination, path, SMALL)
    store.destination.remove("a.bin")
    store.destination.remove("a.bin")
    assert store.read("a.bin") is None
    assert store.read("b.bin") == SMALL


def test_a_bucket_that_is_not_there_is_said(s3):
    with pytest.raises(OriginNotFoundError):
        write(open_destination(s3.spec("no-such-bucket/to"), CONFIG), "a", LARGE)


@pytest.mark.parametrize("url", ["hf://org/model", "http://127.0.0.1/d", "https://127.0.0.1/d"])
def test_what_cannot_be_written_to_is_refused_with_the_reason(url):
    with pytest.raises(ConfigError, match="nothing can be written"):
        open_destination(OriginSpec(url, {}), CONFIG)


def test_a_folder_outside_of_the_allowed_roots_is_refused(tmp_path):
    allowed = OriginConfig(file_roots=(str(tmp_path / "in"),))
    open_destination(OriginSpec(f"file://{tmp_path}/in/to", {}), allowed)
    with pytest.raises(ConfigError, match="file_roots"):
        open_destination(OriginSpec(f"file://{tmp_path}/out", {}), allowed)


def test_a_link_that_leads_outside_is_not_followed(tmp_path):
    (tmp_path / "to").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to" / "deep").symlink_to(tmp_path / "elsewhere")
    destination = open_destination(OriginSpec(f"file://{tmp_path}/to", {}), CONFIG)
    with pytest.raises(OriginDeniedError, match="outside"):
        write(destination, "deep/a", SMALL)
    assert list((tmp_path / "elsewhere").iterdir()) == []
