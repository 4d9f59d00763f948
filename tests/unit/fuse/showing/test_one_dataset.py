"""A mount of one dataset, without a kernel."""

import errno
import os

import pytest

from cachefs.errors import (
    CapacityError,
    CoordinatorUnavailableError,
    NotKnownError,
    OriginChangedError,
    OriginUnavailableError,
)
from cachefs.fuse.showing.attributes import FOREVER, MOVING_SECONDS, ROOT
from cachefs.fuse.showing.memory import VersionFolder, VolatileMemory
from tests.unit.fuse.worlds import LISTED_AT, content, names, number_of, walk

FILES = {"config.json": b"{}", "weights/one": b"1" * 2500, "weights/two": b"", "z": b"zz"}


@pytest.fixture
def model(cloud):
    cloud.put("model", FILES)
    return cloud


def test_a_dataset_is_shown_as_folders_and_files(model):
    operations = model.show()
    assert names(operations) == ["config.json", "weights", "z"]
    assert names(operations, "weights") == ["one", "two"]
    assert {path: content(operations, path) for path in FILES} == FILES


def test_stat_shows_sizes_owner_and_the_time_of_the_listing(model):
    operations = model.show(umask=0o007)
    file = walk(operations, "weights/one")
    assert (file.size, file.uid, file.gid, file.mode, file.nlink) == (2500, 7, 8, 0o440, 1)
    assert file.mtime_ns == int(LISTED_AT * 1_000_000_000)
    top = operations.getattr(ROOT)
    assert (top.attributes.node, top.attributes.nlink, top.attributes.folder) == (ROOT, 3, True)
    assert operations.getattr(file.node).attributes == file


def test_what_cannot_change_may_be_kept_for_ever(model):
    operations = model.show()
    assert operations.lookup(ROOT, b"z").valid_seconds == FOREVER
    assert operations.getattr(ROOT).valid_seconds == FOREVER
    assert operations.listing(ROOT).constant
    with pytest.raises(FileNotFoundError) as missing:
        operations.lookup(ROOT, b"nothing")
    assert missing.value.valid_seconds == FOREVER


def test_each_mistake_has_its_number(model):
    operations = model.show()
    file, folder = walk(operations, "z").node, walk(operations, "weights").node
    assert number_of(operations.lookup, ROOT, b"nothing") == "ENOENT"
    assert number_of(operations.lookup, ROOT, b"\xff") == "ENOENT"
    assert number_of(operations.lookup, ROOT, b"n" * 256) == "ENAMETOOLONG"
    assert number_of(operations.lookup, file, b"x") == "ENOTDIR"
    assert number_of(operations.listing, file) == "ENOTDIR"
    assert number_of(operations.open, folder) == "EISDIR"
    assert number_of(operations.getattr, 99 << 32 | 1) == "ESTALE"
    assert number_of(operations.getattr, 1 << 32 | 99) == "ESTALE"
    assert number_of(operations.getattr, 1 << 32) == "ESTALE"


def test_a_version_can_be_named_by_its_beginning(cloud):
    first = cloud.put("model", {"a": b"1"})
    cloud.put("model", {"a": b"2"})
    assert content(cloud.show(first[:8]), "a") == b"1"
    assert content(cloud.show(), "a") == b"2"


def test_a_dataset_that_is_not_there_cannot_be_shown(cloud):
    with pytest.raises(NotKnownError):
        cloud.show()


def test_a_dataset_without_files_is_an_empty_folder(cloud):
    cloud.put("model", {})
    operations = cloud.show()
    assert names(operations) == []
    assert operations.statfs().files == 1


def test_statfs_counts_what_is_shown(model):
    statistics = model.show().statfs()
    assert statistics.bytes == sum(map(len, FILES.values()))
    assert statistics.files == 6
    assert statistics.name_bytes_max == 255


def test_all_openers_share_one_file_and_the_last_one_closes_it(model):
    operations = model.show()
    node = walk(operations, "weights/one").node
    one, other = operations.open(node), operations.open(node)
    assert one is other
    one.close()
    buffer = bytearray(10)
    assert other.read_into(2495, memoryview(buffer)) == 5
    other.close()
    again = operations.open(node)
    assert again is not one
    again.close()


