"""Traffic: what moves to and from a worker, and when what it awaits will be there.

The estimate is plain. Blocks come in the order in which the filler gives them out: those that are begun, then
reads', then the warm-ups' in turns; all of them together at the rate at which blocks came lately, and a
warm-up with a rate of its own no faster than that. It is wrong where the next blocks come from elsewhere
than the last ones, and right again a second later: each renewal has a new one.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cachefs.core.blocks import FileVersionId, block_count, block_range
from cachefs.ports import FileRef, Runtime
from cachefs.wire.nodereports import Awaited, TrafficReport
from cachefs.workers.filling.fills import Underway
from cachefs.workers.filling.warming import WarmLeft

BLOCKS_LIMIT = 20_000
"""Queued blocks, and of each warm-up, that are looked at one by one: 160 GB of them, in 20 ms."""
GUESSED_RATE = 250e6
"""Bytes a second until blocks have come: what one worker fills from an origin, as plans of flows reckon."""
_MEMORY_SECONDS = 3.0
"""The rate follows what happens within so long."""
_RATE_MIN = 1000.0
"""Below it nobody can say when anything comes."""


class Sending:
    """Counts the transfers to others that run. Safe from any thread."""

    def __init__(self) -> None:
        """Count none."""
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    @contextmanager
    def of(self, source: str) -> Iterator[None]:
        """Count one, of bytes that were ``memory``, ``disk`` …, while the context is entered."""
        with self._lock:
            self._running[source] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[source] -= 1

    def counts(self) -> tuple[int, int]:
        """Return how many run, and how many of them read the disk."""
        with self._lock:
            return self._running.total(), self._running["disk"]


class Pace:
    """The rate at which blocks come in, while any do. Not safe for concurrent use."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: tuple[float, int] | None = None
        self._rate: float | None = None

    def note(self, *, now: float, total: int, busy: bool) -> float:
        """Take in how many bytes have come in all so far; return bytes a second.

        Args:
            now: A monotonic moment.
            total: Bytes since the worker began.
            busy: Whether anything is being filled, so that none is no pause but a standstill.
        """
        if self._seen is not None:
            seconds, size = now - self._seen[0], total - self._seen[1]
            if seconds > 0 and (size or busy):
                weight = 1.0 if self._rate is None else 1 - math.exp(-seconds / _MEMORY_SECONDS)
                before = self._rate if self._rate is not None else 0.0
                if size or self._rate is not None:
                    self._rate = before + weight * (size / seconds - before)
        self._seen = now, total
        return GUESSED_RATE if self._rate is None else max(self._rate, _RATE_MIN)


class Traffic:
    """Reports what moves. Called by one thread."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        block_size: int,
        underway: Callable[[int], Underway],
        filled_bytes: Callable[[], int],
        sending: Sending,
    ) -> None:
        """Report on what the two functions return, and on what is being sent.

        Args:
            runtime: For its clock.
            block_size: Bytes of a block.
            underway: Returns what is on its way, see :meth:`.filler.Filler.underway`.
            filled_bytes: Returns the bytes that came in so far.
            sending: Counts what goes out.
        """
        self._runtime = runtime
        self._block_size = block_size
        self._underway = underway
        self._filled_bytes = filled_bytes
        self._sending = sending
        self._pace = Pace()

    def report(self) -> TrafficReport:
        """Return what moves now."""
        underway = self._underway(BLOCKS_LIMIT)
        rate = self._pace.note(
            now=self._runtime.monotonic(), total=self._filled_bytes(), busy=bool(underway.begun)
        )
        schedule = _Schedule(self._block_size, rate)
        for file, index, _ in underway.begun:
            schedule.add(file, index)
        begun = schedule.size
        for file, index in underway.queued:
            schedule.add(file, index)
        reads = schedule.size - begun
        schedule.add_jobs([job for job in underway.jobs if job.blocks])
        more = sum(job.more for job in underway.jobs) * self._block_size
        workers, origins = _sources(underway)
        sending, from_disk = self._sending.counts()
        return TrafficReport(
            from_workers=workers,
            from_origins=origins,
            sending=sending,
            from_disk=from_disk,
            queued_bytes=schedule.size - begun + more,
            queued_reads_bytes=reads,
            awaited=schedule.awaited(),
        )


class _Schedule:
    """Blocks in the order in which they come."""

    def __init__(self, block_size: int, rate: float) -> None:
        self._block_size = block_size
        self._rate = rate
        self.size = 0
        self._masks: dict[FileVersionId, int] = {}
        self._seconds: dict[FileVersionId, float] = {}

    def add(self, file: FileRef, index: int) -> None:
        """Let one block come after those before it."""
        self.size += self._length(file, index)
        self._put(file, index, self.size / self._rate)

    def add_jobs(self, jobs: list[WarmLeft]) -> None:
        """Let the blocks of warm-ups come, after all the others, in turns."""
        ahead = self.size
        for job in jobs:
            own = 0
            for file, index in job.blocks:
                own += self._length(file, index)
                seconds = (ahead + own * len(jobs)) / self._rate
                if job.terms.rate:
                    seconds = max(seconds, own / job.terms.rate)
                self._put(file, index, seconds)
            self.size += own

    def awaited(self) -> tuple[Awaited, ...]:
        """Return what comes, the first in front."""
        found = (Awaited(name, mask, self._seconds[name]) for name, mask in self._masks.items())
        return tuple(sorted(found, key=lambda each: each.seconds))

    def _put(self, file: FileRef, index: int, seconds: float) -> None:
        name = file.entry.file_version
        self._masks[name] = self._masks.get(name, 0) | 1 << index
        self._seconds[name] = max(seconds, self._seconds.get(name, 0.0))

    def _length(self, file: FileRef, index: int) -> int:
        size = file.entry.size
        if index >= block_count(size, self._block_size):
            return 0
        return block_range(index, size, self._block_size).length


def _sources(underway: Underway) -> tuple[dict[str, int], dict[str, int]]:
    """Count the transfers that run by the worker, and by the dataset whose origin is asked."""
    workers: Counter[str] = Counter()
    origins: Counter[str] = Counter()
    for file, _, asked in underway.begun:
        kind, _, name = asked.partition(" ")
        if kind == "origin":
            origins[str(file.dataset)] += 1
        elif kind == "worker":
            workers[name] += 1
    return dict(workers), dict(origins)
