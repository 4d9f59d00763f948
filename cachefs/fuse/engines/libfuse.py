"""The engine on libfuse 3, through mfusepy: the portable one.

The library mounts, keeps the table of nodes, and calls us by *path*, from threads of its own; the
interpreter's lock is free while they wait for the kernel and while we read. Three things are done
otherwise than mfusepy does them by itself. A read goes straight into the library's buffer, with no
copy through ``bytes``. A listing comes with the attributes of what is in it, so that ``ls -l`` asks for
nothing more. And whatever is not an ``OSError`` is ``EIO``.

A path has one node and so one page cache in the kernel, whatever it shows at the time. Two versions at
one path would be mixed there; that is why this engine cannot follow a dataset's current version. Nor
can the library hand its mount to another process: it dies with this one.
"""

import contextlib
import ctypes
import errno
import itertools
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cachefs.errors import ConfigError
from cachefs.fuse.engines.native.device import set_read_ahead
from cachefs.fuse.engines.underway import Underway
from cachefs.fuse.mounts.table import find_mount
from cachefs.fuse.showing.attributes import FOREVER, ROOT, Attributes, Found, MountOptions
from cachefs.fuse.showing.listing import Listing
from cachefs.fuse.showing.opened import OpenedFile
from cachefs.fuse.showing.operations import Operations
from cachefs.ports import Runtime

# A machine may have both major versions; only the third has large requests and listings with
# attributes. It is chosen when the module is imported, and by the environment alone.
os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
import mfusepy

_FILL_PLUS = 2
"""``FUSE_FILL_DIR_PLUS``: the attributes given are whole."""
_PLUS = 1
"""``FUSE_READDIR_PLUS``: the kernel asks for them."""
_BLOCK_BYTES = 4096
"""What ``statfs`` and ``st_blksize`` count in."""
_STAT_BLOCK_BYTES = 512
"""What ``st_blocks`` counts in."""
_READ_BYTES_MAX = 1024 * 1024
"""The kernel's largest request; told to programs as the size to read in."""
_THREADS = 64
"""Requests that may wait for the cluster at once, while others are answered."""
_THREADS_IDLE = 16
"""Threads that are kept for the next requests."""
_BACKGROUND = 32
"""Reads ahead of programs that the kernel may have under way; fewer than the threads."""
_THREADS_SINCE = 12
"""The minor version of libfuse 3 that can be told."""
_PATHS_KEPT = 65_536
"""Paths whose node is remembered; the oldest half is forgotten at once."""
_XATTRS = b"user."
_OPERATIONS = (
    "getattr",
    "open",
    "read",
    "release",
    "opendir",
    "readdir",
    "releasedir",
    "statfs",
    "getxattr",
    "listxattr",
    "init",
)
"""What the library is told that there is. All else it refuses, or the kernel, for the mount is read-only."""

_log = logging.getLogger("cachefs.fuse")


