"""Coverage: how much of some files is resident, by zone and tier, and how often its rarest block.

Copies are counted on masks, all blocks of a file at once: ``levels[n]`` are the blocks with at least
``n + 1`` copies.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_

from cachefs.core.blocks import FileVersionId, block_count
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.core.residency import full_mask, mask_bytes

Held = Mapping[tuple[WorkerId, str], int]
"""The blocks of one file that each worker holds on each tier."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of some files is resident."""

    bytes_total: int
    bytes_resident: int
    """Of which at least one copy is anywhere."""
    bytes_by_zone: Mapping[str, int]
    """Of each zone with workers of the pool: bytes of which at least one copy is there."""
    bytes_by_tier: Mapping[str, int]
    copies: int
    """Of the rarest block, on workers of the pool that are not leaving; of no block, 0."""
    copies_by_zone: Mapping[str, int]


def cover(
    sizes: Mapping[FileVersionId, int],
    held: Mapping[FileVersionId, Held],
    members: Iterable[Member],
    *,
    pool: str,
    block_size: int,
) -> Coverage:
    """Add up what members hold of some files, whose sizes are given."""
    inhabitants = [member for member in members if member.pool == pool]
    zones = sorted({member.zone for member in inhabitants})
    staying = {
        zone: [one.worker for one in inhabitants if one.zone == zone and not one.draining]
        for zone in zones
    }
    resident = 0
    by_zone = dict.fromkeys(zones, 0)
    by_tier: dict[str, int] = {}
    fewest: int | None = None
    fewest_in: dict[str, int | None] = dict.fromkeys(zones)
    for name, size in sizes.items():
        here = held.get(name, {})
        resident += mask_bytes(reduce(or_, here.values(), 0), size, block_size)
        for tier in {tier for _, tier in here}:
            mask = reduce(or_, (one for (_, where), one in here.items() if where == tier))
            by_tier[tier] = by_tier.get(tier, 0) + mask_bytes(mask, size, block_size)
        masks: dict[WorkerId, int] = {}
        for (worker, _), mask in here.items():
            masks[worker] = masks.get(worker, 0) | mask
        everything = full_mask(block_count(size, block_size))
        for zone in zones:
            anyone = [one.worker for one in inhabitants if one.zone == zone]
            mask = reduce(or_, (masks.get(worker, 0) for worker in anyone), 0)
            by_zone[zone] += mask_bytes(mask, size, block_size)
            copies = _copies([masks.get(worker, 0) for worker in staying[zone]], everything)
            fewest_in[zone] = _lesser(fewest_in[zone], copies)
        workers = [worker for zone in zones for worker in staying[zone]]
        fewest = _lesser(fewest, _copies([masks.get(one, 0) for one in workers], everything))
    return Coverage(
        bytes_total=sum(sizes.values()),
        bytes_resident=resident,
        bytes_by_zone=by_zone,
        bytes_by_tier=dict(sorted(by_tier.items())),
        copies=fewest or 0,
        copies_by_zone={zone: copies or 0 for zone, copies in fewest_in.items()},
    )


def _copies(masks: Iterable[int], everything: int) -> int | None:
    """Return how many copies the rarest block has; ``None`` for a file without blocks."""
    if not everything:
        return None
    levels: list[int] = []
    for mask in masks:
        levels.append(0)
        for number in range(len(levels) - 1, 0, -1):
            levels[number] |= levels[number - 1] & mask
        levels[0] |= mask
    return sum(level & everything == everything for level in levels)


def _lesser(one: int | None, other: int | None) -> int | None:
    known = [each for each in (one, other) if each is not None]
    return min(known, default=None)