def test_a_read_is_cut_at_the_end_of_the_file(model):
    opened = model.show().open(walk(model.show(), "weights/one").node)
    for offset, length, expected in ((0, 5000, 2500), (2499, 10, 1), (2500, 10, 0), (9999, 10, 0)):
        with opened.views(offset, length) as views:
            assert sum(map(len, views)) == expected
    opened.close()


@pytest.mark.parametrize(
    ("failure", "number"),
    [
        (OriginChangedError("moved"), errno.ESTALE),
        (OriginUnavailableError("down"), errno.EIO),
    ],
)
def test_a_read_that_fails_says_what_the_program_should_do(model, failure, number):
    operations = model.show()
    opened = operations.open(walk(operations, "z").node)
    model.failure = failure
    with pytest.raises(OSError, match=r".") as raised, opened.views(0, 2):
        pass
    assert raised.value.errno == number
    opened.close()


def test_a_read_of_a_dataset_that_was_removed_is_estale(model):
    operations = model.show()
    opened = operations.open(walk(operations, "z").node)
    model.failure = CapacityError("no room")
    assert number_of(opened.read_into, 0, memoryview(bytearray(2))) == "EIO"
    model.drop("model")
    assert number_of(opened.read_into, 0, memoryview(bytearray(2))) == "ESTALE"
    opened.close()


def test_without_following_a_mount_stays_at_the_version_it_began_with(model):
    operations = model.show()
    model.put("model", {"new": b"n"})
    model.runtime.ahead += 100
    assert names(operations) == ["config.json", "weights", "z"]


def test_following_shows_a_new_version_to_new_look_ups_alone(model):
    operations = model.show(follow_current=True)
    opened = operations.open(walk(operations, "weights/one").node)
    folder = walk(operations, "weights").node
    before = operations.getattr(ROOT)
    assert before.valid_seconds == MOVING_SECONDS
    assert not operations.listing(ROOT).constant
    model.put("model", {"weights/one": b"changed", "weights/three": b"3"}, LISTED_AT + 60)
    model.runtime.ahead += MOVING_SECONDS + 0.1
    assert names(operations) == ["weights"]
    assert content(operations, "weights/one") == b"changed"
    with opened.views(0, 3) as views:
        assert b"".join(views) == b"111"
    opened.close()
    assert [name for name, _ in operations.listing(folder)] == [b"one", b"two"]
    after = operations.getattr(ROOT)
    assert after.attributes.mtime_ns == before.attributes.mtime_ns + 60 * 10**9
    assert after.attributes.ino == before.attributes.ino


def test_following_asks_at_most_once_in_a_second(model):
    operations = model.show(follow_current=True)
    walk(operations, "weights/one")
    before = model.asked.count("resolve")
    for _ in range(10):
        walk(operations, "weights/one")
    assert model.asked.count("resolve") == before


def test_following_goes_on_with_the_last_version_while_nobody_answers(model):
    operations = model.show(follow_current=True)
    model.up = False
    model.runtime.ahead += 2 * MOVING_SECONDS
    assert content(operations, "z") == b"zz"
    asked = model.asked.count("resolve")
    model.runtime.ahead += 2 * MOVING_SECONDS
    assert names(operations) == ["config.json", "weights", "z"]
    assert model.asked.count("resolve") == asked, "a coordinator that is down is asked rarely"
    model.up = True
    model.put("model", {"new": b"n"})
    model.runtime.ahead += 10
    assert names(operations) == ["new"]


def test_following_a_dataset_that_was_removed_stays_at_its_last_version(model):
    operations = model.show(follow_current=True)
    model.drop("model")
    model.runtime.ahead += 10
    assert content(operations, "z") == b"zz"


def test_unchanged_files_keep_their_inode_number_over_versions_and_mounts(cloud):
    first = cloud.put("model", {"same": b"s", "other": b"1"})
    second = cloud.put("model", {"same": b"s", "other": b"2"})
    one, two = cloud.show(first), cloud.show(second)
    assert walk(one, "same").ino == walk(two, "same").ino
    assert walk(one, "other").ino != walk(two, "other").ino


def test_a_successor_gives_the_same_things_the_same_numbers(model):
    memory = VolatileMemory()
    before = model.show(memory=memory, follow_current=True)
    old = {path: walk(before, path) for path in FILES}
    model.put("model", {"new": b"n", **FILES})
    model.runtime.ahead += 10
    new = {path: walk(before, path) for path in FILES}
    assert old["z"].node != new["z"].node
    after = model.show(memory=memory, follow_current=True)
    assert {path: walk(after, path) for path in FILES} == new
    for path in FILES:
        assert after.getattr(old[path].node).attributes == old[path]


def test_a_successor_stays_at_the_version_that_was_shown(model):
    memory = VolatileMemory()
    model.show(memory=memory)
    model.put("model", {"new": b"n"})
    assert "z" in names(model.show(memory=memory))


def test_a_successor_needs_nobody_if_the_manifests_were_kept(model, tmp_path):
    memory, kept = VolatileMemory(), VersionFolder(tmp_path / "versions")
    before = walk(model.show(memory=memory, versions=kept), "weights/one")
    model.up = False
    after = model.show(memory=memory, versions=kept)
    assert walk(after, "weights/one") == before


def test_a_successor_without_manifests_says_that_nobody_answers(model):
    memory = VolatileMemory()
    model.show(memory=memory)
    model.up = False
    with pytest.raises(CoordinatorUnavailableError):
        model.show(memory=memory)


def test_extended_attributes_tell_what_a_file_is(model):
    operations = model.show()
    node = walk(operations, "weights/one").node
    entry = model.versions[next(iter(model.versions))][0].manifest.find("weights/one")
    values = {
        name: operations.getxattr(node, f"user.cachefs.{name}").decode()
        for name in (
            *("dataset", "version", "path", "file_version", "origin_token", "block_size"),
            *("block_digests", "residency"),
        )
    }
    assert values["dataset"] == "model"
    assert values["version"] == model.versions[next(iter(model.versions))][0].manifest.id
    assert values["path"] == "weights/one"
    assert values["file_version"] == entry.file_version
    assert values["origin_token"] == "token of weights/one"
    assert values["block_size"] == "1000"
    assert values["block_digests"] == "-\n-\n-\n"
    assert values["residency"] == '{"blocks": 3, "here": 1, "workers": {"w": 1}}'
    assert operations.listxattr(node) == (), "a copy would have them"


def test_folders_have_the_attributes_that_make_sense_for_them(model):
    operations = model.show()
    node = walk(operations, "weights").node
    assert operations.getxattr(node, "user.cachefs.path") == b"weights"
    assert operations.getxattr(ROOT, "user.cachefs.path") == b""
    for name in ("file_version", "block_size", "residency"):
        with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
            operations.getxattr(node, f"user.cachefs.{name}")


@pytest.mark.parametrize("name", ["user.cachefs.nothing", "user.cachefs.digest", "user.dataset"])
def test_an_attribute_that_is_not_there_is_enodata(model, name):
    operations = model.show()
    assert number_of(operations.getxattr, walk(operations, "z").node, name) == "ENODATA"


def test_labels_and_access_lists_are_not_supported(model):
    """So programs ask once, and not for each file."""
    operations = model.show()
    node = walk(operations, "z").node
    assert number_of(operations.getxattr, node, "security.selinux") == "ENOTSUP"


def test_residency_without_a_coordinator_says_why_it_is_short(model):
    operations = model.show()
    node = walk(operations, "z").node
    model.up = False
    assert operations.getxattr(node, "user.cachefs.residency") == (
        b'{"blocks": 1, "failure": "it is down"}'
    )


def test_digests_of_a_file_with_too_many_blocks_are_e2big(cloud):
    cloud.put("model", {"huge": bytes(33_000_000)})
    operations = cloud.show()
    node = walk(operations, "huge").node
    assert number_of(operations.getxattr, node, "user.cachefs.block_digests") == "E2BIG"
