"""Warm-ups: which blocks each worker must still fill, and when that is all done.

A warm-up is level-triggered. Nobody counts what was sent or answered: whenever the members or their
residency change, :func:`plan` compares what should be resident with what is, from nothing but the
two. So it does not matter who computed the last plan, or what was lost on the way, and a
coordinator that was killed goes on where the world stands.

A block is *done* when each of its owners holds it. Progress counts blocks, not copies: the total
is that of the dataset, whatever happens to the members meanwhile. What a person sees must not run
backwards when a worker leaves, so :func:`advance` keeps the highest progress; the end alone is
decided by the plan of the moment.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId, block_count
from cachefs.core.manifest import VersionId
from cachefs.core.membership import Member
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.residency import ResidencyIndex, full_mask, indexes, mask_bytes

State = Literal["waiting", "running", "done", "failed", "cancelled"]

ACTIVE: tuple[State, ...] = ("waiting", "running")
"""The states in which there is something left to do."""

Wanted = dict[FileVersionId, int]
"""What one worker shall hold: a mask for each file version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmJob:
    """A request to fill blocks ahead of use, and how far it has come."""

    id: str
    dataset: DatasetName
    version: VersionId
    paths: tuple[str, ...]
    """Files and folders; empty for the whole version."""
    key: str = ""
    """Whoever asks with the same key while the job is active gets this one; empty for none."""
    zone: str = ""
    """Only the workers of this zone fill; empty for all."""
    copies: int = 0
    """How many workers shall hold each block; 0 for as many as the dataset says."""
    rate: int = 0
    """Bytes a second that all workers together fill at most; 0 for no limit."""
    map: str = ""
    """The residency map whose blocks alone are wanted; empty for all blocks."""
    workers: tuple[str, ...] = ()
    """Only these workers fill; empty for all."""
    state: State = "waiting"
    bytes_total: int
    blocks_total: int
    bytes_done: int = 0
    blocks_done: int = 0
    failure: str = ""
    created_at: float = 0.0
    """Seconds since 1970, as the two that follow."""
    started_at: float = 0.0
    """0 until it runs."""
    ended_at: float = 0.0
    """0 until it has ended."""

    @property
    def active(self) -> bool:
        """Whether there is something left to do."""
        return self.state in ACTIVE


class WantedFile(NamedTuple):
    """A file version that a warm-up wants."""

    file_version: FileVersionId
    size: int
    only: int | None = None
    """A mask of the blocks that are wanted; ``None`` for all."""

    def blocks(self, block_size: int) -> int:
        """Return the mask of the blocks that are wanted."""
        every = full_mask(block_count(self.size, block_size))
        return every if self.only is None else every & self.only


@dataclass(frozen=True)
class Assignment:
    """Which blocks each worker owns, among those that a warm-up wants."""

    by_worker: Mapping[WorkerId, Wanted]
    owned: bool
    """Whether the blocks have owners at all; not so while the pool has no workers."""


@dataclass(frozen=True)
class Plan:
    """What the world lacks."""

    blocks_done: int
    bytes_done: int
    missing: Mapping[WorkerId, int] = field(default_factory=dict)
    """How many blocks each worker must still fill; those that hold everything are left out."""
    complete: bool = False


def total(files: Iterable[WantedFile], *, block_size: int) -> tuple[int, int]:
    """Return the blocks and bytes that a warm-up wants."""
    blocks = size = 0
    for file in files:
        wanted = file.blocks(block_size)
        blocks += wanted.bit_count()
        size += mask_bytes(wanted, file.size, block_size)
    return blocks, size


def assign(
    files: Iterable[WantedFile],
    members: Iterable[Member],
    *,
    pool: str,
    replicas: int,
    block_size: int,
    zone: str = "",
    workers: Collection[str] = (),
) -> Assignment:
    """Give every block to its owners. This is the costly part; it depends on the view alone.

    Among the workers of one ``zone`` the first is the one that would hold the zone's copy if all
    zones had one. Workers that are named share all blocks among them.
    """
    members = [
        member
        for member in members
        if member.pool == pool
        and member.weight > 0
        and zone in ("", member.zone)
        and (not workers or member.worker in workers)
    ]
    by_worker: dict[WorkerId, Wanted] = {member.worker: {} for member in members}
    for file in files:
        for index in indexes(file.blocks(block_size)):
            bit = 1 << index
            block = BlockId(file.file_version, index)
            for owner in placement.owners(block, members, pool=pool, replicas=replicas):
                wanted = by_worker[owner.worker]
                wanted[file.file_version] = wanted.get(file.file_version, 0) | bit
    filled = {worker: wanted for worker, wanted in by_worker.items() if wanted}
    return Assignment(filled, any(not member.draining for member in members))


def plan(
    files: Iterable[WantedFile],
    assignment: Assignment,
    residency: ResidencyIndex,
    *,
    block_size: int,
) -> Plan:
    """Compare what should be resident with what is."""
    lacking: Wanted = {}
    missing: dict[WorkerId, int] = {}
    for worker, wanted in assignment.by_worker.items():
        count = 0
        for file_version, mask in wanted.items():
            lacks = mask & ~residency.resident(worker, file_version)
            if lacks:
                count += lacks.bit_count()
                lacking[file_version] = lacking.get(file_version, 0) | lacks
        if count:
            missing[worker] = count
    blocks_done = bytes_done = 0
    complete = True
    for file in files:
        everything = file.blocks(block_size)
        done = everything & ~lacking.get(file.file_version, 0) if assignment.owned else 0
        complete = complete and done == everything
        blocks_done += done.bit_count()
        bytes_done += mask_bytes(done, file.size, block_size)
    return Plan(blocks_done, bytes_done, missing, complete)


def rate_shares(
    rate: int, assignment: Assignment, missing: Mapping[WorkerId, int]
) -> dict[WorkerId, int]:
    """Share out a rate among the workers, as much as each has to fill; nobody gets nothing.

    What one does not use is not given to another: together they never exceed the rate by more than
    a byte a second each. Who holds its blocks already keeps a sixteenth of what it would have without
    them, lest it come to a standstill if it loses them.

    Args:
        rate: Bytes a second, of all together; 0 for no limit.
        assignment: Who is to hold what.
        missing: How many blocks each lacks.
    """
    if not rate:
        return {}
    blocks = {
        worker: 16 * missing.get(worker, 0) + sum(mask.bit_count() for mask in wanted.values())
        for worker, wanted in assignment.by_worker.items()
    }
    every = sum(blocks.values())
    return {worker: max(1, rate * count // every) for worker, count in blocks.items() if count}


def block_seconds(rate: int, block_size: int) -> float:
    """Return how long a block takes if it may come at a rate; 0 without a limit."""
    return block_size / rate if rate else 0.0


def advance(job: WarmJob, found: Plan, *, wall: float) -> WarmJob:
    """Return the job as it stands after a plan; an ended job never changes again."""
    if not job.active:
        return job
    if found.complete:
        return replace(
            job,
            state="done",
            blocks_done=job.blocks_total,
            bytes_done=job.bytes_total,
            ended_at=wall,
        )
    return replace(
        job,
        blocks_done=max(job.blocks_done, found.blocks_done),
        bytes_done=max(job.bytes_done, found.bytes_done),
    )


def end(job: WarmJob, state: State, *, wall: float, failure: str = "") -> WarmJob:
    """Return the job as failed or cancelled; an ended job never changes again."""
    if not job.active:
        return job
    return replace(job, state=state, failure=failure, ended_at=wall)
