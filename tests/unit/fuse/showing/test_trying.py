"""What an engine may be told without waiting is what it would be told otherwise, or nothing."""

import pytest

from cachefs.fuse.showing.attributes import ROOT
from cachefs.fuse.showing.memory import VolatileMemory
from tests.unit.fuse.worlds import number_of, walk

FILES = {"a": b"1", "sub/b": b"2", "sub/c/d": b"3"}


def same(operations, path):
    """Compare what is tried with what is asked for, of one path."""
    node = walk(operations, path).node
    assert operations.try_getattr(node) == operations.getattr(node)
    if not operations.getattr(node).attributes.folder:
        return
    listing, tried = operations.listing(node), operations.try_listing(node)
    assert list(tried) == list(listing)
    assert (tried.constant, tried.valid_seconds) == (listing.constant, listing.valid_seconds)
    for name, _ in listing:
        assert operations.try_lookup(node, name) == operations.lookup(node, name)
    assert number_of(operations.try_lookup, node, b"missing") == "ENOENT"


def test_a_dataset_that_does_not_move_is_known_as_a_whole(cloud):
    cloud.put("model", FILES)
    operations = cloud.show()
    for path in ("", "sub", "sub/c", *FILES):
        same(operations, path)
    assert number_of(operations.try_lookup, walk(operations, "a").node, b"x") == "ENOTDIR"
    assert operations.try_lookup(ROOT, b"x" * 300) is None
    assert operations.try_getattr(99 << 32 | 1) is None


def test_the_top_of_a_dataset_that_moves_is_asked_for(cloud):
    cloud.put("model", FILES)
    operations = cloud.show(follow_current=True)
    assert operations.try_getattr(ROOT) is None
    assert operations.try_lookup(ROOT, b"a") is None
    assert operations.try_listing(ROOT) is None
    same(operations, "sub")


@pytest.mark.parametrize("path", ["", "default", "default/model", "default/model/.versions"])
def test_the_own_folders_of_a_mount_of_all_are_asked_for(cloud, path):
    cloud.put("model", FILES)
    operations = cloud.show_all()
    node = walk(operations, path).node
    assert operations.try_getattr(node) is None
    assert operations.try_lookup(node, b"a") is None
    assert operations.try_listing(node) is None


def test_what_lies_below_datasets_is_known(cloud):
    version = cloud.put("model", FILES)
    operations = cloud.show_all()
    same(operations, "default/model/sub")
    same(operations, f"default/model/.versions/{version}/sub")


def test_what_is_not_in_memory_is_asked_for(cloud):
    cloud.put("model", FILES)
    memory = VolatileMemory()
    first = cloud.show_all(memory=memory)
    node = walk(first, "default/model/sub").node
    successor = cloud.show_all(memory=memory)
    assert successor.try_getattr(node) is None
    assert successor.getattr(node) == first.getattr(node)
    assert successor.try_getattr(node) == first.getattr(node)
