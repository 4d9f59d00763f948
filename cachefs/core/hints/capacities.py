"""Capacities: how many members of a gang each candidate could have ready by a given time, by itself.

This is the innermost loop of the search (:mod:`.domains`): what does not depend on the time is reckoned
once, and candidates and releases that no longer matter are left out as the time shrinks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.fleet import Rows
from cachefs.core.hints.joint import Joint
from cachefs.core.hints.slots import Counts

EVER = 1e15
"""Seconds, by which everything has happened that will."""
ROUNDING = 1e-9
"""Seconds by which sums of the same numbers may differ."""


class Capacities:
    """The capacities of the candidates of a gang."""

    def __init__(self, joint: Joint) -> None:
        """Take what does not depend on the time out of the formula's numbers."""
        openings, rows = joint.openings, joint.rows
        self._need = joint.least
        self._places = openings.need
        self._free = openings.now[rows].sum(axis=1).astype(np.float64)
        later, waits = openings.later[rows], openings.waits[rows]
        candidate, device = np.nonzero((later > 0) & (waits < EVER))
        self._events = candidate, waits[candidate, device], later[candidate, device]
        self._tail = joint.load + joint.init
        self._image = joint.image
        self._chain = joint.chain
        alone = np.where(joint.slope > 0, 0.0, joint.base).max(axis=0, initial=0.0)
        self._fixed = alone + joint.overhead
        grows = joint.slope.any(axis=1)
        base, slope = joint.base[grows], joint.slope[grows]
        self._slope = np.where(slope > 0, slope, 1.0)
        self._base = np.where(slope > 0, base + joint.overhead, -EVER)

    def only(self, at: Rows, seconds: float) -> "Capacities":
        """Return the capacities of some candidates alone, for no more than so many seconds."""
        fewer = object.__new__(Capacities)
        fewer.__dict__.update(self.__dict__)
        here = np.zeros(len(self._free), dtype=np.bool_)
        here[at] = True
        candidate, waits, later = self._events
        keep = here[candidate] & (waits <= seconds)
        fewer._events = candidate[keep], waits[keep], later[keep]
        return fewer

    def by(self, seconds: float, at: Rows, further: NDArray[Any] | int) -> Counts:
        """Return how many members candidates could have ready.

        Args:
            seconds: By when.
            at: The candidates.
            further: Links of the chain, for each of them or for all.
        """
        left = seconds + ROUNDING - self._tail
        candidate, waits, later = self._events
        in_time = waits <= left[candidate]
        opened = np.bincount(candidate[in_time], weights=later[in_time], minlength=len(self._free))
        places = self._free[at] + opened[at]
        count = np.minimum(places // self._places, self._need)
        left = left[at]
        count[self._image[at] > left] = 0
        left = left - self._chain[at] * further
        count[self._fixed[at] > left] = 0
        for base, slope in zip(self._base, self._slope, strict=True):
            np.minimum(count, np.floor((left - base[at]) / slope[at]), out=count)
        result: Counts = np.maximum(count, 0).astype(np.int64)
        return result


def fewest(count: Counts, domain: NDArray[np.intp], domains: int, need: int) -> Counts:
    """Return the fewest nodes with enough members together, of each domain; ``need`` if it has not enough.

    Args:
        count: The capacity of each node.
        domain: Its domain.
        domains: How many there are.
        need: How many members are enough.
    """
    most = int(count.max(initial=0))
    if not most:
        return np.full(domains, need)
    number = np.bincount(domain * (most + 1) + count, minlength=domains * (most + 1))
    number = number.reshape(domains, most + 1)[:, :0:-1]
    sizes = np.arange(most, 0, -1)
    gained = np.cumsum(number * sizes, axis=1)
    first = (gained >= need).argmax(axis=1)
    rows = np.arange(domains)
    before = gained[rows, first] - number[rows, first] * sizes[first]
    nodes = np.cumsum(number, axis=1)[rows, first] - number[rows, first]
    nodes = nodes + -(-(need - before) // sizes[first])
    result: Counts = np.where(gained[:, -1] >= need, nodes, need)
    return result
