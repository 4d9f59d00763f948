"""The namespace of one dataset: its version at the top of the mount."""

from collections.abc import Sequence

from cachefs.client.reader import OpenFile, Reader
from cachefs.core.names import DatasetName
from cachefs.fuse.showing.attributes import (
    FOREVER,
    MOVING_SECONDS,
    ROOT,
    Found,
    MountOptions,
    Statistics,
)
from cachefs.fuse.showing.listing import Listing
from cachefs.fuse.showing.memory import Memory, Versions
from cachefs.fuse.showing.nodes import TreeNodes
from cachefs.fuse.showing.tree import TOP
from cachefs.fuse.showing.trees import ShownVersion


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
        self._nodes = TreeNodes(reader, options, memory, versions)
        self._name = name
        self._moving = options.follow_current and version is None
        currents = self._nodes.currents
        if not currents.knows(name):
            resolved = reader.open(name, version).resolved
            currents.begin(self._nodes.trees.show(resolved))
        self.shown = self._top()
        """The version that it began with."""

    def _top(self) -> ShownVersion:
        nodes = self._nodes
        if self._moving:
            return nodes.currents.current(self._name, deadline=nodes.deadline())
        return nodes.currents.last(self._name, deadline=nodes.deadline())

    def place(self, node: int) -> tuple[ShownVersion, int]:
        """Return the version that a node is of, and its number there."""
        return (self._top(), TOP) if node == ROOT else self._nodes.find(node)

    def try_place(self, node: int) -> tuple[ShownVersion, int] | None:
        """Return the version that a node is of, and its number there, if that is in memory."""
        if node != ROOT:
            return self._nodes.try_find(node)
        shown = None if self._moving else self._nodes.currents.try_last(self._name)
        return None if shown is None else (shown, TOP)

    def lookup(self, parent: int, name: bytes) -> Found:
        """Return what a name in a folder means."""
        shown, folder = self.place(parent)
        moving = self._moving and parent == ROOT
        return shown.lookup(folder, name, MOVING_SECONDS if moving else FOREVER)

    def getattr(self, node: int) -> Found:
        """Return a node's attributes."""
        shown, number = self.place(node)
        moving = self._moving and node == ROOT
        attributes = shown.attributes(number, node=node)
        return Found(attributes, MOVING_SECONDS if moving else FOREVER)

    def listing(self, node: int) -> Listing:
        """Return what is in a folder."""
        shown, number = self.place(node)
        return shown.listing(number, moving=self._moving and node == ROOT)

    def open(self, node: int) -> OpenFile:
        """Open a file."""
        return self._nodes.open(self.place(node))

    def names(self, node: int) -> Sequence[tuple[int, bytes]]:
        """Return where the kernel may know a file."""
        return () if node == ROOT else self._nodes.names(self._nodes.find(node), ROOT)

    def statistics(self) -> Statistics:
        """Return the size of the version at the top, and how many files and folders it has."""
        shown = self._top()
        return Statistics(shown.dataset.resolved.manifest.size, len(shown.tree))
