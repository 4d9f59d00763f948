"""Contents: what the paths of a file system hold, for whoever may wait.

A path is ``[namespace/]name[@version][/path]``; the empty one is the top, whose folders are the
datasets of the default namespace and the other namespaces. The lists of these two are as of now; all
that is in a dataset is of the version that it was first seen at.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from cachefs.client.reader import OpenFile
from cachefs.core.manifest import FileEntry
from cachefs.core.names import DEFAULT_NAMESPACE, Reference, parse_reference, printable
from cachefs.errors import CacheFSError, ConfigError, NotKnownError
from cachefs.sdk.filesystem.copies import Progress, copy_file
from cachefs.sdk.filesystem.files import BufferedFile, Calls, FileOfProcess
from cachefs.sdk.filesystem.listing import children, find_file, is_folder
from cachefs.sdk.filesystem.pins import Pins, Place
from cachefs.sdk.parallel import run_all
from cachefs.transport.runtime import ThreadRuntime

Description = dict[str, Any]
"""Of a file or folder, with what fsspec wants in it (``name``, ``size``, ``type``) and ours."""


class Contents:
    """Safe from any thread."""

    def __init__(self, pins: Pins) -> None:
        """Ask nobody yet."""
        self.pins = pins
        self.calls = Calls(ThreadRuntime())

    def end(self) -> None:
        """Let others finish what they have begun, and end the connections."""
        self.calls.wait()
        self.pins.close()
        self.calls.wait()

    def find_nowait(self, text: str) -> Place | None:
        """Return what a path names if that is known without asking anybody."""
        return self.pins.find_nowait(text, _readings(text))

    def describe(self, text: str) -> Description:
        """Return what is known of a file or folder.

        Raises:
            FileNotFoundError: There is nothing.
            CacheFSError: Nobody answers.
        """
        if not text or self._is_namespace(text):
            return _folder(text)
        place, entry = self.look(text)
        return _folder(text, place) if entry is None else _file(text, place, entry)

    def list_folder(self, text: str) -> list[Description]:
        """Return what is in a folder, or the one file at a path.

        Raises:
            FileNotFoundError: There is nothing.
            CacheFSError: Nobody answers.
        """
        if not text:
            return [_folder(name) for name in sorted(self._top())]
        if self._is_namespace(text):
            names = self.pins.names()
            return [_folder(str(name)) for name in names if name.namespace == text]
        place, entry = self.look(text)
        if entry is not None:
            return [_file(text, place, entry)]
        return [
            _folder(f"{text}/{name}", place)
            if child is None
            else _file(f"{text}/{name}", place, child)
            for name, child in children(place.dataset.files, place.path)
        ]

    def look(self, text: str) -> tuple[Place, FileEntry | None]:
        """Return what a path names, and the file; ``None`` for a folder.

        Raises:
            FileNotFoundError: There is nothing.
            CacheFSError: Nobody answers.
        """
        readings = _readings(text)
        try:
            place = self.pins.find(text, readings)
        except NotKnownError as error:
            raise _not_found(text, error.message) from error
        files = place.dataset.files
        entry = find_file(files, place.path) if place.path else None
        if entry is None and not is_folder(files, place.path):
            raise _not_found(text)
        return place, entry

    def open_raw(self, text: str) -> OpenFile:
        """Open a file as the reader library has it.

        Raises:
            FileNotFoundError: There is nothing.
            IsADirectoryError: It is a folder.
            CacheFSError: Nobody answers.
        """
        place, entry = self.look(text)
        if entry is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), _shown(text))
        return place.dataset.file(place.path)

    def open(self, system: Any, text: str, buffer_bytes: int) -> BufferedFile:  # Any: fsspec's
        """Open a file with a buffer."""
        return BufferedFile(
            FileOfProcess(partial(self.open_raw, text), self.calls), system, text, buffer_bytes
        )

    def read(self, text: str, start: int | None, end: int | None) -> bytes:
        """Return a range of a file; ``start`` and ``end`` are meant as in a slice of bytes."""
        with self.open_raw(text) as file:
            return _read_slice(file, start, end)

    def read_each(
        self, ranges: Sequence[tuple[str, int | None, int | None]]
    ) -> list[bytes | Exception]:
        """Read ranges of files, several at once; what failed has its error in its place."""
        found: list[bytes | Exception] = [b""] * len(ranges)
        files: dict[str, OpenFile | Exception] = {}
        with ExitStack() as owned:
            for text in dict.fromkeys(text for text, _, _ in ranges):
                try:
                    files[text] = owned.enter_context(self.open_raw(text))
                except (CacheFSError, OSError) as error:
                    files[text] = error

            def read(at: int) -> None:
                text, start, end = ranges[at]
                file = files[text]
                if isinstance(file, Exception):
                    found[at] = file
                    return
                try:
                    found[at] = _read_slice(file, start, end)
                except (CacheFSError, OSError) as error:
                    found[at] = error

            run_all(self.pins.reader.runtime, [partial(read, at) for at in range(len(ranges))])
        return found

    def copy(self, text: str, target: str, progress: Progress) -> None:
        """Copy a file to this machine; the target is there whole or not at all. Folders are made.

        Raises:
            OSError: The target cannot be written.
            CacheFSError: The file cannot be read.
        """
        if self.describe(text)["type"] == "directory":
            os.makedirs(target, exist_ok=True)  # noqa: PTH103 - fsspec's paths are strings
            return
        with self.open_raw(text) as file:
            copy_file(self.pins.reader.runtime, file, target, progress)

    def _top(self) -> set[str]:
        return {
            each.name if each.namespace == DEFAULT_NAMESPACE else each.namespace
            for each in self.pins.names()
        }

    def _is_namespace(self, text: str) -> bool:
        """Say whether a path that names no dataset names a namespace."""
        if "/" in text or "@" in text:
            return False
        try:
            self.pins.find(text, _readings(text))
        except NotKnownError:
            return any(name.namespace == text for name in self.pins.names())
        return False


def _read_slice(file: OpenFile, start: int | None, end: int | None) -> bytes:
    first, last, _ = slice(start, end).indices(file.size)
    return file.read(first, max(0, last - first))


def _file(name: str, place: Place, entry: FileEntry) -> Description:
    return {
        **_folder(name, place),
        "size": entry.size,
        "type": "file",
        "file_version": entry.file_version,
        "digest": entry.digest or None,
    }


def _folder(name: str, place: Place | None = None) -> Description:
    found: Description = {"name": name, "size": 0, "type": "directory"}
    if place is not None:
        found["version"] = place.dataset.version
        found["mtime"] = place.dataset.resolved.listed_at
    return found


def _readings(text: str) -> Sequence[Reference]:
    try:
        return parse_reference(text)
    except ConfigError as error:  # what cannot be a name is not there
        raise _not_found(text, error.message) from error


def _not_found(text: str, why: str = "no such file or folder") -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, why, _shown(text))


def _shown(text: str) -> str:
    return f"cachefs://{printable(text)}"
