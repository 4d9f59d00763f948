"""A mount of all datasets, without a kernel."""

import errno
import os

import pytest

from cachefs.core.names import DatasetName
from cachefs.fuse.showing.attributes import MOVING_SECONDS, ROOT
from cachefs.fuse.showing.memory import VolatileMemory
from tests.unit.fuse.worlds import LISTED_AT, content, names, number_of, walk


@pytest.fixture
def models(cloud):
    cloud.put("model", {"a": b"1", "sub/b": b"2"})
    cloud.put("team/model", {"c": b"3"})
    cloud.put("team/other", {})
    return cloud


def test_datasets_are_shown_by_namespace_and_name(models):
    operations = models.show_all()
    assert names(operations) == ["default", "team"]
    assert names(operations, "team") == ["model", "other"]
    assert names(operations, "default/model") == ["a", "sub"]
    assert content(operations, "default/model/sub/b") == b"2"
    assert content(operations, "team/model/c") == b"3"
    assert names(operations, "team/other") == []


def test_a_cluster_without_datasets_is_an_empty_folder(cloud):
    assert names(cloud.show_all()) == []


def test_what_is_not_there_is_enoent(models):
    operations = models.show_all()
    for path in ("nothing", "team/nothing", "default/model/nothing", "default/model/.versions/00"):
        assert number_of(walk, operations, path) == "ENOENT"
    assert number_of(operations.lookup, ROOT, b"\xff\xfe") == "ENOENT"
    assert number_of(operations.open, walk(operations, "team").node) == "EISDIR"
    assert number_of(operations.getattr, 77) == "ESTALE"


def test_every_kept_version_is_below_a_folder_that_is_found_but_not_listed(models):
    first = models.versions[DatasetName.parse("model")][0].manifest.id
    second = models.put("model", {"a": b"changed"}, LISTED_AT + 60)
    operations = models.show_all()
    assert ".versions" not in names(operations, "default/model")
    assert names(operations, "default/model/.versions") == [second, first]
    assert content(operations, f"default/model/.versions/{first}/a") == b"1"
    assert content(operations, f"default/model/.versions/{second}/a") == b"changed"
    assert walk(operations, f"default/model/.versions/{second}").mtime_ns == int(
        (LISTED_AT + 60) * 10**9
    )


def test_a_folder_is_in_one_place_only(models):
    operations = models.show_all()
    version = models.versions[DatasetName.parse("model")][0].manifest.id
    here = walk(operations, "default/model/sub")
    there = walk(operations, f"default/model/.versions/{version}/sub")
    assert here.node != there.node


def test_no_folder_has_the_inode_number_of_one_above_it(models):
    """Programs that walk would take it for a loop."""
    operations = models.show_all()
    version = models.versions[DatasetName.parse("model")][0].manifest.id
    segments = ["default", "model", ".versions", version, "sub"]
    for _ in range(2):  # before and after it was entered
        folders = [walk(operations, "/".join(segments[:at])) for at in range(len(segments) + 1)]
        assert len({each.ino for each in folders}) == len(folders)
        assert [operations.getattr(each.node).attributes.ino for each in folders] == [
            each.ino for each in folders
        ]
        names(operations, "/".join(segments))


def test_a_file_of_the_datasets_own_is_hidden_by_the_versions(cloud):
    version = cloud.put("model", {".versions/x": b"own", "a": b"1"})
    operations = cloud.show_all()
    assert names(operations, "default/model") == ["a"]
    assert names(operations, "default/model/.versions") == [version]
    assert content(operations, f"default/model/.versions/{version}/.versions/x") == b"own"


def test_listing_all_datasets_loads_none_of_them(models):
    operations = models.show_all()
    assert names(operations, "team") == ["model", "other"]
    assert "resolve" not in models.asked
    assert operations.statfs().bytes == 0


