"""The spread of a dataset: of which bytes the nearest copy is how near, for every node there is.

A few nodes hold some of it; all others are told apart by their rack and zone alone. So a spread is
small however many nodes there are, and :func:`cachefs.core.hints.estimate.locate` makes columns of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Split(NamedTuple):
    """Bytes by where the nearest copy is, as one node sees it. They add up to all that is wanted."""

    gpu: float = 0.0
    """In the accelerator's memory already: nothing is to be done."""
    dram: float = 0.0
    """In the memory tier, on the accelerator's NUMA node or where there is only one."""
    dram_far: float = 0.0
    """In the memory tier, behind another NUMA node."""
    nvme: float = 0.0
    """In the disk tier."""
    arriving: float = 0.0
    """On their way to this node: charged to nobody again, and here by ``arriving_seconds``."""
    peer_rack: float = 0.0
    """Held, or awaited, by another node of the rack."""
    peer_zone: float = 0.0
    peer_remote: float = 0.0
    """In another zone."""
    origin: float = 0.0
    """Nowhere but in the origin."""

    @property
    def total(self) -> float:
        """All bytes."""
        return sum(self)

    @property
    def local(self) -> float:
        """What this node holds already."""
        return self.gpu + self.dram + self.dram_far + self.nvme


class Seen(NamedTuple):
    """What one node, or any node of a rack or zone without bytes of its own, sees of a dataset."""

    split: Split
    arriving_seconds: float = 0.0
    """Until the last of the bytes that are on their way, here or to the peer they count for, is there."""


NOTHING = Seen(Split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Where the bytes of some files are."""

    total: float
    """How many there are."""
    nodes: Mapping[str, Seen] = field(default_factory=dict)
    """Of each node that holds or awaits some."""
    racks: Mapping[tuple[str, str], Seen] = field(default_factory=dict)
    """By zone and rack: what any other node there sees, where a node of the rack holds some."""
    zones: Mapping[str, Seen] = field(default_factory=dict)
    """What any other node of a zone sees."""
    elsewhere: Seen = NOTHING
    """What all others see."""
    origin: str = ""
    """The origin's name, whose link is shared by all who read from it."""


def nowhere(total: float, origin: str = "") -> Spread:
    """Return the spread of what no node holds."""
    return Spread(total=total, elsewhere=Seen(Split(origin=total)), origin=origin)


def added(splits: Iterable[Split]) -> Split:
    """Add splits up, place by place."""
    return Split(*(sum(column) for column in zip(*splits, strict=True)))
