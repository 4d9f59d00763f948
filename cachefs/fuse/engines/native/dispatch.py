"""Answers: what each request of the kernel gets, from the operations.

A handler takes the node and the body of a request and returns the body of the answer, or raises
``OSError`` with the number that the program shall see. READ and INIT are not here: the first is about
bytes and the second about the connection, and both belong to the engine.

Handles. Every request names its node, and whatever is needed can be had by that alone, so a handle
that another process gave out is as good as our own: what it stands for is opened again when it is
first used. The upper bits of a handle say which process gave it, so that closing another's is not
counted as closing one of ours.
"""

import errno
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cachefs.fuse.engines.native import protocol
from cachefs.fuse.engines.native.modes import Modes, Whole
from cachefs.fuse.showing.attributes import Attributes, Found, Statistics
from cachefs.ports import Runtime

_SERIAL_BITS = 40
"""Of a handle; a process that opens a thousand files a second has numbers for thirty years."""
_XATTR_BYTES_MAX = 65536
"""XATTR_SIZE_MAX and XATTR_LIST_MAX of ``linux/limits.h``."""
_OUR_XATTRS = b"user."
"""The only namespace of extended attributes in which there are any."""
_CACHED = protocol.FOPEN_KEEP_CACHE | protocol.FOPEN_NOFLUSH
_PASSED_THROUGH = protocol.FOPEN_PASSTHROUGH | protocol.FOPEN_NOFLUSH
_DOTS = 2
"""``.`` and ``..`` come before what is in a folder."""

Handler = Callable[[int, memoryview], bytes]
QuickHandler = Callable[[int, memoryview], bytes | None]
"""Waits for nobody: ``None`` if the answer may take a while, and is to be had from the handler."""


class Opened(Whole, Protocol):
    """A file as the operations give it; see :class:`cachefs.fuse.showing.opened.OpenedFile`."""

    size: int

    def expect(self) -> None:
        """Note that it will be read from now on."""
        ...

    def views(self, offset: int, length: int) -> AbstractContextManager[Sequence[memoryview]]:
        """Lend the bytes of a range."""
        ...


class Folder(Protocol):
    """A folder's content, which does not change; see :class:`cachefs.fuse.showing.listing.Listing`."""

    valid_seconds: float
    constant: bool

    def __len__(self) -> int:
        """Return how many names there are."""
        ...

    def __getitem__(self, index: int, /) -> tuple[bytes, Attributes]:
        """Return a name and what it means."""
        ...


class FileOperations(Protocol):
    """What the engine calls; see :class:`cachefs.fuse.showing.operations.Operations`."""

    def lookup(self, parent: int, name: bytes) -> Found:
        """Return what a name in a folder means."""
        ...

    def getattr(self, node: int) -> Found:
        """Return a node's attributes."""
        ...

    def try_lookup(self, parent: int, name: bytes) -> Found | None:
        """Return the same as :meth:`lookup`, or ``None`` if that might have to wait."""
        ...

    def try_getattr(self, node: int) -> Found | None:
        """Return the same as :meth:`getattr`, or ``None`` if that might have to wait."""
        ...

    def try_listing(self, node: int) -> Folder | None:
        """Return the same as :meth:`listing`, or ``None`` if that might have to wait."""
        ...

    def listing(self, node: int) -> Folder:
        """Return what is in a folder."""
        ...

    def open(self, node: int) -> Opened:
        """Open a file."""
        ...

    def names(self, node: int) -> Sequence[tuple[int, bytes]]:
        """Return where the kernel may know a node: folders, and its name in each."""
        ...

    def statfs(self) -> Statistics:
        """Return how much is shown."""
        ...

    def getxattr(self, node: int, name: str) -> bytes:
        """Return an extended attribute."""
        ...

    def listxattr(self, node: int) -> Sequence[str]:
        """Return the names of a node's extended attributes."""
        ...