class LibfuseEngine:
    """Serves one mount on libfuse; mounts when told to serve, and ends with it."""

    def __init__(
        self,
        operations: Operations,
        mountpoint: Path,
        source: str,
        options: MountOptions,
        runtime: Runtime,
        *,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        """Mount nothing yet.

        Args:
            operations: What to show; stays the caller's to close.
            mountpoint: An existing folder.
            source: What the mount table shows.
            options: How it is shown, and read.
            runtime: For time.
            on_ready: Called when the kernel begins to send requests of programs.

        Raises:
            ConfigError: The options ask for what this engine cannot do.
        """
        if options.follow_current:
            raise ConfigError(
                "the libfuse engine cannot follow a dataset's current version",
                hint="use the native engine (--engine native)",
            )
        self._bridge = _Bridge(operations, mountpoint, options, runtime, on_ready)
        self.underway = self._bridge.underway
        """How long requests have been served."""
        self._mountpoint = mountpoint
        self._source = source
        self._options = options

    def serve(self) -> None:
        """Mount, and answer until the mount is gone or :meth:`close` is called.

        Raises:
            ConfigError: The library cannot mount there; it said why on standard error.
        """
        options: dict[str, Any] = {  # Any: words and switches
            "foreground": True,
            "fsname": self._source,
            "subtype": "cachefs",
            "ro": True,
            "nosuid": True,
            "nodev": True,
            "noexec": True,
            "default_permissions": True,
            "allow_other": self._options.allow_other,
        }
        if mfusepy.fuse_version_minor >= _THREADS_SINCE:
            options |= {"max_threads": _THREADS, "max_idle_threads": _THREADS_IDLE}
        try:
            _Library(self._bridge, self._mountpoint, options)
        except RuntimeError as error:
            if self._bridge.session is None:
                raise ConfigError(
                    "libfuse cannot mount there", subject=str(self._mountpoint), hint=str(error)
                ) from error
            _log.warning("libfuse ended with an error", extra={"status": str(error)})
        finally:
            self._bridge.close()

    def close(self) -> None:
        """Answer what is under way, give the mount up, and let :meth:`serve` return; idempotent."""
        self._bridge.leave()
        # The library looks at its flag after a request, so it is sent one more.
        with contextlib.suppress(OSError):
            os.statvfs(self._mountpoint)


class _Bridge:
    """What the library's callbacks share: paths to nodes, handles to open files and listings."""

    def __init__(
        self,
        operations: Operations,
        mountpoint: Path,
        options: MountOptions,
        runtime: Runtime,
        on_ready: Callable[[], None] | None,
    ) -> None:
        self.operations = operations
        self.underway = Underway(runtime)
        self.mountpoint = mountpoint
        self.options = options
        self.on_ready = on_ready
        self.session: int | None = None
        """The library's own structure, from its first call on."""
        self.files: dict[int, OpenedFile] = {}
        self.listings: dict[int, tuple[Attributes, Listing]] = {}
        self._paths: dict[bytes, int] = {}
        self._handles = itertools.count(1)

    def find(self, path: bytes) -> Found:
        """Return what a path means, remembering the nodes of those that cannot change."""
        if path == b"/":
            return self.operations.getattr(ROOT)
        known = self._paths.get(path)
        if known is not None:
            return self.operations.getattr(known)
        parent, _, name = path.rpartition(b"/")
        found = self.operations.lookup(self.find(parent or b"/").attributes.node, name)
        if found.valid_seconds == FOREVER:
            if len(self._paths) >= _PATHS_KEPT:
                for each in list(itertools.islice(self._paths, _PATHS_KEPT // 2)):
                    self._paths.pop(each, None)
            self._paths[path] = found.attributes.node
        return found

    def keep(self, file: OpenedFile) -> int:
        """Return a handle for an open file."""
        handle = next(self._handles)
        self.files[handle] = file
        return handle

    def keep_listing(self, own: Attributes, listing: Listing) -> int:
        """Return a handle for a listing."""
        handle = next(self._handles)
        self.listings[handle] = own, listing
        return handle

    def leave(self) -> None:
        """Tell the library's loop to end."""
        if self.session is not None:
            mfusepy._libfuse.fuse_exit(ctypes.c_void_p(self.session))

    def close(self) -> None:
        """Close what the kernel has forgotten to."""
        self.session = None
        while self.files:
            self.files.popitem()[1].close()
        self.listings.clear()


class _Library(mfusepy.FUSE):  # type: ignore[misc]  # mfusepy has no types
    """mfusepy's loop with our own callbacks; the constructor returns when the mount is gone."""

    def __init__(self, bridge: _Bridge, mountpoint: Path, options: dict[str, Any]) -> None:
        self._bridge = bridge
        self._operations = bridge.operations
        implemented = dict.fromkeys(_OPERATIONS, True)
        super().__init__(_Implemented(implemented), os.fsdecode(mountpoint), **options)

    def _wrapper(self, function: Callable[..., int | None], *arguments: Any) -> int:
        """Turn what a callback raises into the number that the library wants."""
        try:
            with self._bridge.underway.serving():
                return function(*arguments) or 0
        except OSError as error:
            return -(error.errno or errno.EIO)
        except Exception:  # noqa: BLE001 - the request boundary: a bug must not take the mount with it
            _log.exception("an operation met a bug", extra={"operation": function.__name__})
            return -errno.EIO

    # ---- callbacks; pointers are ctypes', which has no types for what they point at --------------

    def init_fuse_3(self, connection: Any, config: Any) -> None:
        self._bridge.session = mfusepy._libfuse.fuse_get_context().contents.fuse
        settings = config.contents
        settings.use_ino = 1
        settings.kernel_cache = 1
        settings.nullpath_ok = 1
        found = self._operations.getattr(ROOT)
        settings.entry_timeout = settings.attr_timeout = found.valid_seconds
        settings.negative_timeout = found.valid_seconds
        ahead = self._bridge.options.read_ahead_bytes
        entry = find_mount(self._bridge.mountpoint)
        # What the kernel is told bounds what it was set to, so it must be told afterwards.
        if entry is not None and set_read_ahead(int(entry.device.partition(":")[2]), ahead):
            connection.contents.max_readahead = ahead
        connection.contents.max_background = _BACKGROUND
        if self._bridge.on_ready is not None:
            self._bridge.on_ready()

    def getattr_fuse_3(self, path: bytes | None, into: Any, info: Any) -> None:
        if path is not None:
            attributes = self._bridge.find(path).attributes
        else:
            handle = info.contents.fh
            file = self._bridge.files.get(handle)
            if file is not None:
                attributes = self._operations.getattr(file.node).attributes
            else:
                attributes = self._bridge.listings[handle][0]
        _fill(into.contents, attributes)

    def open(self, path: bytes, info: Any) -> None:
        info = info.contents
        if info.flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        node = self._bridge.find(path).attributes.node
        info.fh = self._bridge.keep(self._operations.open(node))
        info.keep_cache = 1

    def read(self, _path: bytes | None, into: Any, size: int, offset: int, info: Any) -> int:
        file = self._bridge.files[info.contents.fh]
        buffer = (ctypes.c_char * size).from_address(ctypes.addressof(into.contents))
        return file.read_into(offset, memoryview(buffer).cast("B"))

    def release(self, _path: bytes | None, info: Any) -> None:
        self._bridge.files.pop(info.contents.fh).close()

    def opendir(self, path: bytes, info: Any) -> None:
        attributes = self._bridge.find(path).attributes
        listing = self._operations.listing(attributes.node)
        info.contents.fh = self._bridge.keep_listing(attributes, listing)
        info.contents.cache_readdir = info.contents.keep_cache = listing.constant

    def readdir_fuse_3(
        self, _path: bytes | None, into: Any, fill: Any, offset: int, info: Any, flags: int
    ) -> None:
        own, listing = self._bridge.listings[info.contents.fh]
        status = mfusepy.c_stat()
        if offset == 0:
            _fill(status, own)
        for at, name in ((0, b"."), (1, b"..")):
            if offset <= at and fill(into, name, status, at + 1, 0):
                return
        for at in range(max(0, offset - 2), len(listing)):
            name, attributes = listing[at]
            _fill(status, attributes)
            if fill(into, name, status, at + 3, _FILL_PLUS if flags & _PLUS else 0):
                return

    def releasedir(self, _path: bytes | None, info: Any) -> None:
        self._bridge.listings.pop(info.contents.fh)

    def statfs(self, _path: bytes, into: Any) -> None:
        statistics = self._operations.statfs()
        into = into.contents
        into.f_bsize = into.f_frsize = _BLOCK_BYTES
        into.f_blocks = -(-statistics.bytes // _BLOCK_BYTES)
        into.f_files = statistics.files
        into.f_namemax = statistics.name_bytes_max

    def getxattr(self, path: bytes, name: bytes, into: Any, size: int) -> int:
        if not name.startswith(_XATTRS):
            # After this, `ls -l` asks no more for labels and access lists, of each single file.
            return -errno.EOPNOTSUPP
        node = self._bridge.find(path).attributes.node
        return _give(self._operations.getxattr(node, name.decode(errors="replace")), into, size)

    def listxattr(self, path: bytes, into: Any, size: int) -> int:
        names = self._operations.listxattr(self._bridge.find(path).attributes.node)
        return _give(b"".join(name.encode() + b"\0" for name in names), into, size)


class _Implemented:
    """Has an attribute for each callback that the library shall be told of."""

    use_ns = True

    def __init__(self, names: dict[str, bool]) -> None:
        self.__dict__.update(names)


def _fill(into: Any, attributes: Attributes) -> None:  # Any: a structure of ctypes
    """Write attributes into a ``struct stat``."""
    into.st_ino = attributes.ino
    into.st_mode = attributes.mode | (stat.S_IFDIR if attributes.folder else stat.S_IFREG)
    into.st_nlink = attributes.nlink
    into.st_uid = attributes.uid
    into.st_gid = attributes.gid
    into.st_size = attributes.size
    into.st_blocks = -(-attributes.size // _STAT_BLOCK_BYTES)
    into.st_blksize = _READ_BYTES_MAX
    seconds, nanoseconds = divmod(attributes.mtime_ns, 1_000_000_000)
    for time in (into.st_atimespec, into.st_mtimespec, into.st_ctimespec):
        time.tv_sec = seconds
        time.tv_nsec = nanoseconds


def _give(value: bytes, into: Any, size: int) -> int:  # Any: a pointer of ctypes
    """Write a value where there is room for it; return its length, or that there is not enough."""
    if size == 0:
        return len(value)
    if len(value) > size:
        return -errno.ERANGE
    ctypes.memmove(into, value, len(value))
    return len(value)
