"""Every sentence of ``ports.Origin``, held against each origin and against our fake."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import fsspec
import pytest

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, name_file_version
from cachefs.errors import OriginChangedError, OriginNotFoundError
from cachefs.origins import open_origin
from cachefs.ports import Origin, OriginFile
from cachefs.testing.faulty_origin import FaultyOrigin
from cachefs.testing.hub import FakeHub
from cachefs.testing.memory.origin import MemoryOrigin
from cachefs.testing.s3 import s3_server
from cachefs.transport.runtime import ThreadRuntime

FILES = {
    "config.json": b'{"a": 1}',
    "model.bin": bytes(range(256)) * 20,
    "empty": b"",
    "onnx/model 1.bin": b"0123456789",
    "onnx/deep/ü#%25 +&~.bin": b"odd",
}
CONFIG = OriginConfig(timeout_seconds=5, deadline_seconds=10, requests_limit=4)
KINDS = ("memory", "file", "http", "direct", "obstore", "s3fs", "fsspec", "hub")
S3_KINDS = ("direct", "obstore", "s3fs")


@dataclass
class Store:
    """An origin with its files, and how to change them from outside."""

    open: Callable[[str], Origin]
    """Open below a path; empty for all files."""
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]

    @property
    def origin(self) -> Origin:
        return self.open("")


def _entry(file: OriginFile) -> FileEntry:
    version = name_file_version("x", path=file.path, size=file.size, token=file.token)
    return FileEntry(file.path, file.size, file.token, file.digest, version)


def _find(origin: Origin, path: str) -> FileEntry:
    return next(_entry(file) for file in origin.list_files() if file.path == path)


def _opener(url: str, client: str | None = None, **options: str) -> Callable[[str], Origin]:
    def opened(below: str) -> Origin:
        slash = "/" if url.startswith("http") and not below else ""
        spec = OriginSpec(f"{url}/{below}".rstrip("/") + slash, options)
        return open_origin(spec, CONFIG, ThreadRuntime(), client=client)

    return opened


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


def _memory(_tmp_path, _s3) -> Iterator[Store]:
    origin = MemoryOrigin(FILES)
    yield Store(lambda _below: origin, origin.put, origin.remove)


def _file(tmp_path, _s3) -> Iterator[Store]:
    root = tmp_path / "origin"

    def put(path, content):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        # A new inode, as by every tool that replaces files atomically.
        (root / "new").write_bytes(content)
        (root / "new").rename(root / path)

    for path, content in FILES.items():
        put(path, content)
    yield Store(_opener(f"file://{root}"), put, lambda path: (root / path).unlink())


def _http(_tmp_path, _s3) -> Iterator[Store]:
    with FaultyOrigin({f"d/{path}": content for path, content in FILES.items()}) as server:
        yield Store(
            _http_opener(f"{server.url}/d"),
            lambda path, content: server.files.update({f"d/{path}": content}),
            lambda path: server.files.pop(f"d/{path}"),
        )


def _http_opener(url):
    return _opener(url)


def _bucket(server, client: str) -> Iterator[Store]:
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    server.make_bucket(bucket)
    server.put(bucket, {f"d/{path}": content for path, content in FILES.items()})
    server.put(bucket, {"d/": b"", "d/onnx/": b"", "d2/other": b"not ours"})
    yield Store(
        _opener(f"s3://{bucket}/d", client, endpoint_url=server.endpoint_url),
        lambda path, content: server.put(bucket, {f"d/{path}": content}),
        lambda path: server.delete(bucket, f"d/{path}"),
    )


def _fsspec(_tmp_path, _s3) -> Iterator[Store]:
    files = fsspec.filesystem("memory")
    root = f"/{uuid.uuid4().hex}"

    def put(path, content):
        files.pipe_file(f"{root}/{path}", content)

    for path, content in FILES.items():
        put(path, content)
    yield Store(_opener(f"memory:/{root}"), put, lambda path: files.rm_file(f"{root}/{path}"))
    files.rm(root, recursive=True)


def _hub(_tmp_path, _s3) -> Iterator[Store]:
    with FakeHub("org/model", FILES) as hub:

        def put(path, content):
            hub.commit({**hub.commits[hub.head], path: content})

        def remove(path):
            hub.commit({p: c for p, c in hub.commits[hub.head].items() if p != path})

        yield Store(_opener("hf://org/model", endpoint_url=hub.url, anon="true"), put, remove)


MAKERS = {
    "memory": _memory,
    "file": _file,
    "http": _http,
    "direct": lambda _path, server: _bucket(server, "direct"),
    "obstore": lambda _path, server: _bucket(server, "obstore"),
    "s3fs": lambda _path, server: _bucket(server, "fsspec"),
    "fsspec": _fsspec,
    "hub": _hub,
}


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    server = request.getfixturevalue("s3") if request.param in S3_KINDS else None
    with contextmanager(MAKERS[request.param])(tmp_path, server) as made:
        yield made


def test_every_file_is_listed_once_and_no_folder(store):
    listed = [(file.path, file.size) for file in store.origin.list_files()]
    assert sorted(listed) == sorted((path, len(content)) for path, content in FILES.items())


def test_a_listing_of_the_same_files_is_the_same(store):
    assert sorted(store.origin.list_files(), key=lambda file: file.path) == sorted(
        store.origin.list_files(), key=lambda file: file.path
    )


def test_ranges_are_exact(store):
    origin = store.origin
    for file in origin.list_files():
        content = FILES[file.path]
        for begin in {0, 1, len(content) // 2, max(0, len(content) - 1)}:
            for length in {0, 1, 5, len(content)}:
                if begin + length <= len(content):
                    data = origin.read_range(_entry(file), begin, length)
                    assert isinstance(data, memoryview)
                    assert bytes(data) == content[begin : begin + length]


def test_a_file_that_was_replaced_is_an_error_and_not_other_bytes(store):
    origin = store.origin
    entry = _find(origin, "onnx/model 1.bin")
    store.put("onnx/model 1.bin", b"9876543210")
    with pytest.raises(OriginChangedError):
        store.open("").read_range(entry, 2, 3)
    current = _find(store.open(""), "onnx/model 1.bin")
    assert current.token != entry.token
    assert bytes(store.open("").read_range(current, 2, 3)) == b"765"


@pytest.mark.parametrize("content", [b"short", b"much longer than it was before"])
def test_a_file_of_another_size_is_an_error(store, content):
    entry = _find(store.origin, "onnx/model 1.bin")
    store.put("onnx/model 1.bin", content)
    with pytest.raises(OriginChangedError):
        store.open("").read_range(entry, 7, 3)


def test_a_file_that_is_gone_is_not_found(store):
    entry = _find(store.origin, "config.json")
    store.remove("config.json")
    origin = store.open("")
    with pytest.raises(OriginNotFoundError):
        origin.read_range(entry, 0, entry.size)
    with pytest.raises(FileNotFoundError):
        origin.read_range(entry._replace(path="never/was"), 0, 1)


def test_many_threads_read_at_once(store):
    origin = store.origin
    entry = _find(origin, "model.bin")
    with ThreadPoolExecutor(8) as pool:
        parts = list(
            pool.map(lambda at: bytes(origin.read_range(entry, at, 256)), range(0, 5120, 256))
        )
    assert b"".join(parts) == FILES["model.bin"]


def test_a_pinned_spec_opens_the_same_files(store):
    origin = store.origin
    assert origin.pin() == origin.pin()
    assert origin.pin().url


def test_closing_twice_is_harmless(store):
    origin = store.origin
    list(origin.list_files())
    origin.close()
    origin.close()


@pytest.fixture(params=[kind for kind in KINDS if kind != "memory"])
def real_store(request, tmp_path):
    server = request.getfixturevalue("s3") if request.param in S3_KINDS else None
    with contextmanager(MAKERS[request.param])(tmp_path, server) as made:
        yield made


def test_a_url_may_name_a_single_file(real_store):
    origin = real_store.open("model.bin")
    (file,) = origin.list_files()
    assert (file.path, file.size) == ("model.bin", 5120)
    assert bytes(origin.read_range(_entry(file), 250, 10)) == FILES["model.bin"][250:260]


def test_a_url_may_name_a_folder_inside(real_store):
    below = "onnx/" if "http" in real_store.origin.pin().url else "onnx"
    origin = real_store.open("onnx")
    if below == "onnx/":
        origin = open_origin(
            OriginSpec(real_store.origin.pin().url + "onnx/"), CONFIG, ThreadRuntime()
        )
    listed = {file.path: _entry(file) for file in origin.list_files()}
    assert sorted(listed) == ["deep/ü#%25 +&~.bin", "model 1.bin"]
    assert bytes(origin.read_range(listed["model 1.bin"], 3, 4)) == b"3456"


def test_a_url_that_leads_nowhere_is_not_found(real_store):
    with pytest.raises(OriginNotFoundError):
        list(real_store.open("no-such-folder").list_files())


def test_files_may_be_chosen_by_globs(real_store):
    spec = real_store.origin.pin()
    origin = open_origin(
        spec, CONFIG, ThreadRuntime(), include=["*.bin", "*.json"], exclude=["deep/"]
    )
    assert sorted(file.path for file in origin.list_files()) == [
        "config.json",
        "model.bin",
        "onnx/model 1.bin",
    ]
    nothing = open_origin(spec, CONFIG, ThreadRuntime(), include=["*.nothing"])
    with pytest.raises(OriginNotFoundError, match="none of the 5 files"):
        list(nothing.list_files())


def test_requests_and_bytes_are_counted(real_store):
    origin = real_store.origin
    entry = _find(origin, "model.bin")
    origin.read_range(entry, 0, 100)
    with pytest.raises(OriginNotFoundError):
        origin.read_range(entry._replace(path="nope"), 0, 100)
    statistics = origin.statistics()
    assert (statistics.requests, statistics.bytes_read, statistics.inflight) == (3, 100, 0)
    assert statistics.errors == {"OriginNotFoundError": 1}


def test_a_file_system_that_vanishes_is_an_error(tmp_path):
    root = tmp_path / "gone"
    root.mkdir()
    (root / "a").write_bytes(b"1")
    origin = open_origin(OriginSpec(f"file://{root}"), CONFIG, ThreadRuntime())
    entry = _find(origin, "a")
    shutil.rmtree(root)
    with pytest.raises(OriginNotFoundError):
        origin.read_range(entry, 0, 1)
    with pytest.raises(OriginNotFoundError):
        list(origin.list_files())
