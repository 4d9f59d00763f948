"""Versions that a mount shows, each with a number, and the trees of those in use.

A tree number stands for a dataset at a version. It is given when the version is first shown, is
remembered (:mod:`.memory`), and never comes to mean another one. What it stands for cannot change
either, so a tree that was put aside to save memory is built again, the same, when the kernel asks
for one of its nodes.
"""

import errno
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from cachefs.client.reader import OpenDataset, Reader
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import check
from cachefs.fuse.showing.attributes import FOREVER, MOVING_SECONDS, Attributes, Found, Owner
from cachefs.fuse.showing.listing import Listing, MissingError
from cachefs.fuse.showing.memory import Memory, Versions
from cachefs.fuse.showing.tree import Tree
from cachefs.ports import ResolvedVersion

NUMBER_BITS = 32
"""Of a node number, for the number within the tree; the rest is the tree's."""
NUMBER_MASK = (1 << NUMBER_BITS) - 1
_ENTRIES_KEPT = 1_000_000
"""Files and folders of all trees in memory; the tree used last stays whatever its size."""


def nanoseconds(seconds: float) -> int:
    """Return a time as files have it."""
    return int(seconds * 1_000_000_000)


def node_of(tree: int, number: int) -> int:
    """Return the node number of a file or folder in a tree."""
    return tree << NUMBER_BITS | number


def split(node: int) -> tuple[int, int]:
    """Return the tree of a node, and its number there."""
    return node >> NUMBER_BITS, node & NUMBER_MASK


@dataclass(frozen=True, slots=True)
class ShownVersion:
    """A dataset at a version, with its files and folders."""

    number: int
    """The tree's, in this mount."""
    dataset: OpenDataset
    tree: Tree
    mtime_ns: int
    identity: str
    """What its folders are told apart by, besides their paths."""
    owner: Owner

    def attributes(self, number: int, *, node: int | None = None) -> Attributes:
        """Return what ``stat`` shows of a number in the tree; ``node`` if it goes by another."""
        own = self.number << NUMBER_BITS | number if node is None else node
        entry = self.tree.entry(number)
        if entry is not None:
            return self.owner.file(own, entry.file_version, entry.size, self.mtime_ns)
        identity = f"{self.identity}\0{self.tree.path(number)}"
        return self.owner.folder(own, identity, self.tree.folders(number), self.mtime_ns)

    def lookup(self, folder: int, name: bytes, valid_seconds: float) -> Found:
        """Return what a name in one of its folders means.

        Raises:
            OSError: ``ENOENT``, ``ENOTDIR``.
        """
        children = self._children(folder)
        number = children.get(name)
        if number is None:
            raise MissingError(valid_seconds)
        return Found(self.attributes(number), valid_seconds)

    def listing(self, folder: int, *, moving: bool, hidden: bytes = b"") -> Listing:
        """Return what is in one of its folders.

        Args:
            folder: Its number.
            moving: It may come to be another version's.
            hidden: A name to leave out.

        Raises:
            OSError: ``ENOTDIR``.
        """
        names = [each for each in self._children(folder).items() if each[0] != hidden]
        return Listing(
            names,
            self.attributes,
            valid_seconds=MOVING_SECONDS if moving else FOREVER,
            constant=not moving,
        )

    def _children(self, folder: int) -> Mapping[bytes, int]:
        children = self.tree.children(folder)
        if children is None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return children


class Trees:
    """All versions that a mount shows. Safe from any thread."""

    def __init__(self, reader: Reader, memory: Memory, versions: Versions, owner: Owner) -> None:
        """Begin with the numbers that the memory holds; no tree is built yet."""
        self._reader = reader
        self._memory = memory
        self._versions = versions
        self._owner = owner
        self._guard = reader.runtime.condition()
        self._numbers: dict[tuple[DatasetName, VersionId, bool], int] = {}
        self._named: dict[int, tuple[DatasetName, VersionId]] = {}
        self._apart: set[int] = set()
        self._shown: OrderedDict[int, ShownVersion] = OrderedDict()
        for record in memory.records():
            if record["kind"] == "tree":
                name = DatasetName.parse(record["dataset"])
                key = name, VersionId(record["version"]), bool(record["apart"])
                self._note(key, record["tree"])

    def number(self, name: DatasetName, version: VersionId, *, apart: bool = False) -> int:
        """Return the number of a version, giving it one if it has none.

        Args:
            name: The dataset.
            version: Its version.
            apart: For a second place where the same version is shown: its nodes are others.
        """
        key = name, version, apart
        with self._guard:
            known = self._numbers.get(key)
            if known is not None:
                return known
            number = len(self._numbers) + 1
            self._memory.append(
                {
                    "kind": "tree",
                    "tree": number,
                    "dataset": str(name),
                    "version": version,
                    "apart": apart,
                }
            )
            self._note(key, number)
            return number

    def named(self, number: int) -> tuple[DatasetName, VersionId] | None:
        """Return what a tree number stands for; ``None`` if it was never given."""
        return self._named.get(number)

    def identity(self, number: int) -> str:
        """Return what tells folders of a tree from those of others that may lie above them."""
        name, version = self._named[number]
        return f"{name}@{version}" if number in self._apart else str(name)

    def show(self, resolved: ResolvedVersion) -> ShownVersion:
        """Return a version that was just resolved, with its number."""
        number = self.number(resolved.dataset, resolved.manifest.id)
        with self._guard:
            shown = self._shown.get(number)
        return shown or self._build(number, resolved)

    def shown(self, number: int, *, deadline: float) -> ShownVersion:
        """Return the version of a number, built again if it was put aside.

        Raises:
            NotKnownError: The cluster has forgotten the version.
            CoordinatorUnavailableError: Nobody who could say answers.
        """
        shown = self._shown.get(number)
        if shown is not None:
            return shown
        named = self._named.get(number)
        check(named is not None, "a tree number that was never given")
        name, version = named or (DatasetName("", ""), VersionId(""))
        resolved = self._versions.find(name, version)
        if resolved is None:
            resolved = self._reader.metadata.resolve(name, version, deadline=deadline)
        return self._build(number, resolved)

    def in_memory(self, number: int) -> ShownVersion | None:
        """Return the version of a number, unless it was put aside or never given."""
        return self._shown.get(number)

    def statistics(self) -> tuple[int, int]:
        """Return bytes and entries of the trees in memory."""
        with self._guard:
            shown = list(self._shown.values())
        size = sum(each.dataset.resolved.manifest.size for each in shown)
        return size, sum(len(each.tree) for each in shown)

    def _build(self, number: int, resolved: ResolvedVersion) -> ShownVersion:
        self._versions.keep(resolved)
        shown = ShownVersion(
            number,
            OpenDataset(self._reader, resolved),
            Tree(resolved.manifest.files),
            nanoseconds(resolved.listed_at),
            self.identity(number),
            self._owner,
        )
        with self._guard:
            # Two threads may have built it; either does.
            shown = self._shown.setdefault(number, shown)
            self._shown.move_to_end(number)
            entries = sum(len(each.tree) for each in self._shown.values())
            while entries > _ENTRIES_KEPT and len(self._shown) > 1:
                _, dropped = self._shown.popitem(last=False)
                entries -= len(dropped.tree)
        return shown

    def _note(self, key: tuple[DatasetName, VersionId, bool], number: int) -> None:
        self._numbers[key] = number
        self._named[number] = key[:2]
        if key[2]:
            self._apart.add(number)
