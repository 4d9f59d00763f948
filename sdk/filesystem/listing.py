"""Folders, which a manifest does not have: it is a sorted list of files."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from cachefs.core.manifest import FileEntry

_path_of = attrgetter("path")
_AFTER_SLASH = chr(ord("/") + 1)


class Child(NamedTuple):
    """What is in a folder."""

    name: str
    entry: FileEntry | None
    """``None`` for a folder."""


def find_file(files: Sequence[FileEntry], path: str) -> FileEntry | None:
    """Return the file at a path, if there is one."""
    at = bisect_left(files, path, key=_path_of)
    return files[at] if at < len(files) and files[at].path == path else None


def is_folder(files: Sequence[FileEntry], path: str) -> bool:
    """Say whether there is a folder at a path; at the top there is one always."""
    if not path:
        return True
    at = bisect_left(files, f"{path}/", key=_path_of)
    return at < len(files) and files[at].path.startswith(f"{path}/")


def children(files: Sequence[FileEntry], folder: str) -> Iterator[Child]:
    """Yield what is in a folder, looking at no file below its own folders but the first."""
    prefix = f"{folder}/" if folder else ""
    at = bisect_left(files, prefix, key=_path_of)
    while at < len(files) and files[at].path.startswith(prefix):
        name, slash, _ = files[at].path[len(prefix) :].partition("/")
        if slash:
            yield Child(name, None)
            at = bisect_left(files, f"{prefix}{name}{_AFTER_SLASH}", lo=at, key=_path_of)
        else:
            yield Child(name, files[at])
            at += 1
