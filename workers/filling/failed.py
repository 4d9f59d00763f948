"""What failed lately, so that the retries of many readers do not become as many requests."""

from collections import OrderedDict, deque

from cachefs.core.blocks import BlockId
from cachefs.errors import CacheFSError, CapacityError
from cachefs.workers.filling.fills import FillFailure

FAILURES_KEPT = 1000
"""Failed blocks remembered, and failures kept for the next renewal."""


class FailedFills:
    """Remembers failures. It is not safe for concurrent use: its owner takes care of that."""

    def __init__(self, memory_seconds: float) -> None:
        """Answer from memory for so long after a failure."""
        self._memory_seconds = memory_seconds
        self._remembered: OrderedDict[BlockId, tuple[CacheFSError, float]] = OrderedDict()
        self._untold: deque[FillFailure] = deque(maxlen=FAILURES_KEPT)
        self.count = 0
        """How many fills failed so far."""

    def add(self, failure: FillFailure, now: float) -> None:
        """Note that a fill has failed.

        Room may come free at any moment, so the lack of it is not remembered.
        """
        self.count += 1
        self._untold.append(failure)
        if isinstance(failure.error, CapacityError):
            return
        key = BlockId(failure.file.entry.file_version, failure.index)
        self._remembered[key] = (failure.error, now + self._memory_seconds)
        if len(self._remembered) > FAILURES_KEPT:
            self._remembered.popitem(last=False)

    def tell(self, failure: FillFailure) -> None:
        """Have the coordinator hear of a failure that is none of a fill's."""
        self._untold.append(failure)

    def lately(self, key: BlockId, now: float) -> CacheFSError | None:
        """Return why a block's fill has just failed, if it has."""
        error, until = self._remembered.get(key, (None, 0.0))
        if error is not None and now >= until:
            del self._remembered[key]
            return None
        return error

    def take(self) -> list[FillFailure]:
        """Return the failures that the coordinator has not heard of; they count as told."""
        taken = list(self._untold)
        self._untold.clear()
        return taken
