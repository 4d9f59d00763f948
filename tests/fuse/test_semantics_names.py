"""SEMANTICS.md, "The mount": names, folders and links."""

# ruff: noqa: PTH116, PTH118, PTH208 - what is tested is what system calls do

import os
import stat
from pathlib import Path

import pytest

from tests.fuse.shown import FILES, NAMES, SMALL, fails

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def test_every_file_of_the_version_is_there_and_nothing_else(shown):
    found = {
        str(Path(folder, name).relative_to(shown))
        for folder, _, names in os.walk(shown)
        for name in names
    }
    assert found == {*FILES, ".behind", "huge"}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_the_origin_says_byte_for_byte(shown, name):
    assert (shown / "names" / name).read_bytes() == SMALL[f"names/{name}"]


def test_names_that_differ_in_case_or_in_the_form_of_a_letter_are_two_files(shown):
    names = os.listdir(os.fsencode(shown / "names"))
    assert len(set(names)) == len(names) == len(NAMES)
    assert set(names) == {name.encode() for name in NAMES}


@pytest.mark.parametrize(
    "name", [b"nothing", b"PLAIN.TXT", b"not unicode \xff\xfe", b"nai\xcc\x88ve2", b"names/..x"]
)
def test_what_is_not_there_is_enoent(shown, name):
    for _ in range(2):  # the second time the kernel knows
        assert fails(os.stat, os.path.join(os.fsencode(shown), name)) == "ENOENT"


def test_a_name_longer_than_255_bytes_is_enametoolong(shown):
    assert fails(os.stat, shown / ("n" * 256)) == "ENAMETOOLONG"
    assert fails(os.stat, shown / ("n" * 2000)) == "ENAMETOOLONG"


def test_a_file_is_no_folder_and_a_folder_no_file(shown):
    assert fails(os.stat, shown / "config.json" / "x") == "ENOTDIR"
    assert fails(os.listdir, shown / "config.json") == "ENOTDIR"
    assert fails(os.open, shown / "config.json", os.O_RDONLY | os.O_DIRECTORY) == "ENOTDIR"
    folder = os.open(shown / "weights", os.O_RDONLY)
    try:
        assert fails(os.read, folder, 10) == "EISDIR"
    finally:
        os.close(folder)


def test_dot_and_dot_dot_lead_where_they_should(shown):
    assert (shown / "weights" / "." / ".." / "config.json").read_bytes() == FILES["config.json"]
    before = Path.cwd()
    os.chdir(shown / "weights/deep/er")
    try:
        assert Path.cwd() == shown / "weights/deep/er"
        assert os.listdir(".") == ["and"]
        assert Path("../../model.safetensors").stat().st_size == len(
            FILES["weights/model.safetensors"]
        )
    finally:
        os.chdir(before)


def test_a_listing_says_kind_and_inode_number_of_each_name(shown):
    for folder, _, _ in os.walk(shown):
        for entry in os.scandir(folder):
            status = os.stat(entry.path)
            assert entry.inode() == status.st_ino
            assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(status.st_mode)
            assert entry.is_file(follow_symlinks=False) == stat.S_ISREG(status.st_mode)


def test_the_order_of_a_listing_is_always_the_same(shown):
    first = os.listdir(shown / "names")
    for _ in range(3):
        assert os.listdir(shown / "names") == first


def test_links_are_shown_as_what_they_lead_to(shown):
    status = (shown / "linked").lstat()
    assert stat.S_ISREG(status.st_mode)
    assert (shown / "linked").read_bytes() == FILES["linked"]
    assert fails(os.readlink, shown / "linked") == "EINVAL"
    for name in ("broken link", "out of it"):
        assert fails(os.lstat, shown / name) == "ENOENT"


def test_empty_files_are_there_and_empty_folders_are_not(shown):
    assert (shown / "empty").read_bytes() == b""
    assert (shown / "empty").stat().st_size == 0
    assert fails(os.stat, shown / "nothing in it") == "ENOENT"


@pytest.fixture(scope="module")
def crowd(shared_system, tmp_path_factory):
    """A dataset of a hundred thousand files."""
    origin = tmp_path_factory.mktemp("crowd")
    for at in range(100_000):
        name = origin / f"part-{at:06}"
        if at % 50_000:  # a file may have 65,000 links, and those are made and listed faster
            os.link(origin / f"part-{at - at % 50_000:06}", name)
        else:
            name.write_bytes(b"part")
    shared_system.add("crowd", f"file://{origin}")
    return "crowd"


def test_a_folder_of_a_hundred_thousand_files_is_listed_whole(mounts, crowd, engine):
    place = mounts.mount(crowd, "--engine", engine)
    expected = {f"part-{at:06}" for at in range(100_000)}
    inodes = {entry.name: entry.inode() for entry in os.scandir(place)}
    assert set(inodes) == expected
    assert len(set(inodes.values())) == 100_000
    assert (place / "part-099999").read_bytes() == b"part"
    assert set(os.listdir(place)) == expected