class Dispatch:
    """Answers everything but READ. Safe from any thread."""

    def __init__(self, runtime: Runtime, operations: FileOperations, modes: Modes) -> None:
        """Answer from operations; files are opened as ``modes`` chooses."""
        self._operations = operations
        self._modes = modes
        self._lock = runtime.condition()
        # Random, because there is nobody to ask for the number of this process: 23 bits, so that
        # the handle stays below 2^63.
        self._serial = secrets.randbits(63 - _SERIAL_BITS) << _SERIAL_BITS
        self._files: dict[int, tuple[int, Opened | None]] = {}
        """By handle: node, and the open file unless the kernel reads it by itself."""
        self._folders: dict[int, tuple[int, Folder]] = {}
        """By handle: the folder's inode number, and what is in it."""
        self._adopted: dict[int, Opened] = {}
        """By node: files that are read through another process's handle."""
        self.handlers: dict[int, Handler] = {
            protocol.LOOKUP: self._lookup,
            protocol.GETATTR: self._getattr,
            protocol.OPEN: self._open,
            protocol.RELEASE: self._release,
            protocol.OPENDIR: self._opendir,
            protocol.READDIR: self._readdir,
            protocol.READDIRPLUS: self._readdirplus,
            protocol.RELEASEDIR: self._releasedir,
            protocol.STATFS: self._statfs,
            protocol.GETXATTR: self._getxattr,
            protocol.LISTXATTR: self._listxattr,
            protocol.READLINK: _refusing(errno.EINVAL),
            protocol.IOCTL: _refusing(errno.ENOTTY),
            protocol.DESTROY: lambda _node, _body: b"",
            **dict.fromkeys(protocol.WRITING, _refusing(errno.EROFS)),
        }
        """What is not here gets ENOSYS. After one the kernel does not ask again, and does as a file
        system does that has no opinion: it flushes nothing, allows by the mode, seeks by itself."""

        self.quick: dict[int, QuickHandler] = {
            protocol.LOOKUP: self._try_lookup,
            protocol.GETATTR: self._try_getattr,
            protocol.OPENDIR: self._try_opendir,
            protocol.READDIR: self._try_readdir,
            protocol.READDIRPLUS: self._try_readdirplus,
            protocol.RELEASEDIR: self._releasedir,
            protocol.GETXATTR: self._try_getxattr,
            protocol.LISTXATTR: self._listxattr,
        }
        """What programs ask by the thousand, answered if it is in memory."""

    def file(self, handle: int, node: int) -> Opened:
        """Return the open file to read from."""
        known = self._files.get(handle)
        if known is not None and known[1] is not None:
            return known[1]
        adopted = self._adopted.get(node)
        if adopted is not None:
            return adopted
        opened = self._operations.open(node)
        with self._lock:
            first = self._adopted.setdefault(node, opened)
        if first is not opened:
            opened.close()
        return first

    def disown(self, node: int) -> None:
        """Close what was opened for handles of others, because the kernel has dropped the node."""
        with self._lock:
            opened = self._adopted.pop(node, None)
        if opened is not None:
            opened.close()

    def unanswered(self, opcode: int, answer: bytes) -> None:
        """Take back an answer that nobody waited for any more."""
        if opcode in (protocol.OPEN, protocol.OPENDIR) and len(answer) == protocol.OPEN_OUT.size:
            handle = protocol.OPEN_OUT.unpack(answer)[0]
            if opcode == protocol.OPEN:
                self._close(handle)
            else:
                self._folders.pop(handle, None)

    def close(self) -> None:
        """Close all files; the kernel is not told."""
        with self._lock:
            opened = [each for _, each in self._files.values() if each is not None]
            opened += self._adopted.values()
            self._files.clear()
            self._adopted.clear()
        for each in opened:
            each.close()

    # ---- names and attributes -----------------------------------------------------------------

    def _lookup(self, parent: int, body: memoryview) -> bytes:
        try:
            found = self._operations.lookup(parent, protocol.name_in(body))
        except FileNotFoundError as error:
            return _no_entry(error)
        return protocol.encode_entry(*found)

    def _try_lookup(self, parent: int, body: memoryview) -> bytes | None:
        try:
            found = self._operations.try_lookup(parent, protocol.name_in(body))
        except FileNotFoundError as error:
            return _no_entry(error)
        return None if found is None else protocol.encode_entry(*found)

    def _try_getattr(self, node: int, _body: memoryview) -> bytes | None:
        found = self._operations.try_getattr(node)
        return None if found is None else protocol.encode_attributes(*found)

    def _getattr(self, node: int, _body: memoryview) -> bytes:
        return protocol.encode_attributes(*self._operations.getattr(node))

    def _statfs(self, _node: int, _body: memoryview) -> bytes:
        shown = self._operations.statfs()
        block = protocol.STATFS_BLOCK
        blocks = -(-shown.bytes // block)
        return protocol.STATFS_OUT.pack(
            blocks, 0, 0, shown.files, 0, block, shown.name_bytes_max, block, 0
        )

    def _try_getxattr(self, _node: int, body: memoryview) -> None:
        protocol.XATTR_IN.unpack_from(body)
        if not protocol.name_in(body[protocol.XATTR_IN.size :]).startswith(_OUR_XATTRS):
            # After this, `ls -l` asks no more for labels and access lists, of each single file.
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def _getxattr(self, node: int, body: memoryview) -> bytes:
        size, _ = protocol.XATTR_IN.unpack_from(body)
        name = protocol.name_in(body[protocol.XATTR_IN.size :])
        return _sized(self._operations.getxattr(node, os.fsdecode(name)), size)

    def _listxattr(self, node: int, body: memoryview) -> bytes:
        size, _ = protocol.XATTR_IN.unpack_from(body)
        names = self._operations.listxattr(node)
        return _sized(b"".join(os.fsencode(name) + b"\0" for name in names), size)

    # ---- files --------------------------------------------------------------------------------

    def _open(self, node: int, body: memoryview) -> bytes:
        flags, _ = protocol.OPEN_IN.unpack_from(body)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        opened = self._operations.open(node)
        try:
            mode = self._modes.open(node, opened)
        except BaseException:
            opened.close()
            raise
        handle = self._number()
        if not mode.backing:
            opened.expect()
            self._files[handle] = node, opened
            return protocol.OPEN_OUT.pack(handle, _CACHED, 0)
        self._files[handle] = node, None
        if not mode.kept:
            opened.close()
        return protocol.OPEN_OUT.pack(handle, _PASSED_THROUGH, mode.backing)

    def _release(self, _node: int, body: memoryview) -> bytes:
        self._close(protocol.RELEASE_IN.unpack_from(body)[0])
        return b""

    def _close(self, handle: int) -> None:
        known = self._files.pop(handle, None)
        if known is not None:
            node, opened = known
            self._modes.close(node)
            if opened is not None:
                opened.close()

    def _number(self) -> int:
        with self._lock:
            self._serial += 1
            return self._serial

    # ---- folders ------------------------------------------------------------------------------

    def _opendir(self, node: int, _body: memoryview) -> bytes:
        return self._open_folder(self._operations.getattr(node), self._operations.listing(node))

    def _try_opendir(self, node: int, _body: memoryview) -> bytes | None:
        found = self._operations.try_getattr(node)
        listing = None if found is None else self._operations.try_listing(node)
        return None if found is None or listing is None else self._open_folder(found, listing)

    def _open_folder(self, found: Found, listing: Folder) -> bytes:
        handle = self._number()
        self._folders[handle] = found.attributes.ino, listing
        flags = protocol.FOPEN_CACHE_DIR | protocol.FOPEN_KEEP_CACHE if listing.constant else 0
        return protocol.OPEN_OUT.pack(handle, flags, 0)

    def _releasedir(self, _node: int, body: memoryview) -> bytes:
        self._folders.pop(protocol.RELEASE_IN.unpack_from(body)[0], None)
        return b""

    def _try_readdir(self, _node: int, body: memoryview) -> bytes | None:
        return self._try_entries(body, plus=False)

    def _try_readdirplus(self, _node: int, body: memoryview) -> bytes | None:
        return self._try_entries(body, plus=True)

    def _try_entries(self, body: memoryview, *, plus: bool) -> bytes | None:
        handle, offset, size = protocol.READ_IN.unpack_from(body)[:3]
        known = self._folders.get(handle)
        # What is in one that is not constant may be looked up only now.
        if known is None or not known[1].constant:
            return None
        return _entries(*known, offset, size, plus=plus)

    def _readdir(self, node: int, body: memoryview) -> bytes:
        return self._all_entries(node, body, plus=False)

    def _readdirplus(self, node: int, body: memoryview) -> bytes:
        return self._all_entries(node, body, plus=True)

    def _all_entries(self, node: int, body: memoryview, *, plus: bool) -> bytes:
        handle, offset, size = protocol.READ_IN.unpack_from(body)[:3]
        known = self._folders.get(handle)
        if known is None:  # of the process before this one
            ino = self._operations.getattr(node).attributes.ino
            known = self._folders[handle] = ino, self._operations.listing(node)
        return _entries(*known, offset, size, plus=plus)


def _entries(ino: int, listing: Folder, offset: int, size: int, *, plus: bool) -> bytes:
    """Return as many entries of a folder as there is room for, as READDIR or READDIRPLUS has them."""
    valid = listing.valid_seconds
    before = protocol.NO_ENTRY if plus else b""
    parts: list[bytes] = []
    if offset < _DOTS:
        parts += [before + dot for dot in protocol.encode_dots(ino, offset)]
    left = size - sum(map(len, parts))
    for index in range(max(0, offset - _DOTS), len(listing)):
        name, attributes = listing[index]
        part = protocol.encode_dirent(
            name, attributes.ino, index + _DOTS + 1, folder=attributes.folder
        )
        left -= len(before) + len(part)
        if left < 0:
            break
        if plus:
            parts.append(protocol.encode_entry(attributes, valid))
        parts.append(part)
    return b"".join(parts)


def _no_entry(error: FileNotFoundError) -> bytes:
    """Return the answer for a name that means nothing, which raises if it may not be believed."""
    seconds = getattr(error, "valid_seconds", 0.0)
    if not seconds:
        raise error
    return protocol.encode_no_entry(seconds)


def _refusing(number: int) -> Handler:
    def refuse(_node: int, _body: memoryview) -> bytes:
        raise OSError(number, os.strerror(number))

    return refuse


def _sized(value: bytes, size: int) -> bytes:
    """Return an attribute's value, or how long it is when that is the question."""
    if len(value) > _XATTR_BYTES_MAX:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    if size == 0:
        return protocol.XATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return value
