"""A folder of the operating system as a :class:`cachefs.ports.Disk`.

The folder must be ours and closed to everybody else (mode 0700), because what is in it is served as
the truth: a folder that others may write is refused, not repaired. Files are opened relative to a
descriptor of the folder and never through a symbolic link, so that nothing that happens to a path
above it, or is planted in it, leads elsewhere. The folder is locked: two workers on one folder would
each remove what the other wrote.
"""

import ctypes
import errno
import fcntl
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from cachefs.errors import ConfigError, check
from cachefs.ports import DiskFile

FILE_MODE = 0o600
FOLDER_MODE = 0o700
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_ALLOCATED_BYTES_MIN = 1024 * 1024
"""Shorter writes are not worth a system call of their own."""
_NO_LEASES = frozenset(
    (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.ENOLCK)
)
"""The file system has none, they are switched off (``fs.leases-enable``), or the file is not ours."""
_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_LIBC.fallocate.restype = ctypes.c_int
_LIBC.syncfs.argtypes = (ctypes.c_int,)
_LIBC.syncfs.restype = ctypes.c_int


def read_boot_id() -> str:
    """Return what tells this run of the kernel from any other; empty if it cannot be known."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class OsDisk:
    """Implements :class:`cachefs.ports.Disk` on one folder."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, making it if it is missing.

        Raises:
            ConfigError: It cannot be made, is not ours, is open to others, or is in use.
        """
        self._folder: int | None = None
        try:
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise ConfigError(
                f"the tier's folder cannot be opened: {error.strerror}", subject=str(folder)
            ) from error
        try:
            _check_ours(folder, descriptor)
        except ConfigError:
            os.close(descriptor)
            raise
        self._folder = descriptor

    def open(self, name: str, *, create: bool = False) -> "OsDiskFile":
        """Open a regular file for reading and writing."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        if create:
            flags |= os.O_CREAT
        descriptor = os.open(_plain(name), flags, FILE_MODE, dir_fd=self._descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file", name)
        return OsDiskFile(descriptor)

    def names(self) -> Iterator[str]:
        """Yield the name of everything in the folder."""
        with os.scandir(self._descriptor) as entries:
            yield from (entry.name for entry in entries)

    def remove(self, name: str) -> None:
        """Delete a file, or an empty folder that took its place; nothing there is no error."""
        try:
            os.unlink(_plain(name), dir_fd=self._descriptor)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            os.rmdir(name, dir_fd=self._descriptor)

    def replace(self, name: str, target: str) -> None:
        """Rename over ``target``, and make the folder remember it."""
        folder = self._descriptor
        os.replace(_plain(name), _plain(target), src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)

    def refers(self, name: str, file: DiskFile) -> bool:
        """Say whether ``name`` is still this very file."""
        try:
            named = os.stat(_plain(name), dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        ours = os.fstat(file.fileno())
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)

    def free_bytes(self) -> int:
        """Return what the file system could still take from us."""
        room = os.fstatvfs(self._descriptor)
        return room.f_bavail * room.f_frsize

    def sync(self) -> None:
        """Write out the whole file system: one call, however many files were written."""
        if _LIBC.syncfs(self._descriptor) != 0:
            _raise_errno()

    def close(self) -> None:
        """Let go of the folder and of its lock."""
        descriptor, self._folder = self._folder, None
        if descriptor is not None:
            os.close(descriptor)

    @property
    def _descriptor(self) -> int:
        if self._folder is None:
            raise OSError(errno.EBADF, "the folder was closed")
        return self._folder


class OsDiskFile:
    """Implements :class:`cachefs.ports.DiskFile` on one descriptor, which may read and write.

    There is no other of ours that lasts: the kernel is asked whether this is the only one.
    """

    def __init__(self, descriptor: int) -> None:
        """Take over a descriptor that may read and write."""
        self._descriptor = descriptor
        self._closed = False
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor, which may write."""
        if self._closed:
            raise OSError(errno.EBADF, "the file was closed")
        return self._descriptor

    def lend(self) -> int:
        """Open the file once more, for reading: whoever receives that cannot write."""
        with self._lock:
            # Through /proc the same file is opened anew, with rights of its own.
            return os.open(f"/proc/self/fd/{self.fileno()}", os.O_RDONLY | os.O_CLOEXEC)

    def shared(self) -> bool | None:
        """Ask for a write lease of the kernel's, which only the sole opener gets, and end it.

        Whoever opens the file in between waits for that, some microseconds, and the kernel sends us
        a signal. That must be one that does nothing: its default, SIGIO, ends a process. Each end
        of a lease sets it back.
        """
        with self._lock:
            descriptor = self.fileno()
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return True
                if error.errno in _NO_LEASES:
                    return None
                raise
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return False

    def takes_room(self, offset: int, length: int) -> bool:
        """Look for the first byte of the range that is not in a hole."""
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA) < offset + length
        except OSError as error:
            return error.errno != errno.ENXIO

    def pread_into(self, into: memoryview, offset: int) -> int:
        """Read until ``into`` is full or the file ends."""
        done = 0
        while done < len(into):
            count = os.preadv(self._descriptor, [into[done:]], offset + done)
            if count == 0:
                break
            done += count
        return done

    def pwrite(self, data: memoryview, offset: int) -> None:
        """Write all of ``data``."""
        if len(data) >= _ALLOCATED_BYTES_MIN:
            self._allocate(offset, len(data))
        done = 0
        while done < len(data):
            done += os.pwrite(self._descriptor, data[done:], offset + done)

    def _allocate(self, offset: int, length: int) -> None:
        """Reserve the room in one piece, so that a full disk says so before anything is written.

        For a file system that has it (ext4 and its kin), this also saves the third of the processor
        time of a write that would go into finding room page by page.
        """
        if _LIBC.fallocate(self._descriptor, 0, offset, length) != 0:
            number = ctypes.get_errno()
            if number in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(number, os.strerror(number))

    def sync(self) -> None:
        """Return when what was written survives a power cut."""
        os.fdatasync(self._descriptor)

    def truncate(self, size: int) -> None:
        """Set the size."""
        os.ftruncate(self._descriptor, size)

    def punch(self, offset: int, length: int) -> None:
        """Make a hole."""
        if _LIBC.fallocate(self._descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length) != 0:
            _raise_errno()

    def size(self) -> int:
        """Return the bytes from begin to end."""
        return os.fstat(self._descriptor).st_size

    def stamp(self) -> int:
        """Return the change time in nanoseconds."""
        return os.fstat(self._descriptor).st_ctime_ns

    def close(self) -> None:
        """Release the descriptor."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._descriptor)


def _check_ours(folder: Path, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise ConfigError(
            "the tier's folder belongs to another user",
            subject=str(folder),
            hint=f"give it to uid {os.geteuid()} or name another folder",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(
            "the tier's folder is open to other users",
            subject=str(folder),
            hint=f"chmod 700 {folder}",
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            "the tier's folder is in use by another process",
            subject=str(folder),
            hint="each tier of each worker needs a folder of its own",
        ) from error


def _plain(name: str) -> str:
    check(name not in ("", ".", "..") and "/" not in name, "not a plain file name")
    return name


def _raise_errno() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
