"""Namespaces: which versions a mount shows, and where.

:class:`OneDataset` shows a dataset at the top of the mount. :class:`AllDatasets` shows every dataset
as ``<namespace>/<name>``, and all versions of each that are kept below ``.versions`` in it. That name
is found but not listed, so that copying a dataset does not copy every version of it; a file of the
dataset's own with that name is hidden by it.

Node numbers. Those of a version's files and folders begin with the number of its tree. The folders
above them are the mount's own and belong to tree 0: the top, a namespace, a dataset, its
``.versions``. A dataset's own folder belongs to the mount and not to a version, because what it
shows may move on to another version; what is found *in* it belongs to the version that it showed at
that moment. The same version below ``.versions`` is another tree to the kernel, which cannot have
one folder in two places.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from cachefs.client.reader import OpenFile, Reader
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import check
from cachefs.fuse.showing.attributes import (
    FOREVER,
    MOVING_SECONDS,
    ROOT,
    Attributes,
    Found,
    MountOptions,
    Owner,
    Statistics,
)
from cachefs.fuse.showing.currents import Currents, KeptVersion, Recent
from cachefs.fuse.showing.memory import Memory, Versions
from cachefs.fuse.showing.tree import TOP
from cachefs.fuse.showing.trees import ShownVersion, Trees, nanoseconds, node_of, split

VERSIONS_FOLDER = ".versions"
_FOLDERS_LIMIT = 1 << 31
"""Folders of the mount's own; more do not fit into its numbers."""
_NAMESPACE, _DATASET, _VERSIONS = 1, 2, 3
"""How many segments a folder of the mount's own has: what it is."""


class MissingError(FileNotFoundError):
    """There is nothing of that name, which the kernel may believe for a while."""

    def __init__(self, valid_seconds: float) -> None:
        """Say for how long."""
        super().__init__(errno.ENOENT, os.strerror(errno.ENOENT))
        self.valid_seconds = valid_seconds


class Listing:
    """What is in a folder, in a fixed order, without ``.`` and ``..``; never changes."""

    def __init__(
        self,
        names: Sequence[tuple[bytes, int]],
        attributes: Callable[[int], Attributes],
        *,
        valid_seconds: float,
        constant: bool,
    ) -> None:
        """Come from a namespace; ``attributes`` turns the numbers of the names into what they are."""
        self._names = names
        self._attributes = attributes
        self.valid_seconds = valid_seconds
        """How long the kernel may keep the names and attributes in it."""
        self.constant = constant
        """It is the same whenever it is asked for: the kernel may keep it."""

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[bytes, Attributes]:
        """Return a name and what it means."""
        name, number = self._names[index]
        return name, self._attributes(number)

    def __iter__(self) -> Iterator[tuple[bytes, Attributes]]:
        """Yield all of them in order."""
        for name, number in self._names:
            yield name, self._attributes(number)

    def name(self, index: int) -> bytes:
        """Return a name alone."""
        return self._names[index][0]


class Catalogue(Protocol):
    """What there is besides the versions that were opened; from the coordinator. Errors as usual."""

    def datasets(self, *, timeout_seconds: float) -> Sequence[DatasetName]:
        """Return all datasets."""
        ...

    def versions(self, name: DatasetName, *, timeout_seconds: float) -> Sequence[KeptVersion]:
        """Return the versions of a dataset that are kept, the newest first."""
        ...

    def residency(
        self, name: DatasetName, version: VersionId, path: str, *, timeout_seconds: float
    ) -> dict[str, Any]:  # Any: JSON
        """Return where the blocks of a file are: ``blocks`` in all, ``workers`` with a count each."""
        ...


class Namespace(Protocol):
    """What a mount shows. Safe from any thread; raises ``CacheFSError`` and ``OSError``."""

    def lookup(self, parent: int, name: bytes) -> Found:
        """Return what a name in a folder means."""
        ...

    def getattr(self, node: int) -> Found:
        """Return a node's attributes."""
        ...

    def listing(self, node: int) -> Listing:
        """Return what is in a folder."""
        ...

    def open(self, node: int) -> OpenFile:
        """Open a file."""
        ...

    def place(self, node: int) -> tuple[ShownVersion, int] | None:
        """Return the version that a node is of, and its number there; ``None`` above datasets."""
        ...

    def names(self, node: int) -> Sequence[tuple[int, bytes]]:
        """Return where the kernel may know a file: folders, and its name in each."""
        ...

    def statistics(self) -> Statistics:
        """Return how much is shown."""
        ...


