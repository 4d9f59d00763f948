"""Open origins, one for each dataset version that is being filled from.

What to open, and with which client, was decided once, when the version was listed; a worker only
follows (``Metadata.resolve``). An origin keeps connections, and so it is opened once and used by
all fills. The least recently used one is closed when there are too many.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cachefs.core.blocks import Range
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import OriginError
from cachefs.ports import FileRef, Metadata, Origin, ResolvedVersion

ORIGINS_LIMIT = 64
"""Origins open at once."""

OpenOrigin = Callable[[ResolvedVersion], Origin]
"""Opens the origin of a version, with the client that the version names."""


@dataclass(frozen=True, slots=True)
class OriginCounts:
    """Reads from all origins, by client."""

    requests: Mapping[str, int]
    read_bytes: Mapping[str, int]
    errors: Mapping[str, int]


class OpenOrigins:
    """A cache of open origins; safe from any thread."""

    def __init__(self, metadata: Metadata, open_origin: OpenOrigin) -> None:
        """Open nothing yet."""
        self._metadata = metadata
        self._open_origin = open_origin
        self._lock = threading.Lock()
        self._origins: OrderedDict[tuple[DatasetName, VersionId], Origin] = OrderedDict()
        self._requests: Counter[str] = Counter()
        self._read_bytes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()

    def read(
        self, file: FileRef, wanted: Range, *, deadline: float, buffer: memoryview | None = None
    ) -> memoryview:
        """Read a range of a file from its origin, once, into the buffer if it can, and count it.

        Raises:
            OriginError: The origin cannot be opened, or did not give it.
            ClusterError: Nobody says where the origin is.
            NotKnownError: The version exists no more.
        """
        origin = self.of(file, deadline=deadline)
        with self._lock:
            self._requests[origin.client] += 1
        try:
            data = origin.read_range(file.entry, wanted.offset, wanted.length, buffer)
        except OriginError:
            with self._lock:
                self._errors[origin.client] += 1
            raise
        with self._lock:
            self._read_bytes[origin.client] += len(data)
        return data

    def statistics(self) -> OriginCounts:
        """Return what was read so far."""
        with self._lock:
            return OriginCounts(dict(self._requests), dict(self._read_bytes), dict(self._errors))

    def of(self, file: FileRef, *, deadline: float) -> Origin:
        """Return the origin that a file is in, opening it first if need be.

        Raises:
            OriginError: It cannot be opened.
            ClusterError: Nobody says where it is.
            NotKnownError: The version exists no more.
        """
        key = (file.dataset, file.version)
        with self._lock:
            origin = self._origins.get(key)
            if origin is not None:
                self._origins.move_to_end(key)
                return origin
        # Opening may wait, so it happens outside of the lock; the loser of a race closes its own.
        resolved = self._metadata.resolve(file.dataset, file.version, deadline=deadline)
        opened = self._open_origin(resolved)
        closing: Origin | None = None
        with self._lock:
            origin = self._origins.setdefault(key, opened)
            if origin is not opened:
                closing = opened
            elif len(self._origins) > ORIGINS_LIMIT:
                _, closing = self._origins.popitem(last=False)
        if closing is not None:
            closing.close()
        return origin

    def close(self) -> None:
        """Close all of them; idempotent."""
        with self._lock:
            origins = list(self._origins.values())
            self._origins.clear()
        for origin in origins:
            origin.close()
