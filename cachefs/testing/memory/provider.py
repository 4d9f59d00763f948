"""A provider in memory: workers are names, and there is room for so many."""

from collections.abc import Sequence
from dataclasses import replace

from cachefs.core.names import WorkerId
from cachefs.core.pools import Provided
from cachefs.errors import CapacityError, NotKnownError


class MemoryProvider:
    """Implements :class:`cachefs.ports.Provider`. For one thread at a time."""

    def __init__(self, *, room: int = 100) -> None:
        """Have no worker, and room for some."""
        self.room = room
        self.stopped: list[WorkerId] = []
        """Who was stopped, in this order."""
        self._workers: dict[WorkerId, Provided] = {}

    def provided(self) -> Sequence[Provided]:
        """Return the workers that are there for good, or on their way out, sorted by name."""
        return sorted(self._workers.values(), key=lambda one: one.worker)

    def start(self, pool: str, zone: str) -> WorkerId:
        """Make one more worker."""
        if len(self._workers) >= self.room:
            raise CapacityError("there is no room for another worker")
        number = 1
        while WorkerId(f"worker-{number}") in self._workers:
            number += 1
        worker = WorkerId(f"worker-{number}")
        self._workers[worker] = Provided(worker, pool, zone)
        return worker

    def leave(self, worker: WorkerId) -> None:
        """Note that a worker is on its way out."""
        if worker not in self._workers:
            raise NotKnownError("no such worker", subject=worker)
        self._workers[worker] = replace(self._workers[worker], leaving=True)

    def stop(self, worker: WorkerId) -> None:
        """End a worker."""
        if self._workers.pop(worker, None) is not None:
            self.stopped.append(worker)
