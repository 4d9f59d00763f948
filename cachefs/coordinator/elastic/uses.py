"""When each dataset was last used: read, warmed, or opened.

Whoever learns of a use notes it here: the coordinator's own answers to readers, and what workers report
with their renewals. Times are of the coordinator's own monotonic clock. What was noted is stored every
few seconds, as a counter that grows: other coordinators see it change, on their own clocks, and no two
clocks are compared. Only who starts has nothing but the calendar to go by.

A dataset that is seen for the first time counts as used: it was just declared.
"""

from collections.abc import Collection, Iterable

from cachefs.coordinator.store import policies as rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.names import DatasetName
from cachefs.ports import Runtime

STORE_SECONDS = 5.0
"""A use that is newer than the last one stored by so much is stored."""


class Uses:
    """Last uses. Safe from any thread."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        """Load what is stored."""
        self._store = store
        self._runtime = runtime
        self._turn = runtime.condition()
        self._last: dict[DatasetName, float] = {}
        self._stored: dict[DatasetName, float] = {}
        """The use that was last stored, on our own clock."""
        self._seen: dict[DatasetName, int] = {}
        self._follow(first=True)

    def note(self, dataset: DatasetName, *, seconds_ago: float = 0.0) -> None:
        """Note a use; an older one than the last changes nothing. Stores nothing, and never waits."""
        at = self._runtime.monotonic() - max(0.0, seconds_ago)
        with self._turn:
            if at > self._last.get(dataset, float("-inf")):
                self._last[dataset] = at

    def idle_seconds(self, dataset: DatasetName) -> float:
        """Return how long ago the last use was; 0 for a dataset that was never seen."""
        now = self._runtime.monotonic()
        with self._turn:
            return max(0.0, now - self._last.get(dataset, now))

    def tick(self, datasets: Collection[DatasetName]) -> None:
        """Follow the store, store what is new, and forget datasets that are gone."""
        self._follow()
        now, wall = self._runtime.monotonic(), self._runtime.wall()
        known = set(datasets)
        with self._turn:
            for name in known - self._last.keys():
                self._last[name] = now
            gone = [name for name in self._last if name not in known]
            due = sorted(
                (name, at)
                for name, at in self._last.items()
                if name in known and at - self._stored.get(name, float("-inf")) > STORE_SECONDS
            )
        if due:
            with self._store.write() as connection:
                counts = rows.note_uses(connection, ((name, wall - now + at) for name, at in due))
            with self._turn:
                self._stored.update(due)
                self._seen.update(counts)
        if gone:
            self._forget(gone)

    def _forget(self, gone: Iterable[DatasetName]) -> None:
        names = list(gone)
        with self._store.write() as connection:
            rows.forget_uses(connection, names)
        with self._turn:
            for name in names:
                for known in (self._last, self._stored, self._seen):
                    known.pop(name, None)

    def _follow(self, *, first: bool = False) -> None:
        with self._store.read() as connection:
            stored = rows.uses(connection)
        now, wall = self._runtime.monotonic(), self._runtime.wall()
        with self._turn:
            for name, use in stored.items():
                if self._seen.get(name) == use.uses:
                    continue
                self._seen[name] = use.uses
                # A time that is still to come, as calendars have it, is as good as now.
                at = now - max(0.0, wall - use.used_at) if first else now
                self._last[name] = max(at, self._last.get(name, at))
                self._stored[name] = max(at, self._stored.get(name, at))
