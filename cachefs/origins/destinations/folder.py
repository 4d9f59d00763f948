"""``file://`` as a destination: a folder of this machine, or of a shared file system.

A file is written under a temporary name in its own folder, so that the last step is one ``rename``, and
whoever opens the file meanwhile finds the old one or the new one, whole. Before that it is on the disk
(``fsync``), and its pages are dropped, so that whoever reads it back reads the disk. The temporary name
is made of the file's key: who resumes finds it, and two copies of different contents never share it.
"""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from cachefs.core.datasets import OriginSpec
from cachefs.core.names import printable
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    OriginDeniedError,
    OriginUnavailableError,
    StepCancelledError,
)
from cachefs.origins.destinations.writing import NewFile, ReadBack, Resumed, Stop, Writing
from cachefs.origins.local import find_root, token_of

TEMPORARY = ".cachefs-"
"""What temporary names begin with."""
_WRITE_BYTES = 4 * 1024 * 1024
"""Written at once; between two of them it looks whether to stop."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FolderDestination:
    """Implements :class:`.writing.Destination` on a folder."""

    part_bytes_min = 1
    resumes = True

    def __init__(self, spec: OriginSpec, file_roots: tuple[str, ...]) -> None:
        """Find the folder; it need not exist yet.

        Raises:
            ConfigError: As :func:`.local.find_root`.
        """
        self._root = find_root(spec, file_roots)

    def begin(self, file: NewFile) -> Writing:
        """Make the temporary file, and the folders above it."""
        target = self._root / file.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._check(target)
            return _FileWriting(target, _temporary(target, file), os.O_CREAT | os.O_TRUNC)
        except OSError as error:
            raise translated(error, file.path) from error

    def resume(self, file: NewFile, state: str) -> Resumed | None:
        """Open the temporary file again."""
        del state
        target = self._root / file.path
        try:
            self._check(target)
            return Resumed(_FileWriting(target, _temporary(target, file), 0), None)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise translated(error, file.path) from error

    def remove(self, path: str) -> None:
        """Remove a file; folders stay."""
        target = self._root / path
        try:
            self._check(target)
            target.unlink(missing_ok=True)
        except OSError as error:
            raise translated(error, path) from error

    def close(self) -> None:
        """Do nothing: no descriptor is kept."""

    def _check(self, target: Path) -> None:
        """Refuse a path whose folders lead elsewhere by symbolic links."""
        really = Path(os.path.realpath(target.parent))
        if not really.is_relative_to(self._root):
            raise OriginDeniedError(
                "a symbolic link leads outside of the destination", subject=printable(str(target))
            )


class _FileWriting:
    """A temporary file."""

    in_order = False
    state = ""

    def __init__(self, target: Path, temporary: Path, flags: int) -> None:
        self._target = target
        self._temporary = temporary
        access = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(temporary, access | flags, 0o644)
        self._settled = False
        self.read_back: ReadBack | None = self._read

    def write(self, offset: int, data: memoryview, stop: Stop) -> None:
        """Write at the part's place."""
        self._settled = False
        done = 0
        try:
            while done < len(data):
                if stop():
                    raise StepCancelledError("the copy was stopped", subject=self._target.name)
                part = data[done : done + _WRITE_BYTES]
                done += os.pwrite(self._descriptor, part, offset + done)
        except OSError as error:
            raise translated(error, str(self._target)) from error

    def _read(self, offset: int, length: int) -> memoryview:
        """Read what was written, from the disk."""
        data = memoryview(bytearray(length))
        filled = 0
        try:
            self._settle()
            while filled < length:
                count = os.preadv(self._descriptor, [data[filled:]], offset + filled)
                if count == 0:
                    return data[:filled]
                filled += count
        except OSError as error:
            raise translated(error, str(self._target)) from error
        return data

    def finish(self) -> str:
        """Rename it, durably."""
        try:
            self._settle()
            self._temporary.rename(self._target)
            folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise translated(error, str(self._target)) from error
        self.close()
        return token_of(status)

    def _settle(self) -> None:
        """Have all of it on the disk, and nothing of it in memory; once, until more is written."""
        if not self._settled:
            os.fsync(self._descriptor)
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            self._settled = True

    def discard(self) -> None:
        """Remove it."""
        self.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def close(self) -> None:
        """Close it; idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def translated(error: OSError, subject: str) -> CacheFSError:
    """Return what a system's error means to whoever writes."""
    if isinstance(error, CacheFSError):
        return error
    subject = printable(subject)
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return CapacityError(
            "there is no room left at the destination",
            subject=subject,
            hint="make room and retry: what was copied is kept",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP):
        return OriginDeniedError("the file may not be written", subject=subject, hint=reason)
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return OriginDeniedError(
            "something else is in the file's place", subject=subject, hint=reason
        )
    if error.errno == errno.EBADF:
        return StepCancelledError("the copy was stopped", subject=subject)
    return OriginUnavailableError("the file cannot be written", subject=subject, hint=reason)


def _temporary(target: Path, file: NewFile) -> Path:
    name = hashlib.blake2b(f"{file.key}\0{file.path}".encode(), digest_size=12).hexdigest()
    return target.with_name(TEMPORARY + name)
