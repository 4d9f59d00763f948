"""Access history: what has been read, and what will probably be read next.

Within a file, reads that go forward open a window ahead of them, which doubles with every further
one; a jump closes it. Reads of several threads arrive slightly out of order, so a read counts as
going forward when it begins near where an earlier one ended. Across files, model checkpoints are
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
        self._frontier: int | None = None

    def record(self, wanted: Range) -> Range:
        """Note a read and return what to read ahead: a range after it, empty if nothing."""
        frontier, self._frontier = self._frontier, max(self._frontier or 0, wanted.end)
        if frontier is None:
            # The first read of a file's beginning may be a look at its header.
            return Range(wanted.end, 0)
        slack = max(self._window, wanted.length)
        if frontier - slack <= wanted.offset <= frontier + slack:
            if wanted.end > frontier:
                doubled = max(2 * self._window, self._window_start)
                self._window = min(doubled, self._window_limit)
        else:
            self._window = 0
            self._frontier = wanted.end
        return Range(self._frontier, self._window)


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
