"""Hearing: what workers said with their renewals, as the coordinator's store has it.

The store is looked at a few times a second, whoever a worker renews with; so all coordinators on it know the
same. A worker was heard of when its renewal counter had changed. What is stored when we begin may be as old
as a lease, and counts as that.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cachefs.coordinator.store import counters
from cachefs.coordinator.store import members as rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.names import WorkerId
from cachefs.wire.nodereports import (
    NO_TRAFFIC,
    NodeReport,
    TrafficReport,
    read_node,
    read_traffic,
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker said last."""

    at: float
    """A monotonic moment of ours."""
    node: NodeReport | None = None
    traffic: TrafficReport = NO_TRAFFIC


@dataclass(frozen=True, slots=True)
class News:
    """What one look at the store brought."""

    heard: frozenset[WorkerId]
    """Who has renewed since the last look."""
    moved: frozenset[WorkerId]
    """Of these, whose node is another one than it was, or who was not heard of before."""
    gone: frozenset[WorkerId]
    catalogue: int
    """The revision of the catalogue."""


class Hearing:
    """Follows renewals. Used by one thread; :attr:`workers` is replaced and never changed."""

    def __init__(self, store: Store, *, lease_seconds: float) -> None:
        """Have heard nothing."""
        self._store = store
        self._lease_seconds = lease_seconds
        self._renewals: dict[WorkerId, int] | None = None
        self._texts: dict[WorkerId, str] = {}
        self.workers: Mapping[WorkerId, Heard] = {}

    def listen(self, now: float) -> News:
        """Look at the store.

        Raises:
            CoordinatorUnavailableError: It does not answer.
        """
        with self._store.read() as connection:
            renewals = rows.renewals(connection)
            before = self._renewals
            fresh = {
                worker
                for worker, count in renewals.items()
                if before is None or before.get(worker) != count
            }
            texts = rows.statistics(connection, None if len(fresh) == len(renewals) else fresh)
            catalogue = counters.read(connection)["catalogue"]
        at = now if before is not None else now - self._lease_seconds
        workers = {worker: heard for worker, heard in self.workers.items() if worker in renewals}
        moved = set()
        for worker in fresh:
            heard = self._heard(worker, texts.get(worker, ""), at)
            known = self.workers.get(worker)
            if known is None or not _is_same(known.node, heard.node):
                moved.add(worker)
            workers[worker] = heard
        gone = frozenset(self.workers.keys() - renewals.keys())
        for worker in gone:
            self._texts.pop(worker, None)
        self._renewals, self.workers = renewals, workers
        return News(frozenset(fresh), frozenset(moved), gone, catalogue)

    def _heard(self, worker: WorkerId, text: str, at: float) -> Heard:
        known = self.workers.get(worker)
        if known is not None and self._texts.get(worker) == text:
            return Heard(at, known.node, known.traffic)
        self._texts[worker] = text
        document = json.loads(text or "{}")
        return Heard(at, read_node(document), read_traffic(document))


def _is_same(one: NodeReport | None, other: NodeReport | None) -> bool:
    """Say whether two reports make the same node: free memory is not part of one."""
    if one is None or other is None:
        return one is other
    return replace(one, memory_free_bytes=other.memory_free_bytes) == other
