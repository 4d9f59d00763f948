"""What may begin next, and what time alone will change: two heaps with their rules."""

import heapq
from collections.abc import Callable, Iterator

Order = tuple[int, int]
"""The place of a step in its flow, and the number of the instance."""


class Ready:
    """Steps in the order of the flow, each once."""

    def __init__(self, order: Callable[[str], Order]) -> None:
        """Take the order in which they come out."""
        self._order = order
        self._heap: list[tuple[Order, str]] = []
        self._known: set[str] = set()

    def add(self, step: str) -> None:
        """Put a step in, if it is not there."""
        if step not in self._known:
            self._known.add(step)
            heapq.heappush(self._heap, (self._order(step), step))

    def pop(self) -> str:
        """Take the first out."""
        step = heapq.heappop(self._heap)[1]
        self._known.discard(step)
        return step

    def clear(self) -> None:
        """Take all out."""
        self._heap.clear()
        self._known.clear()

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self._heap)


class Timers:
    """Moments at which a step is to be looked at again; those that do not hold any more are passed over."""

    def __init__(self, holds: Callable[[float, str], bool]) -> None:
        """Take what says whether a moment is still that of a step."""
        self._holds = holds
        self._heap: list[tuple[float, str]] = []

    def add(self, at: float, step: str) -> None:
        """Note a moment."""
        heapq.heappush(self._heap, (at, step))

    def due(self, now: float) -> Iterator[str]:
        """Take out and yield what is due."""
        while self._heap and self._heap[0][0] <= now:
            at, step = heapq.heappop(self._heap)
            if self._holds(at, step):
                yield step

    def first(self) -> float | None:
        """Return the next moment that holds."""
        while self._heap and not self._holds(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
