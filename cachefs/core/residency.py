"""Residency: which worker holds which blocks of which file version, on which tier.

The blocks of a file version are a *mask*: an integer whose bit *i* is block *i*. Union, difference
and counting are then single operations however large the file is, and a hundred thousand small
files cost a hundred thousand small integers. On the wire a mask is bytes, lowest bit first.

A worker whose residency is not *known* (it has just registered, and its memory tier may be empty by
now) counts as holding nothing until it has reported everything once.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from cachefs.core.blocks import FileVersionId, block_count
from cachefs.core.names import WorkerId
from cachefs.errors import ConfigError


def full_mask(blocks: int) -> int:
    """Return the mask of a file of which every block is meant."""
    return (1 << blocks) - 1


def decode_mask(bits: bytes, blocks: int) -> int:
    """Parse a mask from the wire.

    Raises:
        ConfigError: It names a block that the file does not have.
    """
    mask = int.from_bytes(bits, "little")
    if mask >> blocks:
        raise ConfigError(f"a bitmap names blocks beyond the file's {blocks}")
    return mask


def encode_mask(mask: int) -> bytes:
    """Return a mask as bytes, no longer than it must be."""
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def indexes(mask: int) -> Iterator[int]:
    """Yield the index of each block in a mask, in order."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def mask_bytes(mask: int, size: int, block_size: int) -> int:
    """Return how many bytes the blocks of a mask have; the last block of a file is short."""
    total = mask.bit_count() * block_size
    last = block_count(size, block_size) - 1
    if last >= 0 and mask >> last & 1:
        total -= (last + 1) * block_size - size
    return total


class Holding(NamedTuple):
    """What one worker holds of one file version on one tier."""

    worker: WorkerId
    file_version: FileVersionId
    tier: str
    mask: int


CHANGES_KEPT = 100_000
"""Changes that are remembered one by one: those of some seconds of a thousand busy workers."""
_GROUPS_LIMIT = 100_000

_Group = tuple[tuple[WorkerId, str], ...]
"""Workers and tiers that hold something of a file version."""


