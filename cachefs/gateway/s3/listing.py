"""Listing: keys in the order and the groups that S3 gives them in, one page at a time.

What can be listed is a :class:`Keys`: something that finds the first key at or after a given one.
From that alone follow prefix, delimiter, the page's end and where the next one begins; a group of a
million keys costs one step. Keys are ordered by their Unicode code points, which is the order of
their UTF-8 bytes, and so S3's.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from cachefs.client.reader import OpenDataset
from cachefs.core.manifest import FileEntry
from cachefs.errors import NotKnownError

_LAST_CHARACTER = "\U0010ffff"
_SURROGATES = range(0xD800, 0xE000)


class Listed(NamedTuple):
    """One key."""

    key: str
    entry: FileEntry
    listed_at: float
    """When its version was listed, in seconds since 1970."""


class Page(NamedTuple):
    """What one request is answered."""

    keys: Sequence[Listed]
    groups: Sequence[str]
    """Common prefixes."""
    following: str
    """After which key or group the next page begins; empty at the end."""


class Keys(Protocol):
    """Keys in their order."""

    def first(self, at: str) -> Listed | None:
        """Return the first key that is not before ``at``."""
        ...


class DatasetKeys:
    """The files of one dataset at one version, below a prefix."""

    def __init__(self, dataset: OpenDataset, prefix: str) -> None:
        """Put ``prefix`` (``name/``) before every path."""
        self._prefix = prefix
        self._files = dataset.files
        self._listed_at = dataset.resolved.listed_at

    def first(self, at: str) -> Listed | None:
        """Return the first key that is not before ``at``."""
        index = 0
        if at.startswith(self._prefix):
            path = at.removeprefix(self._prefix)
            index = bisect_left(self._files, path, key=lambda entry: entry.path)
        elif at > self._prefix:
            return None
        if index == len(self._files):
            return None
        entry = self._files[index]
        return Listed(self._prefix + entry.path, entry, self._listed_at)


class NamespaceKeys:
    """The files of all datasets of a namespace at their current versions.

    A dataset is opened when a listing comes to it, and not before.
    """

    def __init__(self, names: Sequence[str], open_dataset: Callable[[str], OpenDataset]) -> None:
        """List these datasets.

        Args:
            names: Their names within the namespace.
            open_dataset: Opens one of them.
        """
        self._prefixes = sorted(f"{name}/" for name in names)
        self._open = open_dataset
        self._opened: dict[str, DatasetKeys] = {}

    def first(self, at: str) -> Listed | None:
        """Return the first key that is not before ``at``."""
        start = max(0, bisect_right(self._prefixes, at) - 1)
        for prefix in self._prefixes[start:]:
            try:
                if prefix not in self._opened:
                    self._opened[prefix] = DatasetKeys(self._open(prefix[:-1]), prefix)
            except NotKnownError:  # it was removed meanwhile
                continue
            found = self._opened[prefix].first(max(at, prefix))
            if found is not None:
                return found
        return None


def list_page(keys: Keys, *, prefix: str, delimiter: str, after: str, limit: int) -> Page:
    """Return the keys that begin with a prefix, and come after a key or group.

    Args:
        keys: What there is.
        prefix: What all of them begin with.
        delimiter: Keys that have it after the prefix are grouped up to there; empty for none.
        after: The last key or group of the page before.
        limit: Keys and groups of this page.
    """
    listed: list[Listed] = []
    groups: list[str] = []
    last = ""
    at = max(prefix, after)
    while (found := keys.first(at)) and found.key.startswith(prefix):
        group = group_of(found.key, prefix, delimiter)
        at = found.key + "\0" if group is None else _behind(group)
        if (group or found.key) == after:
            continue
        if len(listed) + len(groups) == limit:
            return Page(listed, groups, last)
        if group is None:
            listed.append(found)
        else:
            groups.append(group)
        last = group or found.key
    return Page(listed, groups, "")


def list_names(names: Sequence[str], *, prefix: str, after: str, limit: int) -> Page:
    """Return a page of datasets as groups, without looking into them."""
    every = sorted(f"{name}/" for name in names if f"{name}/".startswith(prefix))
    found = every[bisect_right(every, after) :]
    page = found[:limit]
    return Page((), page, page[-1] if page and len(found) > limit else "")


def group_of(key: str, prefix: str, delimiter: str) -> str | None:
    """Return the common prefix under which a key is shown, or ``None`` if it is shown itself."""
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if at < 0 else key[: at + len(delimiter)]


def _behind(group: str) -> str:
    """Return the first text that is behind all that begin with a group."""
    stem = group.rstrip(_LAST_CHARACTER)  # not empty: a dataset's name is in front
    following = ord(stem[-1]) + 1
    if following in _SURROGATES:
        following = _SURROGATES.stop
    return stem[:-1] + chr(following)
