"""Any other URL that fsspec opens, as a destination: whole files, in order, and none of it resumed.

fsspec's common interface opens a file for writing, and says when it is closed; how a library sends it is
its own affair. Object stores show a file when it is whole. Where files grow under their names, such as on
SFTP, a file is written under a temporary name and moved.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from cachefs.core.datasets import OriginSpec
from cachefs.core.urls import split_url
from cachefs.errors import StepCancelledError
from cachefs.origins.addresses import Addresses
from cachefs.origins.destinations.writing import NewFile, ReadBack, Resumed, Stop, Writing
from cachefs.origins.fsspec_store import open_store, token_of, translated

_RENAMES = frozenset({"memory", "ftp", "sftp", "ssh", "smb", "webhdfs", "webdav", "webdavs"})
"""Protocols with a rename that does not copy."""

Result = TypeVar("Result")


class StoreDestination:
    """Implements :class:`.writing.Destination` on an fsspec file system."""

    part_bytes_min = 1
    resumes = False

    def __init__(self, spec: OriginSpec, addresses: Addresses) -> None:
        """Open the file system; asks nothing yet.

        Raises:
            ConfigError: There is no such protocol, or it is one that opens others.
            OriginDeniedError: The host may not be contacted.
        """
        self._files, root = open_store(spec, addresses)
        self._root = root.rstrip("/")
        self._renames = split_url(spec.url).scheme in _RENAMES

    def begin(self, file: NewFile) -> Writing:
        """Open the file."""
        path = f"{self._root}/{file.path}"
        digest = hashlib.blake2b(f"{file.key}\0{file.path}".encode(), digest_size=12).hexdigest()
        temporary = f"{path.rpartition('/')[0]}/.cachefs-{digest}" if self._renames else path

        def opened() -> Any:  # Any: fsspec has no types
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            return self._files.open(temporary, "wb")

        return _StoreWriting(self._files, path, temporary, _asked(opened, path))

    def resume(self, file: NewFile, state: str) -> Resumed | None:
        """Nothing is left of an unfinished file."""
        del file, state
        return None

    def remove(self, path: str) -> None:
        """Remove a file."""
        whole = f"{self._root}/{path}"
        with suppress(FileNotFoundError):
            _asked(lambda: self._files.rm_file(whole), path)

    def close(self) -> None:
        """Do nothing: fsspec has no common way to close."""


class _StoreWriting:
    """A file that fsspec has open."""

    in_order = True
    read_back: ReadBack | None = None
    state = ""

    def __init__(self, files: Any, path: str, temporary: str, opened: Any) -> None:
        self._files = files
        self._path = path
        self._temporary = temporary
        self._opened = opened

    def write(self, offset: int, data: memoryview, stop: Stop) -> None:
        """Append a part."""
        del offset
        if stop():
            raise StepCancelledError("the copy was stopped", subject=self._path)
        _asked(lambda: self._opened.write(data), self._path)

    def finish(self) -> str:
        """Close it, and move it into its place."""

        def finished() -> str:
            self._opened.close()
            if self._temporary != self._path:
                self._files.mv(self._temporary, self._path)
            self._files.invalidate_cache()
            return token_of(self._files.info(self._path), self._path)

        return _asked(finished, self._path)

    def discard(self) -> None:
        """Remove what was written; an object store has not shown it yet."""
        with suppress(Exception):  # each library's own; there may be nothing to remove
            if hasattr(self._opened, "discard"):
                self._opened.discard()
            if self._temporary != self._path:
                self._opened.close()
                self._files.rm_file(self._temporary)

    def close(self) -> None:
        """Discard it: nobody can resume it."""
        self.discard()


def _asked(ask: Callable[[], Result], subject: str) -> Result:
    try:
        return ask()
    except Exception as error:
        raise translated(error, subject) from error
