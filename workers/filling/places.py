"""Places: which reads' blocks are filled at once, so that one silent origin starves nobody else.

As many fills run at once as the limit says, whatever they are for, first in, first out. When all of them
are taken, ``SPARE_PLACES`` more are there for datasets of which nothing is being filled: an origin that
stands still keeps its places until each request has timed out, and those who read something else must
not wait for that.
"""

from collections import Counter, deque
from collections.abc import Iterable

from cachefs.core.names import DatasetName
from cachefs.workers.filling.fills import Fill

SPARE_PLACES = 2
"""Each costs a thread and a block of memory, while it is used."""


class Places:
    """The queue of reads' fills, and the places that are taken. The caller's lock guards it."""

    def __init__(self, limit: int) -> None:
        """Have ``limit`` places, and the spare ones."""
        self._limit = limit
        self._waiting: deque[Fill] = deque()
        self._taken: Counter[DatasetName] = Counter()

    def __len__(self) -> int:
        """Return how many fills wait."""
        return len(self._waiting)

    @property
    def waiting(self) -> Iterable[Fill]:
        """The fills that wait, the next in front."""
        return self._waiting

    @property
    def has_room(self) -> bool:
        """Whether there is a place for anybody."""
        return self._taken.total() < self._limit

    def put(self, fill: Fill) -> None:
        """Have a fill wait for a place."""
        self._waiting.append(fill)

    def next(self) -> Fill | None:
        """Return the first that may have a place, which waits no more; :meth:`take` gives it one."""
        if self.has_room:
            return self._waiting.popleft() if self._waiting else None
        if self._taken.total() < self._limit + SPARE_PLACES:
            for fill in self._waiting:
                if not self._taken[fill.file.dataset]:
                    self._waiting.remove(fill)
                    return fill
        return None

    def take(self, fill: Fill) -> None:
        """Give a fill a place."""
        self._taken[fill.file.dataset] += 1

    def leave(self, fill: Fill) -> None:
        """Take the place back."""
        self._taken[fill.file.dataset] -= 1
        if not self._taken[fill.file.dataset]:
            del self._taken[fill.file.dataset]

    def clear(self) -> list[Fill]:
        """Return all that wait, which do so no more."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting
