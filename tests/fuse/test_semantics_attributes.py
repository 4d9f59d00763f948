"""SEMANTICS.md, "The mount": what stat, df and extended attributes show."""

# ruff: noqa: PTH116, PTH118 - what is tested is what system calls do

import json
import os
import shutil
import stat
import subprocess
import time

import pytest

from tests.fuse.shown import FILES, HUGE, HUGE_BYTES, MARKS, fails

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def listed_at(system, name):
    """Return when the current version was first listed, in nanoseconds."""
    (version,) = system.api.get(f"/v1/datasets/default/{name}/versions")["versions"]
    return version["listed_at"] * 1e9


def test_modes_links_and_owner_are_those_of_a_read_only_file_system(shown):
    file, folder = (shown / "config.json").stat(), (shown / "weights").stat()
    assert stat.S_IMODE(file.st_mode) == 0o444
    assert stat.S_IMODE(folder.st_mode) == 0o555
    assert (file.st_nlink, folder.st_nlink) == (1, 3)
    assert shown.stat().st_nlink == 4  # names and weights
    assert (file.st_uid, file.st_gid) == (os.getuid(), os.getgid())


def test_owner_and_mode_can_be_chosen(mounts, engine):
    place = mounts.mount(
        "model", "--engine", engine, "--uid", 1234, "--gid", 2345, "--umask", "027"
    )
    file, folder = (place / "config.json").stat(), place.stat()
    assert (file.st_uid, file.st_gid) == (folder.st_uid, folder.st_gid) == (1234, 2345)
    assert (stat.S_IMODE(file.st_mode), stat.S_IMODE(folder.st_mode)) == (0o440, 0o550)


def test_all_times_are_when_the_version_was_first_listed_and_reading_changes_none(
    shown, shared_system
):
    expected = listed_at(shared_system, "shown")
    (shown / "config.json").read_bytes()
    time.sleep(0.02)  # noqa: TID251 - a moment in which a time could change
    list(shown.iterdir())
    for path in (shown, shown / "config.json", shown / "weights/deep"):
        status = path.stat()
        assert abs(status.st_mtime_ns - expected) < 1_000
        assert status.st_atime_ns == status.st_ctime_ns == status.st_mtime_ns


def test_inode_numbers_are_the_same_in_every_mount_and_never_0_or_1(shown, mounts):
    other = mounts.mount("shown", "--engine", "native")
    seen = {}
    for folder, _, names in os.walk(shown):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            relative = os.path.relpath(path, shown)
            inode = os.stat(path).st_ino
            assert 1 < inode < 1 << 63
            assert inode == os.stat(other / relative).st_ino
            seen[inode] = relative
    assert len(seen) == sum(1 + len(names) for _, _, names in os.walk(shown))


def test_sizes_and_offsets_may_be_over_4_gib(shown):
    assert (shown / HUGE).stat().st_size == HUGE_BYTES
    with (shown / HUGE).open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for offset, mark in MARKS.items():
            assert os.pread(file.fileno(), len(mark), offset) == mark
        assert os.pread(file.fileno(), 100, HUGE_BYTES - 3) == b"end"
        assert file.seek(0, os.SEEK_END) == HUGE_BYTES


def test_du_counts_what_the_files_are_long(shown):
    status = (shown / "weights/model.safetensors").stat()
    assert status.st_blocks == -(-status.st_size // 512)


def test_df_shows_the_size_of_what_is_shown_and_no_room(shown):
    total = HUGE_BYTES + sum(map(len, FILES.values())) + len(FILES["linked"])
    status = os.statvfs(shown)
    assert status.f_blocks * status.f_frsize == -(-total // 4096) * 4096
    assert (status.f_bfree, status.f_bavail, status.f_ffree) == (0, 0, 0)
    assert status.f_files == 1 + 6 + len(FILES) + 2  # the top, folders, files
    assert status.f_namemax == 255
    assert status.f_flag & os.ST_RDONLY
    assert status.f_flag & os.ST_NOSUID
    assert shutil.disk_usage(shown / "weights").free == 0
    said = subprocess.run(["df", "-T", shown], capture_output=True, text=True, check=True).stdout
    assert "cachefs://shown" in said
    assert "fuse.cachefs" in said
    assert "100%" in said


def test_extended_attributes_say_what_a_file_is(shown, shared_system):
    path = "weights/model.safetensors"
    asked = shared_system.api.get(f"/v1/explain?dataset=shown&path={path}")
    (shown / path).read_bytes()
    values = {
        name: os.getxattr(shown / path, f"user.cachefs.{name}").decode()
        for name in (
            *("dataset", "version", "path", "file_version", "origin_token", "block_size"),
            *("block_digests", "residency"),
        )
    }
    assert (values["dataset"], values["path"]) == ("shown", path)
    for name in ("version", "file_version"):
        assert values[name] == asked[name]
    assert values["origin_token"] == asked["token"]
    assert int(values["block_size"]) == shared_system.cluster.block_size
    lines = values["block_digests"].splitlines()
    blocks = -(-len(FILES[path]) // shared_system.cluster.block_size)
    assert len(lines) == blocks
    assert all(line == "-" or len(bytes.fromhex(line)) == 16 for line in lines)
    residency = json.loads(values["residency"])
    assert residency.keys() == {"blocks", "here", "workers"}
    assert residency["blocks"] == blocks


def test_residency_and_digests_follow_what_was_read(shown):
    path = shown / "names" / "plain.txt"
    path.read_bytes()
    until = time.monotonic() + 10  # noqa: TID251 - workers report now and then
    while json.loads(os.getxattr(path, "user.cachefs.residency"))["here"] == 0:
        assert time.monotonic() < until  # noqa: TID251 - likewise
        time.sleep(0.05)  # noqa: TID251 - likewise
    residency = json.loads(os.getxattr(path, "user.cachefs.residency"))
    assert residency == {"blocks": 1, "here": 1, "workers": {"worker-1": 1}}
    assert len(os.getxattr(path, "user.cachefs.block_digests")) == 2 * 16 + 1


def test_folders_say_dataset_version_and_path(shown):
    assert os.getxattr(shown / "weights", "user.cachefs.dataset") == b"shown"
    assert os.getxattr(shown / "weights/deep", "user.cachefs.path") == b"weights/deep"
    assert os.getxattr(shown, "user.cachefs.path") == b""


def test_an_attribute_that_is_not_there_is_enodata_and_kinds_that_are_not_eopnotsupp(shown):
    for name in ("user.cachefs.nothing", "user.other", "user.cachefs.digest"):
        assert fails(os.getxattr, shown / "config.json", name) == "ENODATA"
    for name in ("security.selinux", "system.posix_acl_access", "trusted.x"):
        assert fails(os.getxattr, shown / "config.json", name) == "ENOTSUP"


def test_more_digests_than_an_attribute_may_be_long_are_e2big(shown):
    # 5 GiB in blocks of 64 KiB.
    assert fails(os.getxattr, shown / HUGE, "user.cachefs.block_digests") == "E2BIG"


def test_extended_attributes_are_not_listed_so_that_copies_do_not_have_them(shown, tmp_path):
    for path in (shown, shown / "config.json", shown / "weights", shown / HUGE):
        assert os.listxattr(path) == []
    shutil.copy2(shown / "config.json", tmp_path / "copy")
    subprocess.run(["cp", "-a", shown / "weights", tmp_path / "weights"], check=True)
    for path in (tmp_path / "copy", *(tmp_path / "weights").iterdir()):
        assert os.listxattr(path) == []
