"""What both kinds of namespace do with the nodes of trees: find, name and open them."""

import errno
import os
from collections.abc import Sequence

from cachefs.client.reader import OpenFile, Reader
from cachefs.fuse.showing.attributes import MountOptions, Owner
from cachefs.fuse.showing.currents import Currents
from cachefs.fuse.showing.memory import Memory, Versions
from cachefs.fuse.showing.tree import TOP
from cachefs.fuse.showing.trees import (
    NUMBER_BITS,
    NUMBER_MASK,
    ShownVersion,
    Trees,
    node_of,
    split,
)


class TreeNodes:
    """The nodes below a mount's own folders: those of trees. Safe from any thread."""

    def __init__(
        self, reader: Reader, options: MountOptions, memory: Memory, versions: Versions
    ) -> None:
        """Build no tree yet."""
        self.owner = Owner.of(options)
        self.reader = reader
        self.trees = Trees(reader, memory, versions, self.owner)
        self.currents = Currents(reader, self.trees, memory, follow=options.follow_current)

    def deadline(self) -> float:
        """Return until when a request may wait that begins now."""
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

    def try_find(self, node: int) -> tuple[ShownVersion, int] | None:
        """Return what :meth:`find` does, if it is in memory."""
        shown = self.trees.in_memory(node >> NUMBER_BITS)
        number = node & NUMBER_MASK
        return (shown, number) if shown is not None and number in shown.tree else None

    def names(self, place: tuple[ShownVersion, int], *tops: int) -> Sequence[tuple[int, bytes]]:
        """Return a file's folders and its name; ``tops`` are what the tree's top is known as."""
        shown, number = place
        parent, name = shown.tree.parent(number), shown.tree.name(number)
        folders = tops if parent == TOP else (node_of(shown.number, parent),)
        return [(folder, name) for folder in folders]

    def open(self, place: tuple[ShownVersion, int] | None) -> OpenFile:
        """Open the file at a place; there is none where nothing of a version is."""
        entry = place[0].tree.entry(place[1]) if place is not None else None
        if place is None or entry is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return place[0].dataset.file(entry.path)
