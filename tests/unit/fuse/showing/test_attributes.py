"""What stat shows."""

from hypothesis import given
from hypothesis import strategies as st

from cachefs.fuse.showing.attributes import MountOptions, Owner, folder_ino

HEX = st.text("0123456789abcdef", min_size=40, max_size=40)


@given(HEX)
def test_an_inode_number_is_positive_in_63_bits_and_never_0_or_1(file_version):
    owner = Owner.of(MountOptions(uid=1, gid=2))
    assert 2 <= owner.file(5, file_version, 10, 0).ino < 1 << 63


def test_the_lowest_and_highest_digests_stay_in_range():
    owner = Owner.of(MountOptions(uid=1, gid=2))
    assert owner.file(5, "0" * 40, 10, 0).ino == 2
    assert owner.file(5, "f" * 40, 10, 0).ino == (1 << 63) - 1


@given(st.text(), st.text())
def test_folders_with_different_names_have_different_inode_numbers(one, other):
    assert (folder_ino(one) == folder_ino(other)) == (one == other)


def test_nothing_can_be_written_and_the_umask_takes_further_bits():
    owner = Owner.of(MountOptions(uid=1, gid=2, umask=0o027))
    file, folder = owner.file(5, "a" * 40, 10, 3), owner.folder(6, "x", 4, 3)
    assert (file.mode, folder.mode) == (0o440, 0o550)
    assert (file.uid, file.gid, file.mtime_ns, file.nlink) == (1, 2, 3, 1)
    assert (folder.size, folder.nlink, folder.folder) == (0, 6, True)


def test_a_folder_whose_folders_nobody_has_counted_has_one_link():
    owner = Owner.of(MountOptions(uid=1, gid=2))
    assert owner.folder(6, "x", None, 3).nlink == 1