def test_new_datasets_appear_and_removed_ones_disappear(models):
    operations = models.show_all()
    opened = operations.open(walk(operations, "team/model/c").node)
    models.put("later/model", {})
    models.drop("team/model")
    assert names(operations) == ["default", "team"], "the list is a second old at most"
    models.runtime.ahead += MOVING_SECONDS + 0.1
    assert names(operations) == ["default", "later", "team"]
    assert number_of(walk, operations, "team/model") == "ENOENT"
    with opened.views(0, 1) as views:
        assert b"".join(views) == b"3"
    opened.close()


def test_names_that_may_change_are_kept_for_a_second(models):
    operations = models.show_all()
    assert operations.getattr(ROOT).valid_seconds == MOVING_SECONDS
    assert not operations.listing(ROOT).constant
    model = walk(operations, "default/model").node
    assert operations.lookup(model, b"a").valid_seconds == MOVING_SECONDS
    assert not operations.listing(model).constant
    assert operations.listing(walk(operations, "default/model/sub").node).constant


def test_without_following_a_dataset_stays_at_the_version_first_shown(models):
    operations = models.show_all()
    assert content(operations, "default/model/a") == b"1"
    models.put("model", {"a": b"changed"})
    models.runtime.ahead += 10
    assert content(operations, "default/model/a") == b"1"


def test_following_moves_on_to_the_new_version(models):
    operations = models.show_all(follow_current=True)
    assert content(operations, "default/model/a") == b"1"
    before = walk(operations, "default/model")
    models.put("model", {"a": b"changed"}, LISTED_AT + 60)
    models.runtime.ahead += 10
    assert content(operations, "default/model/a") == b"changed"
    after = walk(operations, "default/model")
    assert (after.node, after.ino) == (before.node, before.ino)
    assert after.mtime_ns > before.mtime_ns


def test_a_coordinator_that_is_down_leaves_what_was_shown(models):
    operations = models.show_all()
    assert content(operations, "default/model/a") == b"1"
    models.up = False
    models.runtime.ahead += 10
    assert names(operations) == ["default", "team"]
    assert content(operations, "default/model/sub/b") == b"2"
    assert number_of(names, operations, "team/model") == "EIO"
    models.up = True
    models.runtime.ahead += 10
    assert names(operations, "team/model") == ["c"]


def test_a_successor_gives_the_same_things_the_same_numbers(models):
    version = models.versions[DatasetName.parse("model")][0].manifest.id
    paths = [
        "",
        "team",
        "team/model",
        "team/model/c",
        "default/model/sub/b",
        "default/model/.versions",
        f"default/model/.versions/{version}/sub/b",
    ]
    memory = VolatileMemory()
    before = models.show_all(memory=memory)
    old = {path: walk(before, path) for path in paths}
    after = models.show_all(memory=memory)
    for path in reversed(paths):
        assert walk(after, path)[:2] == old[path][:2], "node and inode number"
        assert after.getattr(old[path].node).attributes[:2] == old[path][:2]


def test_folders_of_no_version_show_when_the_mount_began(models):
    memory = VolatileMemory()
    now = models.runtime.wall() * 1e9
    began = models.show_all(memory=memory).getattr(ROOT).attributes.mtime_ns
    assert 0 <= began - now + 1e3 < 5e9
    models.runtime.sleep(0.01)
    successor = models.show_all(memory=memory)
    assert successor.getattr(ROOT).attributes.mtime_ns == began
    assert walk(successor, "team").mtime_ns == began
    assert walk(successor, "team/model").mtime_ns == began
    names(successor, "team/model")
    assert walk(successor, "team/model").mtime_ns == int(LISTED_AT * 10**9)


def test_folders_above_datasets_have_no_extended_attributes(models):
    operations = models.show_all()
    for node in (ROOT, walk(operations, "team").node):
        with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
            operations.getxattr(node, "user.cachefs.dataset")
    model = walk(operations, "team/model").node
    assert operations.getxattr(model, "user.cachefs.dataset") == b"team/model"


def test_statfs_counts_what_was_looked_into(models):
    operations = models.show_all()
    content(operations, "default/model/a")
    assert operations.statfs().bytes == 2
