"""Copies out of the cache, from a dataset in memory."""

import hashlib
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from cachefs.cli.copying import Copy, copy_files, plan_copies
from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import FileEntry, Manifest
from cachefs.errors import (
    ConfigError,
    IntegrityError,
    NotKnownError,
    OriginNotFoundError,
)


def entry(path, content=b"", digest=""):
    return FileEntry(path, len(content), "token", digest, FileVersionId("0" * 40))


class Dataset:
    """An open dataset whose files are in memory, or fail half-way."""

    def __init__(self, contents, failing=()):
        self.contents = contents
        self.failing = failing

    @contextmanager
    def file(self, path):
        def read_into(offset, into):
            if path in self.failing:
                raise OriginNotFoundError("it is gone", subject=path)
            part = self.contents[path][offset : offset + len(into)]
            into[: len(part)] = part
            return len(part)

        yield SimpleNamespace(read_into=read_into)


def copy(dataset, copies):
    counted = []
    lock = threading.Lock()

    def advance(count):
        with lock:
            counted.append(count)

    verified = copy_files(dataset, copies, jobs=4, advance=advance)
    return verified, sum(counted)


def test_files_are_copied_whole_and_folders_made(tmp_path):
    contents = {"a/b/c": b"x" * 1000, "empty": b"", "d": b"y"}
    copies = [Copy(entry(path, content), tmp_path / path) for path, content in contents.items()]
    assert copy(Dataset(contents), copies) == (0, 1001)
    assert {path: (tmp_path / path).read_bytes() for path in contents} == contents
    assert not list(tmp_path.rglob("*.partial"))


def test_a_known_digest_is_checked(tmp_path):
    content = b"right"
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    copies = [Copy(entry("f", content, digest), tmp_path / "f")]
    assert copy(Dataset({"f": content}), copies)[0] == 1


def test_a_file_with_the_wrong_digest_never_appears_and_the_old_one_stays(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    copies = [Copy(entry("f", b"wrong", "sha256:" + "0" * 64), tmp_path / "f")]
    with pytest.raises(IntegrityError):
        copy(Dataset({"f": b"wrong"}), copies)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_digest_that_cannot_be_computed_is_not_counted_as_checked(tmp_path):
    copies = [Copy(entry("f", b"x", "crc64nvme:00"), tmp_path / "f")]
    assert copy(Dataset({"f": b"x"}), copies)[0] == 0


def test_the_first_failure_ends_the_copy_as_itself_and_leaves_nothing_partial(tmp_path):
    contents = {f"f{number}": b"x" * 10 for number in range(50)}
    copies = [Copy(entry(path, content), tmp_path / path) for path, content in contents.items()]
    with pytest.raises(OriginNotFoundError):
        copy(Dataset(contents, failing={"f3"}), copies)
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "f3").exists()


def test_a_destination_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    copies = [Copy(entry("f", b"x"), tmp_path / "file" / "f")]
    with pytest.raises(ConfigError, match="cannot write"):
        copy(Dataset({"f": b"x"}), copies)


MANIFEST = Manifest.of([entry("a/b"), entry("a/c/d"), entry("e")])


def targets(path, destination):
    return sorted(
        str(each.target.relative_to(destination.parent))
        for each in plan_copies(MANIFEST, path, destination, "name")
    )


def test_one_file_goes_to_the_destination_or_into_it(tmp_path):
    assert targets("a/b", tmp_path / "new") == ["new"]
    (tmp_path / "folder").mkdir()
    assert targets("a/b", tmp_path / "folder") == ["folder/b"]


def test_a_folder_and_a_dataset_go_below_the_destination(tmp_path):
    assert targets("a", tmp_path / "new") == ["new/b", "new/c/d"]
    assert targets("", tmp_path / "new") == ["new/a/b", "new/a/c/d", "new/e"]


def test_several_files_do_not_go_into_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="not a folder"):
        plan_copies(MANIFEST, "a", tmp_path / "file", "name")


def test_what_does_not_exist_cannot_be_copied(tmp_path):
    with pytest.raises(NotKnownError):
        plan_copies(MANIFEST, "nothing", tmp_path, "name")
