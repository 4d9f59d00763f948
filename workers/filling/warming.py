"""Warm jobs: what is wanted of this worker ahead of use, given out one block at a time, the jobs in turns.

A job may have a rate. Then it gives its next block only when the time for it has come; the others go on
meanwhile. A job that only *moves* blocks names the worker that has them, and never costs the origin
anything: what no worker holds stays where it is not.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

from cachefs.core import placement
from cachefs.core.blocks import BlockId, block_count, block_range
from cachefs.core.membership import View
from cachefs.core.names import WorkerId
from cachefs.core.ratelimits import TokenBucket
from cachefs.ports import FileRef

WantedBlock = tuple[FileRef, int]


class JobTerms(NamedTuple):
    """How a job is to be done."""

    rate: float = 0.0
    """Bytes a second; 0 for no limit."""
    from_peers: bool = False
    """The origin is not asked."""
    source: WorkerId | None = None
    """Who is asked first; ``None`` for whoever may hold the blocks."""
    guests: bool = False
    """What comes in is a copy for a while; see :mod:`cachefs.workers.storage.guests`."""


PLAIN = JobTerms()
"""As fast as may be, from wherever the blocks can be had."""
FOR_A_CROWD = JobTerms(from_peers=True, guests=True)
"""A copy of a block that many ask for."""


class WarmLeft(NamedTuple):
    """What a job has yet to give out."""

    terms: JobTerms
    blocks: tuple[WantedBlock, ...]
    """The next ones, in order."""
    more: int
    """How many come after them."""


@dataclass(frozen=True, slots=True)
class Given:
    """A block that is to be filled now, and how."""

    file: FileRef
    index: int
    terms: JobTerms
    job: str


@dataclass(slots=True)
class _Job:
    terms: JobTerms
    bucket: TokenBucket
    may_at: float
    """Before this time it gives nothing."""
    own: deque[WantedBlock] = field(default_factory=deque)
    copies: deque[WantedBlock] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.own) + len(self.copies)


class WarmJobs:
    """The lists of all jobs. It is not safe for concurrent use: its owner takes care of that."""

    def __init__(self, block_size: int) -> None:
        """Want nothing."""
        self._block_size = block_size
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def put(
        self,
        name: str,
        own: Iterable[WantedBlock],
        copies: Iterable[WantedBlock],
        *,
        now: float,
        terms: JobTerms = PLAIN,
    ) -> None:
        """Replace what a job wants; nothing wanted ends it."""
        before = self._jobs.get(name)
        if before is not None and before.terms.rate == terms.rate:
            # One that is told again has no second burst.
            job = _Job(terms, before.bucket, before.may_at, deque(own), deque(copies))
        else:
            bucket = TokenBucket(terms.rate, now=now, burst=0.0)
            job = _Job(terms, bucket, now, deque(own), deque(copies))
        if job:
            self._jobs[name] = job
        else:
            self._jobs.pop(name, None)

    def take(self, now: float) -> Given | None:
        """Return the next block of which this worker is the first owner."""
        for name, job in self._jobs.items():
            if job.own and job.may_at <= now:
                return self._given(name, job, job.own, now)
        return None

    def take_copy(self, now: float) -> Given | None:
        """Return the next block of which another worker is the first owner."""
        for name, job in self._jobs.items():
            if job.copies and job.may_at <= now:
                return self._given(name, job, job.copies, now)
        return None

    def due(self, now: float) -> float:
        """Return when the next job whose turn has not come may give a block; ``inf`` for none."""
        waiting = (job.may_at for job in self._jobs.values() if job.may_at > now)
        return min(waiting, default=math.inf)

    def _given(self, name: str, job: _Job, blocks: deque[WantedBlock], now: float) -> Given:
        file, index = blocks.popleft()
        if job.terms.rate:
            job.may_at = now + job.bucket.reserve(self._size(file, index), now=now)
        self._jobs.move_to_end(name)
        if not job:
            del self._jobs[name]
        return Given(file, index, job.terms, name)

    def give_back(self, given: Given, now: float) -> None:
        """Have a block not count towards its job's rate that need not be filled.

        A job that is told again names everything again, what is there included. If that took its time
        once more, a warm-up whose blocks take longer than its coordinator is patient would never end.
        """
        job = self._jobs.get(given.job)
        if job is not None and given.terms.rate:
            job.bucket.give_back(self._size(given.file, given.index), now=now)
            job.may_at = now + job.bucket.reserve(0, now=now)

    def _size(self, file: FileRef, index: int) -> int:
        return block_range(index, file.entry.size, self._block_size).length

    def left(self, limit: int) -> list[WarmLeft]:
        """Return what is left to give out; the first ``limit`` blocks of each job one by one."""
        return [
            WarmLeft(
                job.terms,
                tuple(islice(chain(job.own, job.copies), limit)),
                max(0, len(job) - limit),
            )
            for job in self._jobs.values()
        ]

    def clear(self) -> None:
        """End all jobs."""
        self._jobs.clear()

    def __len__(self) -> int:
        """Return how many blocks are left to give out."""
        return sum(len(job) for job in self._jobs.values())


def part_copies(
    wanted: Mapping[FileRef, Iterable[int]], view: View | None, own: WorkerId, block_size: int
) -> tuple[list[WantedBlock], list[WantedBlock]]:
    """Part the blocks of which ``own`` is the first owner from those it shall hold a copy of.

    Without a view, all of them count as its own.
    """
    owned: list[WantedBlock] = []
    copied: list[WantedBlock] = []
    for file, indexes in wanted.items():
        for index in indexes:
            if index >= block_count(file.entry.size, block_size):
                continue
            is_copy = False
            if view is not None and file.replicas > 1:
                block = BlockId(file.entry.file_version, index)
                order = placement.order(block, view.members, pool=file.pool)
                is_copy = bool(order) and order[0].worker != own
            (copied if is_copy else owned).append((file, index))
    return owned, copied