class ResidencyIndex:
    """All holdings, by worker, tier and file version, and who holds some of a file version.

    It is not safe for concurrent use: its owner takes care of that.
    """

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._held: dict[WorkerId, dict[str, dict[FileVersionId, int]]] = {}
        self._groups: dict[FileVersionId, _Group] = {}
        self._shared: dict[_Group, _Group] = {}
        """Of most file versions the same workers hold some: those have one group."""
        self._known: set[WorkerId] = set()
        self._revision = 0
        self._changes: deque[FileVersionId | None] = deque(maxlen=CHANGES_KEPT)
        """One for each revision: what changed, or ``None`` if it was who is known."""

    @property
    def revision(self) -> int:
        """Grows with every change."""
        return self._revision

    def changed_since(self, revision: int) -> frozenset[FileVersionId] | None:
        """Return whose holdings have changed since a revision; ``None`` if that is too long ago.

        Who is known does not count: see :meth:`is_known`.
        """
        count = self._revision - revision
        if not 0 <= count <= len(self._changes):
            return None
        newest = islice(reversed(self._changes), count)
        return frozenset(each for each in newest if each is not None)

    def is_known(self, worker: WorkerId) -> bool:
        """Whether the worker has reported everything since it registered."""
        return worker in self._known

    def set_known(self, worker: WorkerId, *, known: bool) -> None:
        """Say whether what is recorded of a worker is all that it holds."""
        if known != (worker in self._known):
            self._note(None)
            (self._known.add if known else self._known.discard)(worker)

    def put(self, holding: Holding) -> None:
        """Record what a worker holds now; an empty mask means that the file version has left."""
        tier = self._held.setdefault(holding.worker, {}).setdefault(holding.tier, {})
        before = tier.get(holding.file_version, 0)
        if holding.mask == before:
            return
        self._note(holding.file_version)
        if holding.mask:
            tier[holding.file_version] = holding.mask
        else:
            del tier[holding.file_version]
        if not (holding.mask and before):
            self._regroup(holding)

    def _note(self, change: FileVersionId | None) -> None:
        self._revision += 1
        self._changes.append(change)

    def _regroup(self, holding: Holding) -> None:
        """Note who has begun, or ceased, to hold some of a file version."""
        place = holding.worker, holding.tier
        others = (each for each in self._groups.get(holding.file_version, ()) if each != place)
        group = tuple(sorted((*others, place) if holding.mask else others))
        if not group:
            del self._groups[holding.file_version]
            return
        if len(self._shared) >= _GROUPS_LIMIT:
            self._shared.clear()  # those that are in use stay where they are, shared or not
        self._groups[holding.file_version] = self._shared.setdefault(group, group)

    def recorded_of(self, file_version: FileVersionId) -> Iterator[Holding]:
        """Yield everything recorded of a file version, whether its workers are known or not."""
        for worker, tier in self._groups.get(file_version, ()):
            yield Holding(worker, file_version, tier, self._held[worker][tier][file_version])

    def recorded(self, worker: WorkerId) -> Iterator[Holding]:
        """Yield everything recorded of a worker, known or not."""
        for tier, files in self._held.get(worker, {}).items():
            for file_version, mask in files.items():
                yield Holding(worker, file_version, tier, mask)

    def resident(self, worker: WorkerId, file_version: FileVersionId) -> int:
        """Return the mask of the blocks that a worker holds on any tier."""
        if worker not in self._known:
            return 0
        mask = 0
        for files in self._held.get(worker, {}).values():
            mask |= files.get(file_version, 0)
        return mask

    def holders(
        self, file_version: FileVersionId, workers: Iterable[WorkerId]
    ) -> Iterator[Holding]:
        """Yield what each of the given workers holds of a file version."""
        holding = {worker for worker, _ in self._groups.get(file_version, ())} & self._known
        for worker in workers if holding else ():
            if worker not in holding:
                continue
            for tier, files in self._held.get(worker, {}).items():
                mask = files.get(file_version, 0)
                if mask:
                    yield Holding(worker, file_version, tier, mask)


class TierShare(NamedTuple):
    """How much of a dataset one tier of one worker holds."""

    worker: WorkerId
    tier: str
    blocks: int
    size: int


class Summary(NamedTuple):
    """How much of a version is resident anywhere, and where."""

    blocks_total: int
    bytes_total: int
    blocks_resident: int
    """Blocks that at least one worker holds."""
    bytes_resident: int
    shares: tuple[TierShare, ...]

    @property
    def ratio(self) -> float:
        """The share of the bytes that is resident; 1 for a version without bytes."""
        return self.bytes_resident / self.bytes_total if self.bytes_total else 1.0


def summarise(
    sizes: Mapping[FileVersionId, int],
    index: ResidencyIndex,
    workers: Iterable[WorkerId],
    *,
    block_size: int,
) -> Summary:
    """Add up what the given workers hold of some file versions, whose sizes are given."""
    blocks_total = bytes_total = blocks_resident = bytes_resident = 0
    shares: dict[tuple[WorkerId, str], list[int]] = {}
    workers = tuple(workers)
    for file_version, size in sizes.items():
        blocks_total += block_count(size, block_size)
        bytes_total += size
        anywhere = 0
        for holding in index.holders(file_version, workers):
            anywhere |= holding.mask
            share = shares.setdefault((holding.worker, holding.tier), [0, 0])
            share[0] += holding.mask.bit_count()
            share[1] += mask_bytes(holding.mask, size, block_size)
        blocks_resident += anywhere.bit_count()
        bytes_resident += mask_bytes(anywhere, size, block_size)
    return Summary(
        blocks_total,
        bytes_total,
        blocks_resident,
        bytes_resident,
        tuple(TierShare(*place, *share) for place, share in sorted(shares.items())),
    )
