"""Warm jobs: what warm-ups want of this worker, given out one block at a time, the jobs in turns."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cachefs.core import placement
from cachefs.core.blocks import BlockId, block_count
from cachefs.core.membership import View
from cachefs.core.names import WorkerId
from cachefs.ports import FileRef

WantedBlock = tuple[FileRef, int]


@dataclass(slots=True)
class _Job:
    own: deque[WantedBlock] = field(default_factory=deque)
    copies: deque[WantedBlock] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.own) + len(self.copies)


class WarmJobs:
    """The lists of all jobs. It is not safe for concurrent use: its owner takes care of that."""

    def __init__(self) -> None:
        """Want nothing."""
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def put(self, name: str, own: Iterable[WantedBlock], copies: Iterable[WantedBlock]) -> None:
        """Replace what a job wants; nothing wanted ends it."""
        job = _Job(deque(own), deque(copies))
        if job:
            self._jobs[name] = job
        else:
            self._jobs.pop(name, None)

    def take(self) -> WantedBlock | None:
        """Return the next block of which this worker is the first owner."""
        for name, job in self._jobs.items():
            if job.own:
                return self._given(name, job, job.own)
        return None

    def take_copy(self) -> WantedBlock | None:
        """Return the next block of which another worker is the first owner."""
        for name, job in self._jobs.items():
            if job.copies:
                return self._given(name, job, job.copies)
        return None

    def _given(self, name: str, job: _Job, blocks: deque[WantedBlock]) -> WantedBlock:
        block = blocks.popleft()
        self._jobs.move_to_end(name)
        if not job:
            del self._jobs[name]
        return block

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
