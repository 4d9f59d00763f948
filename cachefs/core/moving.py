"""Moving: which blocks change hands when workers leave or join.

When a worker leaves, each block that it holds goes to those who own it then and lack it. When one
joins, it gets the blocks that it owns now, from whoever holds them: about one of N, by the nature of
:mod:`.placement`. What nobody holds does not move.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.core.residency import ResidencyIndex, indexes, mask_bytes

HANDOVER_BYTES_RATE = 200 * 1024 * 1024
"""Bytes a second that one worker is assumed to take from others, for the estimate of a plan."""


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file version, and how many workers shall hold its blocks."""

    file_version: FileVersionId
    size: int
    replicas: int


@dataclass(slots=True)
class Handover:
    """What changes hands, or would."""

    blocks: int = 0
    size: int = 0
    """In bytes; copies count as often as they are made."""
    lost: int = 0
    """Bytes that nobody is there to take."""
    by_receiver: dict[WorkerId, int] = field(default_factory=dict)
    """Bytes."""

    @property
    def seconds(self) -> float:
        """An estimate: all receive at once, each at :data:`HANDOVER_BYTES_RATE`."""
        return max(self.by_receiver.values(), default=0) / HANDOVER_BYTES_RATE


def when_leaving(
    files: Iterable[PlacedFile],
    residency: ResidencyIndex,
    members: Sequence[Member],
    leaving: Collection[WorkerId],
    *,
    pool: str,
    block_size: int,
) -> Handover:
    """Return what must be handed over before some members of a pool may leave."""
    staying = [member for member in members if member.worker not in leaving]
    found = Handover()
    for file in files:
        held = 0
        for worker in leaving:
            held |= residency.resident(worker, file.file_version)
        lacking: dict[WorkerId, int] = {}
        orphans = 0
        for index in indexes(held):
            block = BlockId(file.file_version, index)
            owners = placement.owners(block, staying, pool=pool, replicas=file.replicas)
            orphans |= 0 if owners else 1 << index
            for owner in owners:
                lacking[owner.worker] = lacking.get(owner.worker, 0) | 1 << index
        found.lost += mask_bytes(orphans, file.size, block_size)
        for worker, mask in lacking.items():
            taken = mask & ~residency.resident(worker, file.file_version)
            size = mask_bytes(taken, file.size, block_size)
            found.blocks += taken.bit_count()
            found.size += size
            found.by_receiver[worker] = found.by_receiver.get(worker, 0) + size
    return found
