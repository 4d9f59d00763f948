"""Whoever can make workers: processes on this machine, pods of a cluster."""

from collections.abc import Sequence
from typing import Protocol

from cachefs.core.names import WorkerId
from cachefs.core.pools import Provided


class Provider(Protocol):
    """Starts and stops workers. It decides nothing: :func:`cachefs.core.pools.compare` does.

    What it was told is durable when a call returns: whoever is killed and starts again finds a worker
    that was started, and finds one that leaves on its way out. Safe from any thread.
    """

    def provided(self) -> Sequence[Provided]:
        """Return the workers that are there for good, or on their way out, sorted by name.

        One that has died is there: it is started again. One that was stopped is there until
        everything that it held is removed.
        """
        ...

    def start(self, pool: str, zone: str) -> WorkerId:
        """Make one more worker; returns at once with its name, which no other has.

        Args:
            pool: It belongs to this one.
            zone: Where; empty for wherever the provider likes.

        Raises:
            CapacityError: There is no room for another.
        """
        ...

    def leave(self, worker: WorkerId) -> None:
        """Note that a worker is on its way out; it goes on serving. Idempotent.

        Raises:
            NotKnownError: There is no such worker.
        """
        ...

    def stop(self, worker: WorkerId) -> None:
        """End a worker and remove what it held; returns at once. Idempotent, also when it is gone."""
        ...
