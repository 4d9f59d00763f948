"""The namespace of all datasets: ``<namespace>/<name>``, and all versions that are kept.

The latter are below ``.versions`` in each dataset. That name is found but not listed, so that copying a
dataset does not copy every version of it; a file of the dataset's own with that name is hidden by it.
"""

import errno
import os
from collections.abc import Sequence

from cachefs.client.reader import OpenFile, Reader
from cachefs.core.names import DatasetName
from cachefs.errors import check
from cachefs.fuse.showing.attributes import (
    FOREVER,
    MOVING_SECONDS,
    ROOT,
    Attributes,
    Found,
    MountOptions,
    Statistics,
)
from cachefs.fuse.showing.currents import KeptVersion, Recent
from cachefs.fuse.showing.listing import Listing, MissingError
from cachefs.fuse.showing.memory import Memory, Versions
from cachefs.fuse.showing.namespace import Catalogue
from cachefs.fuse.showing.nodes import TreeNodes
from cachefs.fuse.showing.tree import TOP
from cachefs.fuse.showing.trees import ShownVersion, nanoseconds, node_of, split

VERSIONS_FOLDER = ".versions"
_FOLDERS_LIMIT = 1 << 31
"""Folders of the mount's own; more do not fit into its numbers."""
_NAMESPACE, _DATASET, _VERSIONS = 1, 2, 3
"""How many segments a folder of the mount's own has: what it is."""


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
        self._nodes = TreeNodes(reader, options, memory, versions)
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
        now = nanoseconds(self._nodes.reader.runtime.wall())
        memory.append({"kind": "beginning", "ns": now})
        return now

    # ---- the port -----------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Found:
        """Return what a name in a folder means."""
        if split(parent)[0] != 0:
            shown, folder = self._nodes.find(parent)
            return shown.lookup(folder, name, FOREVER)
        path = self._folders.path(parent)
        if len(path) == _DATASET and name != VERSIONS_FOLDER.encode():
            shown = self._current(path)
            return shown.lookup(TOP, name, MOVING_SECONDS)
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
            shown, number = self._nodes.find(node)
            return Found(shown.attributes(number), FOREVER)
        return Found(self._attributes(self._folders.path(node)), MOVING_SECONDS)

    def listing(self, node: int) -> Listing:
        """Return what is in a folder."""
        if split(node)[0] != 0:
            shown, folder = self._nodes.find(node)
            return shown.listing(folder, moving=False)
        path = self._folders.path(node)
        if len(path) == _DATASET:
            hidden = VERSIONS_FOLDER.encode()
            return self._current(path).listing(TOP, moving=True, hidden=hidden)
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
        return self._nodes.open(self.place(node))

    def place(self, node: int) -> tuple[ShownVersion, int] | None:
        """Return the version that a node is of, and its number there; ``None`` above datasets."""
        if split(node)[0] != 0:
            return self._nodes.find(node)
        path = self._folders.path(node)
        return (self._current(path), TOP) if len(path) == _DATASET else None

    def try_place(self, node: int) -> tuple[ShownVersion, int] | None:
        """Return the same if it is of a version, in memory, and not in a folder of the mount's own."""
        return self._nodes.try_find(node)

    def names(self, node: int) -> Sequence[tuple[int, bytes]]:
        """Return where the kernel may know a file: in its dataset's folder, or in its version's."""
        if split(node)[0] == 0:
            return ()
        shown, number = self._nodes.find(node)
        name = shown.dataset.name
        with self._guard:
            folder = self._folders.number((name.namespace, name.name))
        return self._nodes.names((shown, number), folder, node_of(shown.number, TOP))

    def statistics(self) -> Statistics:
        """Return the size of what was looked into so far."""
        return Statistics(*self._nodes.trees.statistics())

    # ---- folders of the mount's own -----------------------------------------------------------

    def _names(self, path: tuple[str, ...]) -> Sequence[str]:
        """Return the namespaces, or the names in one, sorted."""
        datasets = self._datasets.get(deadline=self._nodes.deadline())
        if path:
            return sorted(each.name for each in datasets if each.namespace == path[0])
        return sorted({each.namespace for each in datasets})

    def _current(self, path: tuple[str, ...]) -> ShownVersion:
        name = DatasetName(*path[:_DATASET])
        currents = self._nodes.currents
        if self._moving or not currents.knows(name):
            return currents.current(name, deadline=self._nodes.deadline())
        return currents.last(name, deadline=self._nodes.deadline())

    def _versions(self, path: tuple[str, ...]) -> Sequence[KeptVersion]:
        name = DatasetName(*path[:_DATASET])
        with self._guard:
            recent = self._kept.get(name)
            if recent is None:
                recent = self._kept[name] = Recent(
                    self._nodes.reader.runtime,
                    lambda *, timeout_seconds: self._catalogue.versions(
                        name, timeout_seconds=timeout_seconds
                    ),
                )
        return recent.get(deadline=self._nodes.deadline())

    def _attributes(self, path: tuple[str, ...]) -> Attributes:
        with self._guard:
            node = self._folders.number(path)
        if len(path) == _DATASET and self._nodes.currents.knows(DatasetName(*path)):
            shown = self._current(path)
            return shown.attributes(TOP, node=node)
        identity = "\0".join(("all", *path))
        if len(path) == _DATASET:
            # Listing all datasets must not load all manifests: a folder that nobody has entered
            # yet says nothing of what is in it but that it is there.
            identity = f"{DatasetName(*path)}\0"
        return self._nodes.owner.folder(node, identity, None, self._began_ns)

    def _version_attributes(self, path: tuple[str, ...], kept: KeptVersion) -> Attributes:
        trees = self._nodes.trees
        tree = trees.number(DatasetName(*path[:_DATASET]), kept.id, apart=True)
        # What nobody has entered need not be loaded to be listed.
        return self._nodes.owner.folder(
            node_of(tree, TOP), f"{trees.identity(tree)}\0", None, nanoseconds(kept.listed_at)
        )
