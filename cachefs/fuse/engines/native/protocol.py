"""The kernel's FUSE protocol: opcodes, flags and layouts of the read-only subset, and nothing else.

All numbers and layouts are those of Linux, ``include/uapi/linux/fuse.h``. Names are the header's
without ``FUSE_``. Up to version 7.38 they were compared with the header of Debian 12; what came later
carries its version. A structure is a ``struct.Struct`` with the header's fields in its order; padding
is written out, so ``=`` (no alignment) gives the sizes that the header says.

Requests and answers are in the machine's byte order. A request is a header and a body, an answer a
header and a body or a negative error number, written in one call.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from cachefs.fuse.showing.attributes import Attributes

MAJOR = 7
MINOR = 40
"""The newest version whose structures this module knows; the kernel's may be older or newer."""
MINOR_MIN = 31
"""Linux 5.4. Older kernels lack what is taken for granted here; the other engine serves them."""

# enum fuse_opcode
LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK = 1, 2, 3, 4, 5, 6
MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = 8, 9, 10, 11, 12, 13
OPEN, READ, WRITE, STATFS, RELEASE = 14, 15, 16, 17, 18
FSYNC, SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR, FLUSH = 20, 21, 22, 23, 24, 25
INIT, OPENDIR, READDIR, RELEASEDIR = 26, 27, 28, 29
ACCESS, CREATE, INTERRUPT, DESTROY, IOCTL = 34, 35, 36, 38, 39
BATCH_FORGET, FALLOCATE, READDIRPLUS, RENAME2, LSEEK = 42, 43, 44, 45, 46
COPY_FILE_RANGE, TMPFILE = 47, 51

WRITING = frozenset(
    {SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, WRITE, SETXATTR}
    | {REMOVEXATTR, CREATE, FALLOCATE, RENAME2, COPY_FILE_RANGE, TMPFILE}
)
"""What would change something."""

# Flags of INIT. Bits from 32 on travel in ``flags2``, which counts only with INIT_EXT.
ASYNC_READ = 1 << 0
DO_READDIRPLUS = 1 << 13
ASYNC_DIO = 1 << 15
PARALLEL_DIROPS = 1 << 18
ABORT_ERROR = 1 << 21
MAX_PAGES = 1 << 22
EXPLICIT_INVAL_DATA = 1 << 25
INIT_EXT = 1 << 30
PASSTHROUGH = 1 << 37
"""7.40, Linux 6.9."""
HAS_RESEND = 1 << 39
"""7.40, Linux 6.9."""
ALLOW_IDMAP = 1 << 40
"""7.41, Linux 6.12: containers with users of their own may see the mount, its owners mapped; the kernel alone
looks at owners, and never asks us about them."""

# Flags of an answer to OPEN and OPENDIR.
FOPEN_KEEP_CACHE = 1 << 1
FOPEN_CACHE_DIR = 1 << 3
FOPEN_NOFLUSH = 1 << 5
"""7.35, ignored by older kernels: closing a file asks nobody, so it cannot wait for a dead process."""
FOPEN_PASSTHROUGH = 1 << 7
"""7.40. No flag about the cache may stand beside it: the kernel refuses them together."""

# enum fuse_notify_code
NOTIFY_INVAL_INODE = 2
NOTIFY_INVAL_ENTRY = 3
NOTIFY_RESEND = 7
"""7.40."""

UNIQUE_RESEND = 1 << 63
"""7.40: set in ``unique`` of a request that is sent once more."""

# Ioctls on /dev/fuse: 229 is FUSE_DEV_IOC_MAGIC; direction 1 (write) and size as in asm/ioctl.h.
DEV_IOC_BACKING_OPEN = (1 << 30) | (16 << 16) | (229 << 8) | 1
"""7.40; takes a BACKING_MAP."""
DEV_IOC_BACKING_CLOSE = (1 << 30) | (4 << 16) | (229 << 8) | 2
"""7.40; takes a 32-bit id."""

IN_HEADER = struct.Struct("=IIQQIIIHH")
"""len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding"""
IN_HEADER_BEGIN = struct.Struct("=IIQQ")
"""len, opcode, unique, nodeid: what is asked of whom"""
OUT_HEADER = struct.Struct("=IiQ")
"""len, error, unique"""
INIT_IN = struct.Struct("=IIII")
"""major, minor, max_readahead, flags"""
INIT_IN_EXT = struct.Struct("=IIIII")
"""The same and flags2; eleven reserved words follow."""
INIT_OUT = struct.Struct("=IIIIHHIIHHII24x")
"""major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran,
max_pages, map_alignment, flags2, max_stack_depth (7.40)"""
ENTRY_OUT = struct.Struct("=QQQQIIQQQQQQIIIIIIIIII")
"""nodeid, generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec, then fuse_attr:
ino, size, blocks, atime, mtime, ctime, three times nsec, mode, nlink, uid, gid, rdev, blksize, flags"""
ATTR_OUT = struct.Struct("=QIIQQQQQQIIIIIIIIII")
"""attr_valid, attr_valid_nsec, dummy, then fuse_attr"""
OPEN_IN = struct.Struct("=II")
"""flags, open_flags"""
OPEN_OUT = struct.Struct("=QIi")
"""fh, open_flags, backing_id (7.40)"""
READ_IN = struct.Struct("=QQIIQII")
"""fh, offset, size, read_flags, lock_owner, flags, padding"""
RELEASE_IN = struct.Struct("=QIIQ")
"""fh, flags, release_flags, lock_owner"""
XATTR_IN = struct.Struct("=II")
"""size, padding; GETXATTR's name follows"""
XATTR_OUT = struct.Struct("=II")
"""size, padding"""
STATFS_OUT = struct.Struct("=QQQQQIIII24x")
"""blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding"""
DIRENT = struct.Struct("=QQII")
"""ino, off, namelen, type; the name follows, padded to eight bytes"""
INTERRUPT_IN = struct.Struct("=Q")
"""unique of the request that is interrupted"""
INVAL_INODE_OUT = struct.Struct("=Qqq")
"""ino (a node number), off, len"""
INVAL_ENTRY_OUT = struct.Struct("=QII")
"""parent, namelen, flags; the name and a NUL follow"""
BACKING_MAP = struct.Struct("=iIQ")
"""fd, flags, padding"""

