"""``file://``: a folder or a single file of this machine, or of a shared file system.

A file's token is its modification time, size and inode. It is looked at before and after the bytes
are read, so a file that is overwritten meanwhile is an error and not a mixture. (A writer that puts
the old time back, at the same size and inode, is not noticed; give ``--checksums`` where files are
written by such tools.)

Symbolic links that stay inside of the dataset's folder are what they point to; all others are
absent, and counted. A file is opened first and asked afterwards where it is (``/proc/self/fd``), so
nobody can swap a link between the check and the use. Devices, pipes and sockets are absent too.
"""

import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry
from cachefs.core.names import printable
from cachefs.core.urls import split_url
from cachefs.errors import (
    ConfigError,
    OriginChangedError,
    OriginDeniedError,
    OriginError,
    OriginNotFoundError,
    OriginUnavailableError,
)
from cachefs.ports import OriginFile

log = logging.getLogger("cachefs.origins")


def find_root(spec: OriginSpec, file_roots: tuple[str, ...]) -> Path:
    """Return the folder that a URL names, or the file; it need not exist yet.

    Raises:
        ConfigError: The URL names another host, or a folder outside of ``file_roots``.
    """
    url = split_url(spec.url)
    if url.host not in ("", "localhost"):
        raise ConfigError(
            f"file://{url.host} names a host", hint="write three slashes: file:///folder"
        )
    # Percent-encoding is undone only where it was surely meant: a file name may hold a `%`.
    written = Path(url.path or "/")
    if not os.path.lexists(written):
        written = Path(unquote(url.path))
    root = Path(os.path.realpath(written))
    if not any(root.is_relative_to(os.path.realpath(each)) for each in file_roots):
        raise ConfigError(
            "the folder is not below one of file_roots",
            subject=printable(spec.url),
            hint="add it to origin.file_roots in the configuration",
        )
    return root


class LocalOrigin:
    """Implements :class:`cachefs.ports.Origin` on a folder."""

    client = "local"
    reason = "the system's own reads are the fastest"

    def __init__(self, spec: OriginSpec, file_roots: tuple[str, ...]) -> None:
        """Find the folder; it need not exist yet.

        Raises:
            ConfigError: As :func:`find_root`.
        """
        self._spec = spec
        self._root = find_root(spec, file_roots)
        self.absent_links = 0
        """Symbolic links that the last listing left out, because they lead outside or nowhere."""

    def pin(self) -> OriginSpec:
        """Return the spec: a folder does not move."""
        return self._spec

    def list_files(self) -> Iterator[OriginFile]:
        """Yield regular files, folder by folder in the order of their names."""
        self.absent_links = 0
        status = self._stat(self._root)
        if stat.S_ISREG(status.st_mode):
            yield _describe(self._root.name, status)
            return
        empty = True
        for path, found in self._walk("", self._root, ((status.st_dev, status.st_ino),), set()):
            empty = False
            yield _describe(path, found)
        if self.absent_links:
            log.warning(
                "symbolic links left out of a listing",
                extra={"url": printable(self._spec.url), "links": self.absent_links},
            )
        if empty:
            left_out = f"; {self.absent_links} links lead outside" if self.absent_links else ""
            raise OriginNotFoundError(
                f"no file in the folder{left_out}", subject=printable(self._spec.url)
            )

    def _walk(
        self,
        prefix: str,
        folder: Path,
        above: tuple[tuple[int, int], ...],
        linked: set[tuple[int, int]],
    ) -> Iterator[tuple[str, os.stat_result]]:
        """Yield path and status of every file below a folder.

        Args:
            prefix: The folder's path within the dataset, with its closing slash.
            folder: Where it really is.
            above: Device and inode of the folder and all above it: a link to one is a loop.
            linked: Folders that were entered by a link already. Each is entered so only once, for
                a few links that point at each other's folders make exponentially many paths.
        """
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise _translated(error, str(folder)) from error
        for entry in entries:
            path = prefix + entry.name
            link = entry.is_symlink()
            real = Path(os.path.realpath(entry.path) if link else entry.path)
            status = self._look(path, real, link=link)
            if status is None:
                self.absent_links += link
                continue
            identity = (status.st_dev, status.st_ino)
            if stat.S_ISREG(status.st_mode):
                yield path, status
            elif stat.S_ISDIR(status.st_mode):
                if identity in above or (link and identity in linked):
                    self.absent_links += 1
                    continue
                if link:
                    linked.add(identity)
                yield from self._walk(path + "/", real, (*above, identity), linked)

    def _look(self, path: str, real: Path, *, link: bool) -> os.stat_result | None:
        """Return a file's status, ``None`` if it is outside of the root, or gone by now."""
        if link and not real.is_relative_to(self._root):
            return None
        try:
            return real.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _translated(error, path) from error

    def read_range(
        self,
        entry: FileEntry,
        offset: int,
        length: int,
        buffer: memoryview | None = None,  # noqa: ARG002 - the library has memory of its own
    ) -> memoryview:
        """Read with ``pread``, between two looks at the file's status."""
        descriptor = self._open(entry)
        try:
            self._expect(entry, os.fstat(descriptor))
            data = memoryview(bytearray(length))
            filled = 0
            while filled < length:
                count = os.preadv(descriptor, [data[filled:]], offset + filled)
                if count == 0:
                    raise OriginChangedError("the file is shorter now", subject=entry.path)
                filled += count
            self._expect(entry, os.fstat(descriptor))
        except OSError as error:
            if isinstance(error, OriginError):
                raise
            raise _translated(error, entry.path) from error
        finally:
            os.close(descriptor)
        return data

    def _open(self, entry: FileEntry) -> int:
        path = self._root / entry.path
        if entry.path == self._root.name and not self._root.is_dir():
            path = self._root
        try:
            # A pipe in a file's place must not make the open wait for a writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _translated(error, entry.path) from error
        really = Path(f"/proc/self/fd/{descriptor}").readlink()
        if really.is_relative_to(self._root):
            return descriptor
        os.close(descriptor)
        raise OriginNotFoundError("the name leads outside of the dataset", subject=entry.path)

    def _expect(self, entry: FileEntry, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode) or token_of(status) != entry.token:
            raise OriginChangedError(
                "the file has changed since it was listed", subject=printable(entry.path)
            )

    def _stat(self, path: Path) -> os.stat_result:
        try:
            return path.stat()
        except OSError as error:
            raise _translated(error, str(path)) from error

    def close(self) -> None:
        """Do nothing: no descriptor is kept."""


def _describe(path: str, status: os.stat_result) -> OriginFile:
    return OriginFile(path, status.st_size, token_of(status), "")


def token_of(status: os.stat_result) -> str:
    """Return the token of a file with such a status."""
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _translated(error: OSError, subject: str) -> OriginError:
    subject = printable(subject)
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return OriginNotFoundError("no such file or folder", subject=subject)
    if error.errno in (errno.EACCES, errno.EPERM):
        return OriginDeniedError("the file may not be read", subject=subject, hint=reason)
    if error.errno == errno.ESTALE:
        return OriginChangedError("the file was replaced", subject=subject, hint=reason)
    return OriginUnavailableError("the file cannot be read", subject=subject, hint=reason)
