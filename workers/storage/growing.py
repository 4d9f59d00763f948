"""Growing files: how much of a tier the files that are just coming in will still take.

A file goes to the fastest tier that takes the whole of it. When several are loaded at once, as the
shards of a model are, each must leave the room that the others will want: else all of them begin in
memory, and evict each other there while the disk is empty. A file counts as growing until it is
complete, or nothing has come in for ``GROWING_SECONDS``: the rest of it may belong to other workers.
"""

from collections import OrderedDict

from cachefs.core.tiers import pages
from cachefs.workers.storage.cachedfile import CachedFile

GROWING_SECONDS = 10.0
"""Without a new block for so long, a file has got what this worker will have of it."""


class Growing:
    """The growing files of one tier. It is not safe for concurrent use: the worker's lock is."""

    def __init__(self) -> None:
        """Know none."""
        self._grew_at: OrderedDict[CachedFile, float] = OrderedDict()

    def note(self, file: CachedFile, now: float) -> None:
        """Note that a file begins, or that a block of it has come in."""
        if len(file.blocks) < file.block_count:
            self._grew_at[file] = now
            self._grew_at.move_to_end(file)
        else:
            self._grew_at.pop(file, None)

    def forget(self, file: CachedFile) -> None:
        """Note that a file leaves the tier."""
        self._grew_at.pop(file, None)

    def wanted(self, now: float) -> int:
        """Return the room that growing files will still take; blocks in flight count as well."""
        while self._grew_at:
            file, grew_at = next(iter(self._grew_at.items()))
            if now - grew_at < GROWING_SECONDS:
                break
            del self._grew_at[file]
        return sum(pages(file.size) - _taken(file) for file in self._grew_at)


def _taken(file: CachedFile) -> int:
    whole = pages(file.block_size) * len(file.blocks)
    last = file.block_count - 1
    if last in file.blocks:
        whole -= pages(file.block_size) - file.room_of(last)
    return whole
