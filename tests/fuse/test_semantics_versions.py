"""SEMANTICS.md, "The mount": versions, and mounts of all datasets."""

import os

import pytest

from tests.fuse.mounting import MIB, content, find_mount, write_files
from tests.fuse.shown import fails
from tests.integration.systems import wait_for

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

ONE, OTHER = content("before", MIB), content("after", MIB)


class Moving:
    """A dataset of two versions, both warm."""

    def __init__(self, system, name, folder):
        self.system, self.name = system, name
        self._folder = folder
        system.add(name, write_files(folder, {"a": ONE, "same": ONE, "sub/c": ONE}))
        self.warm()
        self.versions = [self.current()]

    def current(self):
        return self.system.api.get(f"/v1/datasets/{self.path}")["current"]

    @property
    def path(self):
        return self.name if "/" in self.name else f"default/{self.name}"

    def warm(self):
        self.system.wait_for_job(self.system.warm(self.name))

    def move(self):
        write_files(self._folder, {"a": OTHER, "new": OTHER})
        self.system.api.post(f"/v1/datasets/{self.path}/update")
        self.warm()
        self.versions.append(self.current())


@pytest.fixture
def moving(shared_system, request, tmp_path):
    made = []

    def make(namespace="default"):
        number = abs(hash((request.node.nodeid, len(made)))) % 10**12
        made.append(Moving(shared_system, f"{namespace}/m{number}", tmp_path / str(number)))
        return made[-1]

    yield make
    for each in made:
        listed = shared_system.api.get("/v1/datasets")["datasets"]
        if each.path in {name if "/" in name else f"default/{name}" for name in _names(listed)}:
            shared_system.api.delete(f"/v1/datasets/{each.path}")


def _names(listed):
    return [each["name"] for each in listed]


def test_a_mount_stays_at_the_version_that_was_current(mounts, moving, engine):
    dataset = moving()
    place = mounts.mount(dataset.name, "--engine", engine)
    dataset.move()
    assert sorted(path.name for path in place.iterdir()) == ["a", "same", "sub"]
    assert (place / "a").read_bytes() == ONE
    assert os.getxattr(place / "a", "user.cachefs.version").decode() == dataset.versions[0]


def test_an_older_version_can_be_mounted_by_name(mounts, moving, engine):
    dataset = moving()
    dataset.move()
    place = mounts.mount(f"{dataset.name}@{dataset.versions[0][:10]}", "--engine", engine)
    assert (place / "a").read_bytes() == ONE
    assert find_mount(place).source.endswith(dataset.versions[0])


def test_a_file_that_did_not_change_keeps_its_inode_number(mounts, moving, engine):
    dataset = moving()
    before = mounts.mount(dataset.name, "--engine", engine, at=mounts.place("before"))
    dataset.move()
    after = mounts.mount(dataset.name, "--engine", engine, at=mounts.place("after"))
    assert (before / "same").stat().st_ino == (after / "same").stat().st_ino
    assert (before / "a").stat().st_ino != (after / "a").stat().st_ino
    assert (before / "sub").stat().st_ino == (after / "sub").stat().st_ino


def test_following_shows_the_new_version_to_new_opens_and_open_files_keep_theirs(mounts, moving):
    dataset = moving()
    place = mounts.mount(dataset.name, "--follow-current", "--engine", "native")
    file, folder = os.open(place / "a", os.O_RDONLY), os.open(place / "sub", os.O_RDONLY)
    try:
        assert os.pread(file, 100, 0) == ONE[:100]
        inode = place.stat().st_ino
        dataset.move()
        wait_for((place / "new").exists, 5)
        wait_for(lambda: (place / "a").read_bytes() == OTHER, 5)
        assert os.getxattr(place / "a", "user.cachefs.version").decode() == dataset.versions[1]
        assert os.pread(file, MIB, 0) == ONE
        assert [entry.name for entry in os.scandir(folder)] == ["c"]
        assert place.stat().st_ino == inode
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file, MIB, 0) == ONE
    finally:
        os.close(file)
        os.close(folder)


def test_the_libfuse_engine_does_not_follow(mounts, moving):
    done = mounts.cachefs(
        *("mount", "--follow-current", "--engine", "libfuse", moving().name, mounts.place()), code=2
    )
    assert "cannot follow" in done.stderr


def test_a_mount_of_all_shows_every_dataset_and_its_versions(mounts, moving, engine):
    dataset = moving("team")
    dataset.move()
    place = mounts.mount("", "--engine", engine)
    assert {"default", "team"} <= {path.name for path in place.iterdir()}
    top = place / dataset.path
    assert sorted(path.name for path in top.iterdir()) == ["a", "new", "same", "sub"]
    versions = top / ".versions"
    assert [path.name for path in versions.iterdir()] == dataset.versions[::-1]
    assert (top / "a").read_bytes() == OTHER
    assert (versions / dataset.versions[1] / "a").read_bytes() == OTHER
    assert (versions / dataset.versions[0] / "a").read_bytes() == ONE
    assert fails(os.stat, versions / dataset.versions[0][:10]) == "ENOENT"
    assert fails(os.stat, versions / dataset.versions[0] / "new") == "ENOENT"


def test_datasets_come_and_go_in_a_mount_of_all(mounts, moving, engine, shared_system):
    place = mounts.mount("", "--engine", engine)
    dataset = moving("guests")
    wait_for((place / dataset.path).exists, 5)
    with (place / dataset.path / "a").open("rb", buffering=0) as file:
        assert file.read(MIB) == ONE
        shared_system.api.delete(f"/v1/datasets/{dataset.path}")
        wait_for(lambda: not (place / dataset.path).exists(), 5)
        assert os.pread(file.fileno(), 100, 0) == ONE[:100], "what is open may go on"
    assert not (place / "guests").exists()


def test_a_mount_of_all_walks_without_loops(mounts, moving, engine):
    dataset = moving()
    place = mounts.mount("", "--engine", engine)
    versions = place / dataset.path / ".versions"
    inodes = [
        each.stat().st_ino
        for each in (place, *reversed((versions / dataset.versions[0] / "sub").parents[:4]))
    ]
    assert len(set(inodes)) == len(inodes)
