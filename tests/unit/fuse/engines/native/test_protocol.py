"""Requests are taken apart and answers put together as the kernel's header says."""

import pytest

from cachefs.fuse.engines.native import protocol
from cachefs.fuse.showing.attributes import Attributes

SHOWN = Attributes(
    node=(3 << 32) | 7,
    ino=99,
    folder=False,
    size=513,
    mode=0o444,
    nlink=1,
    uid=1000,
    gid=1001,
    mtime_ns=1_700_000_000_123_456_789,
)


@pytest.mark.parametrize(
    ("layout", "size"),
    [  # sizeof in include/uapi/linux/fuse.h
        (protocol.IN_HEADER, 40),
        (protocol.OUT_HEADER, 16),
        (protocol.INIT_OUT, 64),
        (protocol.ENTRY_OUT, 128),
        (protocol.ATTR_OUT, 104),
        (protocol.OPEN_IN, 8),
        (protocol.OPEN_OUT, 16),
        (protocol.READ_IN, 40),
        (protocol.RELEASE_IN, 24),
        (protocol.XATTR_OUT, 8),
        (protocol.STATFS_OUT, 80),
        (protocol.DIRENT, 24),
        (protocol.INTERRUPT_IN, 8),
        (protocol.INVAL_INODE_OUT, 24),
        (protocol.INVAL_ENTRY_OUT, 16),
        (protocol.BACKING_MAP, 16),
    ],
)
def test_a_structure_has_the_size_that_the_kernel_knows(layout, size):
    assert layout.size == size


def test_the_ioctls_are_those_of_the_header():
    assert protocol.DEV_IOC_BACKING_OPEN == 0x4010E501
    assert protocol.DEV_IOC_BACKING_CLOSE == 0x4004E502


def test_a_request_is_taken_apart():
    sent = protocol.IN_HEADER.pack(43, protocol.LOOKUP, 8, 1, 0, 0, 77, 0, 0) + b"ab\0"
    request = protocol.parse_request(memoryview(sent))
    assert request[:3] == (protocol.LOOKUP, 8, 1)
    assert protocol.name_in(request.body) == b"ab"


@pytest.mark.parametrize("length", [0, 1, 39, 41, 4096])
def test_a_request_that_is_not_as_long_as_it_says_is_refused(length):
    sent = protocol.IN_HEADER.pack(40, protocol.LOOKUP, 8, 1, 0, 0, 77, 0, 0)
    with pytest.raises(ValueError, match="request"):
        protocol.parse_request(memoryview((sent + bytes(4096))[:length]))


def test_an_entry_says_what_stat_shows():
    encoded = protocol.ENTRY_OUT.unpack(protocol.encode_entry(SHOWN, 60.5))
    assert encoded[:6] == (SHOWN.node, 0, 60, 60, 500_000_000, 500_000_000)
    ino, size, blocks, atime, mtime, ctime, *nanos = encoded[6:15]
    assert (ino, size, blocks) == (99, 513, 2)
    assert {atime, mtime, ctime} == {1_700_000_000}
    assert set(nanos) == {123_456_789}
    assert encoded[15:21] == (0o100444, 1, 1000, 1001, 0, 1 << 20)


def test_attributes_are_those_of_an_entry():
    entry = protocol.encode_entry(SHOWN, 60.5)
    attributes = protocol.encode_attributes(SHOWN, 60.5)
    assert attributes[16:] == entry[40:]
    assert protocol.ATTR_OUT.unpack(attributes)[:2] == (60, 500_000_000)


def test_a_name_that_means_nothing_can_be_believed_for_a_while():
    encoded = protocol.ENTRY_OUT.unpack(protocol.encode_no_entry(1.5))
    assert encoded[0] == 0
    assert (encoded[2], encoded[4]) == (1, 500_000_000)


@pytest.mark.parametrize("name", [b"a", b"eight888", b"nine99999", "ü".encode(), b"\xff\n"])
def test_names_in_a_folder_are_padded_to_eight_bytes(name):
    entry = protocol.encode_dirent(name, 5, 9, folder=True)
    assert len(entry) % 8 == 0
    assert protocol.DIRENT.unpack_from(entry) == (5, 9, len(name), 4)
    assert entry[24 : 24 + len(name)] == name
    assert not entry[24 + len(name) :].strip(b"\0")


@pytest.mark.parametrize(
    ("seconds", "split"), [(0.0, (0, 0)), (1.5, (1, 500_000_000)), (31536000.0, (31536000, 0))]
)
def test_seconds_are_split(seconds, split):
    assert protocol.split_seconds(seconds) == split
