"""Manifests: the file list of a dataset at one version.

A file version is named by a digest of origin, path, size and token, so a file that did not change
between two versions *is* the same file and is not fetched again. A manifest's id is the digest of
its encoding, so equal ids mean equal file lists, whoever serves them.

The encoding is one JSON array per line, sorted by path: it can be read as a stream, a hundred
thousand files parse in well under a second, and a diff of two manifests is readable.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, NewType

from cachefs.core.blocks import FileVersionId
from cachefs.core.names import parse_path, printable
from cachefs.errors import ConfigError, IntegrityError, NotKnownError

VersionId = NewType("VersionId", str)
"""40 hexadecimal digits: the digest of a manifest's encoding."""

_ID_BYTES = 20
"""160 bits, as git: no accidental collision among all the files that will ever be."""


class FileEntry(NamedTuple):
    """One file of a manifest."""

    path: str
    size: int
    token: str
    """What tells this content from a later one at the same path: ETag, commit, mtime and size."""
    digest: str
    """The whole-file digest as ``algorithm:hex`` if it is known beforehand, else empty."""
    file_version: FileVersionId


def name_file_version(
    origin_identity: str, *, path: str, size: int, token: str, digest: str = ""
) -> FileVersionId:
    """Return the name of a file version.

    The digest takes part: a file whose expected content is now known is not the unproven one.
    """
    text = "\0".join((origin_identity, path, str(size), token, digest))
    return FileVersionId(hashlib.blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest())


@dataclass(frozen=True)
class Manifest:
    """An immutable, sorted file list."""

    files: tuple[FileEntry, ...]
    id: VersionId
    encoded: bytes = field(repr=False)

    @classmethod
    def of(cls, entries: Iterable[FileEntry]) -> "Manifest":
        """Build a manifest from entries in any order.

        Raises:
            ConfigError: A path is illegal, occurs twice, or is both a file and a folder.
        """
        files = tuple(sorted(entries))
        _check_tree(files)
        encoded = b"".join(
            json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            for entry in files
        )
        return cls(files, _digest(encoded), encoded)

    @classmethod
    def decode(cls, encoded: bytes, expected: VersionId) -> "Manifest":
        """Parse an encoding received from anyone.

        Raises:
            IntegrityError: It is not the manifest of that id.
        """
        if _digest(encoded) != expected:
            raise IntegrityError("manifest does not match its id", subject=expected)
        lines = encoded.split(b"\n")[:-1]
        files = tuple(FileEntry(*json.loads(line)) for line in lines)
        return cls(files, expected, encoded)

    @cached_property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(entry.size for entry in self.files)

    @cached_property
    def by_file_version(self) -> dict[FileVersionId, FileEntry]:
        """The entries by file version."""
        return {entry.file_version: entry for entry in self.files}

    @cached_property
    def _paths(self) -> list[str]:
        return [entry.path for entry in self.files]

    def find(self, path: str) -> FileEntry:
        """Return the file at a path.

        Raises:
            NotKnownError: There is no such file.
        """
        at = bisect_left(self._paths, path)
        if at < len(self.files) and self.files[at].path == path:
            return self.files[at]
        raise NotKnownError("no such file", subject=printable(path))

    def chosen(self, paths: Sequence[str]) -> Iterator[FileEntry]:
        """Yield the files at some paths and below them; all files for no paths.

        A file of several paths is yielded for each.

        Raises:
            NotKnownError: There is nothing at one of the paths.
            ConfigError: One cannot be a path.
        """
        for path in paths or ("",):
            entries = list(self.below(parse_path(path) if path else ""))
            if not entries and path:
                raise NotKnownError("no such file or folder", subject=printable(path))
            yield from entries

    def below(self, path: str) -> Iterator[FileEntry]:
        """Yield the file at a path, or every file in the folder at it; all files for ``""``."""
        if not path:
            yield from self.files
            return
        at = bisect_left(self._paths, path)
        if at < len(self.files) and self.files[at].path == path:
            yield self.files[at]
            return
        prefix = path + "/"
        for entry in self.files[bisect_left(self._paths, prefix) :]:
            if not entry.path.startswith(prefix):
                return
            yield entry


def _digest(encoded: bytes) -> VersionId:
    return VersionId(hashlib.blake2b(encoded, digest_size=_ID_BYTES).hexdigest())


def _check_tree(files: tuple[FileEntry, ...]) -> None:
    names = {parse_path(entry.path) for entry in files}
    if len(names) < len(files):
        raise ConfigError("the origin lists a path twice", hint="exclude one of them")
    for path in names:
        folder = path
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in names:
                raise ConfigError(
                    f"{printable(folder)!r} is both a file and a folder",
                    hint="exclude one of them with --exclude",
                )
