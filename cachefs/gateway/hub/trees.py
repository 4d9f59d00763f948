"""Trees: a version's files as the Hub lists them, folders included, a page at a time.

The Hub's folders are objects of git; ours follow from the paths, and so do their ids. A page names
the last path that it holds, and the next one is found from there in the sorted manifest.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from cachefs.core.manifest import FileEntry
from cachefs.errors import NotKnownError
from cachefs.gateway.hub.repositories import Found, sha256_of

PAGE_ITEMS = 1000
_POINTER_BYTES = 134
"""Size of the file that git has instead of a large one, for a size of ten digits."""


class TreePage(NamedTuple):
    """Some items, and the path after which the next page begins; empty at the end."""

    items: list[dict[str, Any]]  # Any: JSON
    following: str


def tree_page(
    found: Found, folder: str, *, recursive: bool, expanded: bool, after: str, limit: int
) -> TreePage:
    """Return the items of a folder that come after a path.

    Raises:
        NotKnownError: There is no such folder.
    """
    below = f"{folder}/" if folder else ""
    if folder and not is_folder(found, folder):
        raise NotKnownError("no such folder", subject=folder)
    items = list(islice(_items(found, below, after, recursive=recursive), limit + 1))
    shown = [
        _describe_folder(found, item, expanded=expanded)
        if isinstance(item, str)
        else describe_file(found, item, expanded=expanded)
        for item in items[:limit]
    ]
    return TreePage(shown, shown[-1]["path"] if len(items) > limit else "")


def is_folder(found: Found, path: str) -> bool:
    """Say whether a version has files below a path."""
    return any(each.path != path for each in islice(found.dataset.resolved.manifest.below(path), 2))


def describe_path(found: Found, path: str, *, expanded: bool) -> dict[str, Any] | None:
    """Return the item at a path; ``None`` if there is nothing."""
    try:
        entry = found.dataset.resolved.manifest.find(path)
    except NotKnownError:
        folder = path.rstrip("/")
        if folder and is_folder(found, folder):
            return _describe_folder(found, folder, expanded=expanded)
        return None
    return describe_file(found, entry, expanded=expanded)


def describe_file(found: Found, entry: FileEntry, *, expanded: bool) -> dict[str, Any]:
    """Return a file as an item of a tree."""
    item: dict[str, Any] = {
        "type": "file",
        "oid": found.object_id(entry),
        "size": entry.size,
        "path": entry.path,
    }
    if digest := sha256_of(entry):
        item["lfs"] = {"oid": digest, "size": entry.size, "pointerSize": _POINTER_BYTES}
    if expanded:
        item["lastCommit"] = _commit(found)
    return item


def describe_sibling(found: Found, entry: FileEntry, *, blobs: bool) -> dict[str, Any]:
    """Return a file as a repository's description has it."""
    if not blobs:
        return {"rfilename": entry.path}
    sibling = {
        "rfilename": entry.path,
        "size": entry.size,
        "blobId": found.object_id(entry),
    }
    if digest := sha256_of(entry):
        sibling["lfs"] = {"sha256": digest, "size": entry.size, "pointerSize": _POINTER_BYTES}
    return sibling


def moment(seconds: float) -> str:
    """Return a time as the Hub writes it."""
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%S}.000Z"


def _describe_folder(found: Found, path: str, *, expanded: bool) -> dict[str, Any]:
    named = f"{found.dataset.version}\0{path}".encode()
    item: dict[str, Any] = {
        "type": "directory",
        "oid": hashlib.blake2b(named, digest_size=20).hexdigest(),
        "size": 0,
        "path": path,
    }
    if expanded:
        item["lastCommit"] = _commit(found)
    return item


def _commit(found: Found) -> dict[str, str]:
    return {
        "id": found.dataset.version,
        "title": f"Version {found.dataset.version[:12]}",
        "date": moment(found.dataset.resolved.listed_at),
    }


def _items(found: Found, below: str, after: str, *, recursive: bool) -> Iterator[FileEntry | str]:
    """Yield files, and folders by their path, each folder before what is in it."""
    files = found.dataset.files
    last = after
    start = after
    if after and is_folder(found, after):
        # What comes after a folder is what is in it, which is not listed if only one level is.
        start = f"{after}/" if recursive else _behind(after)
    at = bisect_left(files, max(start, below), key=lambda entry: entry.path)
    at += at < len(files) and files[at].path == after
    while at < len(files) and files[at].path.startswith(below):
        entry = files[at]
        for folder in _folders(entry.path, below, recursive=recursive):
            if not last.startswith(f"{folder}/") and last != folder:
                yield folder
                last = folder
        inside = entry.path.removeprefix(below)
        if recursive or "/" not in inside:
            yield entry
            last = entry.path
            at += 1
        else:
            # Over all that is in the folder, at once.
            behind = _behind(below + inside.partition("/")[0])
            at = bisect_left(files, behind, lo=at, key=lambda each: each.path)


def _behind(folder: str) -> str:
    """Return the first text that is behind all paths in a folder."""
    return folder + chr(ord("/") + 1)


def _folders(path: str, below: str, *, recursive: bool) -> Iterator[str]:
    at = path.find("/", len(below))
    while at >= 0:
        yield path[:at]
        if not recursive:
            return
        at = path.find("/", at + 1)
