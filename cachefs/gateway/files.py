"""Files that stay open for a while after a request, because the next one is for the same file.

An open file holds descriptors that workers on this node have lent, knows digests, and has an idea of
what will be read next; a client that reads ranges asks for it a thousand times. But what is lent
cannot be evicted. So a file that nobody asks for is closed after :data:`IDLE_SECONDS`, and one that is
always asked for is opened anew now and then, because a worker may have come to this node.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cachefs.client.reader import OpenDataset, OpenFile
from cachefs.core.names import DatasetName
from cachefs.ports import Closing, Runtime

IDLE_SECONDS = 5.0
AGE_SECONDS = 60.0
"""A file that was opened so long ago is not given to new requests."""
IDLE_LIMIT = 256
"""Files without a request that are open at once."""
_CLOSE_SECONDS = 5.0

_Key = tuple[DatasetName, str, str]


class _Kept:
    """An open file and who uses it."""

    def __init__(self, file: OpenFile, now: float) -> None:
        self.file = file
        self.opened_at = now
        self.users = 0
        self.idle_since = now


class OpenFiles(Closing):
    """Lends open files; safe from any thread."""

    def __init__(self, runtime: Runtime) -> None:
        """Start the thread that closes what is idle."""
        self._runtime = runtime
        self._changed = runtime.condition()
        self._kept: dict[_Key, _Kept] = {}
        self._old: set[_Kept] = set()
        """In use, but for no new request."""
        self._closing = False
        self._sweeper = runtime.start("gateway files", self._sweep)

    @contextmanager
    def borrow(self, dataset: OpenDataset, path: str) -> Iterator[OpenFile]:
        """Lend a file of a dataset at its version.

        Raises:
            NotKnownError: There is no such file.
        """
        key = (dataset.name, dataset.version, path)
        kept = self._take(key, dataset)
        try:
            yield kept.file
        finally:
            self._give(kept)

    def __len__(self) -> int:
        """Return how many files are open."""
        return len(self._kept) + len(self._old)

    def close(self) -> None:
        """Close all files; who still reads gets errors."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._sweeper.join(_CLOSE_SECONDS)
        with self._changed:
            every = [*self._kept.values(), *self._old]
            self._kept.clear()
            self._old.clear()
        for each in every:
            each.file.close()

    def _take(self, key: _Key, dataset: OpenDataset) -> _Kept:
        with self._changed:
            now = self._runtime.monotonic()
            kept = self._kept.get(key)
            if kept is not None and now - kept.opened_at < AGE_SECONDS:
                kept.users += 1
                return kept
            fresh = _Kept(dataset.file(key[2]), now)
            fresh.users = 1
            if kept is not None:
                self._old.add(kept)  # the sweeper closes it, if nobody uses it
            self._kept[key] = fresh
            return fresh

    def _give(self, kept: _Kept) -> None:
        with self._changed:
            kept.users -= 1
            kept.idle_since = self._runtime.monotonic()

    def _sweep(self) -> None:
        while not self._closing:
            with self._changed:
                self._changed.wait(IDLE_SECONDS / 2)
                ended = self._ended()
            # A worker is told, which may take a moment.
            for each in ended:
                each.file.close()

    def _ended(self) -> list[_Kept]:
        """Take out the files that are to be closed."""
        now = self._runtime.monotonic()
        idle = sorted((each.idle_since, key) for key, each in self._kept.items() if not each.users)
        surplus = max(0, len(idle) - IDLE_LIMIT)
        due = [
            key
            for at, (since, key) in enumerate(idle)
            if at < surplus or now - since > IDLE_SECONDS
        ]
        ended = [self._kept.pop(key) for key in due]
        unused = {each for each in self._old if not each.users}
        self._old -= unused
        return [*ended, *unused]