class _Below:
    """What both kinds of namespace do with the nodes of trees."""

    def __init__(
        self, reader: Reader, options: MountOptions, memory: Memory, versions: Versions
    ) -> None:
        self.owner = Owner.of(options)
        self.reader = reader
        self.memory = memory
        self.trees = Trees(reader, memory, versions)
        self.currents = Currents(reader, self.trees, memory, follow=options.follow_current)

    def deadline(self) -> float:
        return self.reader.runtime.monotonic() + self.reader.config.deadline_seconds

    def find(self, node: int) -> tuple[ShownVersion, int]:
        """Return the version of a node that is not tree 0's, and its number in the tree."""
        tree, number = split(node)
        if self.trees.named(tree) is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        shown = self.trees.shown(tree, deadline=self.deadline())
        if number not in shown.tree:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return shown, number

    def lookup_in(
        self, shown: ShownVersion, folder: int, name: bytes, valid_seconds: float
    ) -> Found:
        children = shown.tree.children(folder)
        if children is None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        number = children.get(name)
        if number is None:
            raise MissingError(valid_seconds)
        return Found(shown.attributes(number, self.owner), valid_seconds)

    def listing_of(
        self, shown: ShownVersion, folder: int, *, moving: bool, hidden: bytes = b""
    ) -> Listing:
        children = shown.tree.children(folder)
        if children is None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        names = [each for each in children.items() if each[0] != hidden]
        return Listing(
            names,
            lambda number: shown.attributes(number, self.owner),
            valid_seconds=MOVING_SECONDS if moving else FOREVER,
            constant=not moving,
        )

    def names(self, place: tuple[ShownVersion, int], *tops: int) -> Sequence[tuple[int, bytes]]:
        """Return a file's folders and its name; ``tops`` are what the tree's top is known as."""
        shown, number = place
        parent, name = shown.tree.parent(number), shown.tree.name(number)
        folders = tops if parent == TOP else (node_of(shown.number, parent),)
        return [(folder, name) for folder in folders]

    def open(self, place: tuple[ShownVersion, int] | None) -> OpenFile:
        entry = place[0].tree.entry(place[1]) if place is not None else None
        if place is None or entry is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return place[0].dataset.file(entry.path)


class OneDataset:
    """Shows one dataset at the top of the mount: at one version, or following the current one."""

    def __init__(
        self,
        reader: Reader,
        name: DatasetName,
        version: str | None,
        options: MountOptions,
        *,
        memory: Memory,
        versions: Versions,
    ) -> None:
        """Resolve the version, unless the memory knows which one the mount shows.

        Raises:
            NotKnownError: There is no such dataset or version.
            CoordinatorUnavailableError: Nobody answers.
        """
        self._below = _Below(reader, options, memory, versions)
        self._name = name
        self._moving = options.follow_current and version is None
        currents = self._below.currents
        if not currents.knows(name):
            resolved = reader.open(name, version).resolved
            currents.begin(self._below.trees.show(resolved))
        self.shown = self._top()
        """The version that it began with."""

    def _top(self) -> ShownVersion:
        below = self._below
        if self._moving:
            return below.currents.current(self._name, deadline=below.deadline())
        return below.currents.last(self._name, deadline=below.deadline())

    def place(self, node: int) -> tuple[ShownVersion, int]:
        """Return the version that a node is of, and its number there."""
        return (self._top(), TOP) if node == ROOT else self._below.find(node)

    def lookup(self, parent: int, name: bytes) -> Found:
        """Return what a name in a folder means."""
        shown, folder = self.place(parent)
        moving = self._moving and parent == ROOT
        return self._below.lookup_in(shown, folder, name, MOVING_SECONDS if moving else FOREVER)

    def getattr(self, node: int) -> Found:
        """Return a node's attributes."""
        shown, number = self.place(node)
        moving = self._moving and node == ROOT
        attributes = shown.attributes(number, self._below.owner, node=node)
        return Found(attributes, MOVING_SECONDS if moving else FOREVER)

    def listing(self, node: int) -> Listing:
        """Return what is in a folder."""
        shown, number = self.place(node)
        return self._below.listing_of(shown, number, moving=self._moving and node == ROOT)

    def open(self, node: int) -> OpenFile:
        """Open a file."""
        return self._below.open(self.place(node))

    def names(self, node: int) -> Sequence[tuple[int, bytes]]:
        """Return where the kernel may know a file."""
        return () if node == ROOT else self._below.names(self._below.find(node), ROOT)

    def statistics(self) -> Statistics:
        """Return the size of the version at the top, and how many files and folders it has."""
        shown = self._top()
        return Statistics(shown.dataset.resolved.manifest.size, len(shown.tree))


