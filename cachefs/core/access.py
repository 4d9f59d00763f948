"""Access history: what has been read, and what will probably be read next.

Within a file, reads that go forward open a window ahead of them, which doubles with every further
one; a jump closes it. Reads of several threads arrive slightly out of order, so a read counts as
going forward when it begins near where an earlier one ended. Reads that go backward open a window
before them: glibc copies a large piece of memory from its end when the target lies, within a page,
just behind the source, and so reads a mapped file from behind. Across files, model checkpoints are
read shard by shard, and ``model-00003-of-00005.safetensors`` says itself what follows.
"""

import re
from collections.abc import Container

from cachefs.core.blocks import Range

_SHARD = re.compile(r"(.*\D)?(\d+)-of-(\d+)(\D.*)?", re.DOTALL)
_NUMBER = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)


class AccessHistory:
    """The reads of one open file. Not safe for concurrent use."""

    def __init__(self, *, window_start: int, window_limit: int) -> None:
        """Set the first window ahead and the largest, in bytes."""
        self._window_start = window_start
        self._window_limit = window_limit
        self._window = 0
        self._extent: Range | None = None
        """What was read since the last jump, from the lowest byte to the highest."""
        self.backward = False
        """Whether the reads since then go backward."""
        self.jumped = False
        """Whether there ever was a jump."""

    def record(self, wanted: Range) -> Range:
        """Note a read and return what to read ahead: a range after or before it, empty if nothing."""
        extent = self._extent
        if extent is None:
            # The first read of a file's beginning may be a look at its header.
            self._extent = wanted
            return Range(wanted.end, 0)
        near = max(wanted.length, self._window_start // 2)
        slack = max(self._window, near)  # in the direction of the reads
        before, after = (slack, near) if self.backward else (near, slack)
        if wanted.offset < extent.offset and abs(wanted.end - extent.offset) <= before:
            self._extent = extent = Range(wanted.offset, extent.end - wanted.offset)
            self._grow(backward=True)
        elif abs(wanted.offset - extent.end) <= after:
            if wanted.end > extent.end:
                self._extent = extent = Range(extent.offset, wanted.end - extent.offset)
                self._grow(backward=False)
        elif not (self.backward and 0 <= wanted.offset - extent.offset <= slack):
            self._window = 0
            self._extent = extent = wanted
            self.backward = False
            self.jumped = True
        if self.backward:
            begin = max(0, extent.offset - self._window)
            return Range(begin, extent.offset - begin)
        return Range(extent.end, self._window)

    def _grow(self, *, backward: bool) -> None:
        if backward != self.backward:
            self.backward = backward
            self._window = 0
        doubled = max(2 * self._window, self._window_start)
        self._window = min(doubled, self._window_limit)


def predict_next(opened: list[str], known: Container[str]) -> str | None:
    """Return the file that will probably be opened next, if it is among the ``known``.

    A shard announces its successor; other numbered files do once two followed each other.
    """
    if not opened:
        return None
    last = opened[-1]
    if shard := _SHARD.fullmatch(last):
        before, number, count, after = (part or "" for part in shard.groups())
        following = f"{before}{_successor(number)}-of-{count}{after}"
        return following if following in known else None
    if len(opened) < 2:
        return None
    earlier, later = _NUMBER.fullmatch(opened[-2]), _NUMBER.fullmatch(last)
    if earlier is None or later is None or earlier[1] != later[1] or earlier[3] != later[3]:
        return None
    if _successor(earlier[2]) != later[2]:
        return None
    following = f"{later[1]}{_successor(later[2])}{later[3]}"
    return following if following in known else None


def _successor(number: str) -> str:
    return str(int(number) + 1).zfill(len(number))