MIN_READ_BUFFER = 8192
"""FUSE_MIN_READ_BUFFER: the kernel gives no request to a smaller one."""
STATFS_BLOCK = 4096
"""The unit in which ``df`` is answered."""

_FOLDER, _FILE = 0o040000, 0o100000
_DT_FOLDER, _DT_FILE = 4, 8
_IO_SIZE = 1 << 20
"""What ``st_blksize`` advises: programs that heed it, such as ``cp``, then read well."""
_NO_INO = 0xFFFFFFFF
"""The inode number of ``..``, which nobody may rely on."""


class Request(NamedTuple):
    """One request, whose body is in the reader's buffer and lasts until its next read."""

    opcode: int
    unique: int
    node: int
    body: memoryview


def parse_request(received: memoryview) -> Request:
    """Take a request apart.

    Raises:
        ValueError: It is shorter than a header, or not as long as it says.
    """
    if len(received) < IN_HEADER.size:
        raise ValueError("a request shorter than its header")
    length, opcode, unique, node, _, _, _, _, _ = IN_HEADER.unpack_from(received)
    if length != len(received):
        raise ValueError("a request that is not as long as it says")
    return Request(opcode, unique, node, received[IN_HEADER.size :])


def name_in(body: memoryview) -> bytes:
    """Return the name that a body begins with, up to its NUL."""
    name, _, _ = bytes(body).partition(b"\0")
    return name


def split_seconds(seconds: float) -> tuple[int, int]:
    """Return whole seconds and nanoseconds."""
    whole = int(seconds)
    return whole, int((seconds - whole) * 1_000_000_000)


def encode_entry(attributes: Attributes, valid_seconds: float) -> bytes:
    """Return what LOOKUP answers: a node with its attributes, valid for so long."""
    node, ino, folder, size, mode, nlink, uid, gid, mtime_ns = attributes
    return _ENTRY.pack(
        node,
        _validity(valid_seconds),
        ino,
        size,
        (size + 511) >> 9,
        _rest((_FOLDER if folder else _FILE) | mode, nlink, uid, gid, mtime_ns),
    )


def encode_no_entry(valid_seconds: float) -> bytes:
    """Return what LOOKUP answers for a name that means nothing, and may be believed for so long."""
    second, nano = split_seconds(valid_seconds)
    return ENTRY_OUT.pack(0, 0, second, 0, nano, 0, *([0] * 16))


def encode_attributes(attributes: Attributes, valid_seconds: float) -> bytes:
    """Return what GETATTR answers."""
    second, nano = split_seconds(valid_seconds)
    return _ATTR_VALID.pack(second, nano, 0) + encode_entry(attributes, 0.0)[_ENTRY_VALID.size :]


def encode_dots(ino: int, first: int) -> Sequence[bytes]:
    """Return the entries ``.`` and ``..`` of a folder, from the ``first`` on, as READDIR has them."""
    dots = (
        encode_dirent(b".", ino, 1, folder=True),
        encode_dirent(b"..", _NO_INO, 2, folder=True),
    )
    return dots[first:]


def encode_dirent(name: bytes, ino: int, following: int, *, folder: bool) -> bytes:
    """Return an entry of a folder; the next one is asked for by ``following``."""
    head = DIRENT.pack(ino, following, len(name), _DT_FOLDER if folder else _DT_FILE)
    return head + name + b"\0" * (-len(name) % 8)


# An entry is encoded for every file that a program looks at, and most of it is the same for all files
# of a version. So that is put together once, and the five numbers that differ are set in between.
_ENTRY = struct.Struct("=Q32sQQQ64s")
"""ENTRY_OUT: nodeid, what :func:`_validity` gives, ino, size, blocks, what :func:`_rest` gives"""
_ENTRY_VALID = struct.Struct("=QQQQII")
"""How ENTRY_OUT begins: nodeid, generation, and how long it is valid"""
_REST = struct.Struct("=QQQIIIIIIIIII")
"""How both end: three times, their nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags"""
_ATTR_VALID = struct.Struct("=QII")
"""How ATTR_OUT begins"""


@lru_cache(maxsize=16)
def _validity(seconds: float) -> bytes:
    second, nano = split_seconds(seconds)
    return _ENTRY_VALID.pack(0, 0, second, second, nano, nano)[8:]


@lru_cache(maxsize=1024)
def _rest(mode: int, nlink: int, uid: int, gid: int, mtime_ns: int) -> bytes:
    second, nano = divmod(mtime_ns, 1_000_000_000)
    times = (second, second, second, nano, nano, nano)
    return _REST.pack(*times, mode, nlink, uid, gid, 0, _IO_SIZE, 0)


NO_ENTRY = bytes(ENTRY_OUT.size)
"""Before a name in READDIRPLUS: nothing is said about what it means."""