class _OwnFolders:
    """The numbers of the mount's own folders, which are remembered like those of trees."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._numbers: dict[tuple[str, ...], int] = {(): ROOT}
        self._paths: dict[int, tuple[str, ...]] = {ROOT: ()}
        for record in memory.records():
            if record["kind"] == "folder":
                self._note(tuple(record["path"]), record["number"])

    def number(self, path: tuple[str, ...]) -> int:
        """Return a folder's number; the caller holds the lock that guards new ones."""
        known = self._numbers.get(path)
        if known is None:
            known = len(self._numbers) + ROOT
            check(known < _FOLDERS_LIMIT, "too many folders")
            self._memory.append({"kind": "folder", "number": known, "path": list(path)})
            self._note(path, known)
        return known

    def path(self, number: int) -> tuple[str, ...]:
        """Return what a number stands for."""
        path = self._paths.get(number)
        if path is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return path

    def _note(self, path: tuple[str, ...], number: int) -> None:
        self._numbers[path] = number
        self._paths[number] = path


class AllDatasets:
    """Shows all datasets by namespace and name."""

    def __init__(
        self,
        reader: Reader,
        catalogue: Catalogue,
        options: MountOptions,
        *,
        memory: Memory,
        versions: Versions,
    ) -> None:
        """Ask nobody yet."""
        self._below = _Below(reader, options, memory, versions)
        self._catalogue = catalogue
        self._moving = options.follow_current
        self._guard = reader.runtime.condition()
        self._folders = _OwnFolders(memory)
        self._began_ns = self._beginning(memory)
        self._datasets = Recent(reader.runtime, catalogue.datasets)
        self._kept: dict[DatasetName, Recent[Sequence[KeptVersion]]] = {}

    def _beginning(self, memory: Memory) -> int:
        """Return when the mount began: the time of the folders that belong to no version."""
        for record in memory.records():
            if record["kind"] == "beginning":
                return int(record["ns"])
        now = nanoseconds(self._below.reader.runtime.wall())
        memory.append({"kind": "beginning", "ns": now})
        return now

    # ---- the port -----------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Found:
        """Return what a name in a folder means."""
        if split(parent)[0] != 0:
            shown, folder = self._below.find(parent)
            return self._below.lookup_in(shown, folder, name, FOREVER)
        path = self._folders.path(parent)
        if len(path) == _DATASET and name != VERSIONS_FOLDER.encode():
            shown = self._current(path)
            return self._below.lookup_in(shown, TOP, name, MOVING_SECONDS)
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise MissingError(FOREVER) from None
        if len(path) == _VERSIONS:
            for kept in self._versions(path):
                if kept.id == text:
                    return Found(self._version_attributes(path, kept), MOVING_SECONDS)
            raise MissingError(MOVING_SECONDS)
        if len(path) == _DATASET or text in self._names(path):
            return Found(self._attributes((*path, text)), MOVING_SECONDS)
        raise MissingError(MOVING_SECONDS)

    def getattr(self, node: int) -> Found:
        """Return a node's attributes."""
        if split(node)[0] != 0:
            shown, number = self._below.find(node)
            return Found(shown.attributes(number, self._below.owner), FOREVER)
        return Found(self._attributes(self._folders.path(node)), MOVING_SECONDS)

    def listing(self, node: int) -> Listing:
        """Return what is in a folder."""
        if split(node)[0] != 0:
            shown, folder = self._below.find(node)
            return self._below.listing_of(shown, folder, moving=False)
        path = self._folders.path(node)
        if len(path) == _DATASET:
            hidden = VERSIONS_FOLDER.encode()
            return self._below.listing_of(self._current(path), TOP, moving=True, hidden=hidden)
        if len(path) == _VERSIONS:
            found = [
                (str(kept.id), self._version_attributes(path, kept))
                for kept in self._versions(path)
            ]
        else:
            found = [(name, self._attributes((*path, name))) for name in self._names(path)]
        attributes = [each[1] for each in found]
        return Listing(
            [(name.encode(), at) for at, (name, _) in enumerate(found)],
            attributes.__getitem__,
            valid_seconds=MOVING_SECONDS,
            constant=False,
        )

    def open(self, node: int) -> OpenFile:
        """Open a file."""
        return self._below.open(self.place(node))

    def place(self, node: int) -> tuple[ShownVersion, int] | None:
        """Return the version that a node is of, and its number there; ``None`` above datasets."""
        if split(node)[0] != 0:
            return self._below.find(node)
        path = self._folders.path(node)
        return (self._current(path), TOP) if len(path) == _DATASET else None

    def names(self, node: int) -> Sequence[tuple[int, bytes]]:
        """Return where the kernel may know a file: in its dataset's folder, or in its version's."""
        if split(node)[0] == 0:
            return ()
        shown, number = self._below.find(node)
        name = shown.dataset.name
        with self._guard:
            folder = self._folders.number((name.namespace, name.name))
        return self._below.names((shown, number), folder, node_of(shown.number, TOP))

    def statistics(self) -> Statistics:
        """Return the size of what was looked into so far."""
        return Statistics(*self._below.trees.statistics())

    # ---- folders of the mount's own -----------------------------------------------------------

    def _names(self, path: tuple[str, ...]) -> Sequence[str]:
        """Return the namespaces, or the names in one, sorted."""
        datasets = self._datasets.get(deadline=self._below.deadline())
        if path:
            return sorted(each.name for each in datasets if each.namespace == path[0])
        return sorted({each.namespace for each in datasets})

    def _current(self, path: tuple[str, ...]) -> ShownVersion:
        name = DatasetName(*path[:_DATASET])
        currents = self._below.currents
        if self._moving or not currents.knows(name):
            return currents.current(name, deadline=self._below.deadline())
        return currents.last(name, deadline=self._below.deadline())

    def _versions(self, path: tuple[str, ...]) -> Sequence[KeptVersion]:
        name = DatasetName(*path[:_DATASET])
        with self._guard:
            recent = self._kept.get(name)
            if recent is None:
                recent = self._kept[name] = Recent(
                    self._below.reader.runtime,
                    lambda *, timeout_seconds: self._catalogue.versions(
                        name, timeout_seconds=timeout_seconds
                    ),
                )
        return recent.get(deadline=self._below.deadline())

    def _attributes(self, path: tuple[str, ...]) -> Attributes:
        with self._guard:
            node = self._folders.number(path)
        if len(path) == _DATASET and self._below.currents.knows(DatasetName(*path)):
            shown = self._current(path)
            return shown.attributes(TOP, self._below.owner, node=node)
        identity = "\0".join(("all", *path))
        if len(path) == _DATASET:
            # Listing all datasets must not load all manifests: a folder that nobody has entered
            # yet says nothing of what is in it but that it is there.
            identity = f"{DatasetName(*path)}\0"
        return self._below.owner.folder(node, identity, None, self._began_ns)

    def _version_attributes(self, path: tuple[str, ...], kept: KeptVersion) -> Attributes:
        trees = self._below.trees
        tree = trees.number(DatasetName(*path[:_DATASET]), kept.id, apart=True)
        # What nobody has entered need not be loaded to be listed.
        return self._below.owner.folder(
            node_of(tree, TOP), f"{trees.identity(tree)}\0", None, nanoseconds(kept.listed_at)
        )
