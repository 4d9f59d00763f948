"""Caches: how many bytes of which model a tier holds; the one unread for the longest time goes first.

Models are not evicted whole: a tier drops as much of the oldest as it needs room for, as the cache's
workers do with blocks. Of a model that is held in part, tiers and nodes hold the same part: whoever has
fewer bytes has some of those that whoever has more holds.
"""

from collections import Counter, OrderedDict


class Tier:
    """One tier of one node."""

    def __init__(self, capacity: float) -> None:
        """Begin empty; capacity in bytes."""
        self.capacity = capacity
        self.used = 0.0
        """What is held or promised to bytes on their way."""
        self._held: OrderedDict[str, float] = OrderedDict()
        self._pins: Counter[str] = Counter()

    def held(self, model: str) -> float:
        """Return how many bytes of a model are here."""
        return self._held.get(model, 0.0)

    def models(self) -> dict[str, float]:
        """Return what is held, the least lately read first."""
        return dict(self._held)

    def touch(self, model: str) -> None:
        """Note a read."""
        if model in self._held:
            self._held.move_to_end(model)

    def pin(self, model: str) -> None:
        """Keep a model's bytes for somebody who reads them."""
        self._pins[model] += 1

    def unpin(self, model: str) -> None:
        """Let go of what :meth:`pin` kept."""
        self._pins[model] -= 1
        if not self._pins[model]:
            del self._pins[model]

    def promise(self, size: float) -> float:
        """Make room, and keep it for bytes that are on their way; return how much could be had."""
        self._evict(self.used + size - self.capacity)
        granted = max(min(size, self.capacity - self.used), 0.0)
        self.used += granted
        return granted

    def land(self, model: str, size: float) -> None:
        """Hold bytes for which room was promised."""
        if size:
            self._held[model] = self.held(model) + size
        self.touch(model)

    def _evict(self, excess: float) -> None:
        for model in list(self._held):
            if excess <= 0:
                return
            if model in self._pins:
                continue
            dropped = min(self._held[model], excess)
            self._held[model] -= dropped
            self.used -= dropped
            excess -= dropped
            if self._held[model] <= 0:
                del self._held[model]
