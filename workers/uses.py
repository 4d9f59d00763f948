"""Uses: when a dataset was last read from this worker, as renewals report it.

What other workers ask for is no use, for blocks move among them on their own. A file that is lent out
is in use as long as it is. Only the datasets of the last while are remembered, and only so many of them:
the coordinator keeps what it was told.
"""

import threading
from collections import Counter

from cachefs.core.names import DatasetName
from cachefs.ports import Runtime

REMEMBERED_SECONDS = 600.0
"""Longer than a coordinator is away for a restart."""
DATASETS_LIMIT = 500
"""Datasets in a report; the most recently used ones."""


class Uses:
    """Last uses by dataset. Safe from any thread."""

    def __init__(self, runtime: Runtime) -> None:
        """Begin without any."""
        self._runtime = runtime
        self._lock = threading.Lock()
        self._last: dict[DatasetName, float] = {}
        self._lent: Counter[DatasetName] = Counter()

    def note(self, dataset: DatasetName) -> None:
        """Note that something of a dataset is read."""
        now = self._runtime.monotonic()
        with self._lock:
            self._last[dataset] = now
            if len(self._last) > 2 * DATASETS_LIMIT:
                self._trim(now)

    def begin(self, dataset: DatasetName) -> None:
        """Note that a file of a dataset is lent out."""
        with self._lock:
            self._lent[dataset] += 1

    def end(self, dataset: DatasetName) -> None:
        """Note that a file is lent out no longer."""
        with self._lock:
            self._lent[dataset] -= 1
            if not self._lent[dataset]:
                del self._lent[dataset]
        self.note(dataset)

    def seconds_ago(self) -> dict[DatasetName, float]:
        """Return how long ago each dataset was used."""
        now = self._runtime.monotonic()
        with self._lock:
            for dataset in self._lent:
                self._last[dataset] = now
            self._trim(now)
            return {dataset: now - at for dataset, at in self._last.items()}

    def _trim(self, now: float) -> None:
        newest = sorted(self._last.items(), key=lambda each: -each[1])[:DATASETS_LIMIT]
        self._last = {name: at for name, at in newest if now - at <= REMEMBERED_SECONDS}
