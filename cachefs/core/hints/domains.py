"""Domains: the racks, zones, regions or the cluster, each a set of nodes that a gang may be spread over.

The joint estimate is turned round: *how many members could be ready by T?* The formula falls apart,
because for a given T

- each node has a capacity: the most members for which its own seconds are at most T;
- each rack and zone has one: the most shares that come over its uplink by then;
- what the origin needs is the same for every placement.

Capacities of nodes within those of racks within those of zones: taking nodes one by one in the order of
their capacities reaches the most members with the fewest nodes (each rack's gain from one more node only
shrinks, so the greedy choice is exact); in the order of the load on the peers' cards, it reaches them
with the least load (a greedy choice of members under nested limits is exact: they form a matroid). The
chain's length depends on how many nodes are used, and more nodes leave less time for each: the number is
raised from one until it suffices, which finds the least that does. If T is enough for one placement,
more is too, so the least T is found by halving, to a microsecond, and what is found is evaluated by
the formula itself.

All domains of a level are halved together with a relaxed test (uplinks, chain and peers' cards each as
if the other two were not in the way); only the domain that would win is solved exactly, then those that
could still be quicker. Everything is on columns of candidates.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.asking import LEVELS
from cachefs.core.hints.capacities import EVER, ROUNDING, Capacities, fewest
from cachefs.core.hints.fleet import Column, Rows
from cachefs.core.hints.joint import Joint, Placement, Uplinks, data_of, seconds_of
from cachefs.core.hints.nodes import NEVER
from cachefs.core.hints.slots import Counts

CLUSTER = "cluster"
"""Nowhere closer than anywhere."""
WIDTHS = (*LEVELS, CLUSTER)
"""All levels, the closest first."""
EXACT_SECONDS = 1e-6
_COARSE_SECONDS = 0.01
"""How closely all domains are told apart at once; the best are then solved one by one."""


def domains_of(joint: Joint, level: str) -> NDArray[np.intp]:
    """Return the number of each candidate's domain, -1 for none.

    A rack without a name is none: nobody says that its nodes are close. A zone or region without a
    name is one like any other.
    """
    if level == "node":
        return np.arange(len(joint.rows))
    if level == CLUSTER:
        return np.zeros(len(joint.rows), dtype=np.intp)
    if level == "rack":
        unnamed = [at for place, at in joint.fleet.racks.items() if not place[1]]
        return np.where(np.isin(joint.rack, unnamed), -1, joint.rack)
    return joint.zone if level == "zone" else joint.region


class Level:
    """The domains of one level, each of more than one node."""

    def __init__(self, joint: Joint, capacities: Capacities, level: str) -> None:
        """Take the domains that a level has among the candidates."""
        self.joint = joint
        self.capacities = capacities
        self.need = joint.least
        self.domain = domains_of(joint, level)
        self._count = int(self.domain.max(initial=-1)) + 1
        # By domain, and within it by the load on the peers' cards: every choice of them stays in order.
        order = np.lexsort((joint.weight, self.domain))
        self._at = order[self.domain[order] >= 0]
        self._weighs = bool(joint.weight.any())
        self._caps_rack = level != "rack"
        self._caps_zone = level not in ("rack", "zone")
        self._bound = self._bounds()
        most = capacities.by(EVER, self._at, 0)
        self._nodes = fewest(most, self.domain[self._at], self._count, self.need)

    def solve(self, limit: float) -> tuple[Placement, float] | None:
        """Return the best placement in a domain of the level that is quicker than a limit."""
        best: tuple[Placement, float] | None = None
        if limit == NEVER:
            limit = self._enough() + 2 * EXACT_SECONDS
        while len(self._at):
            low, high, domain, at = self._halve(limit - EXACT_SECONDS)
            if domain < 0:
                break
            found = _Domain(self, at[self.domain[at] == domain]).solve(low, high, limit)
            if found is not None:
                best, limit = found, found[1]
            self._at = self._at[self.domain[self._at] != domain]
        return best

    def take(
        self, at: Rows, count: Counts, seconds: float, key: Callable[[Rows, Counts], Column]
    ) -> tuple[Rows, Counts]:
        """Take members until there are enough, as far as uplinks let them through in time.

        Args:
            at: Candidates.
            count: The capacity of each.
            seconds: By when they must be ready.
            key: What the candidates are taken in the order of; asked anew whenever an uplink has cut
                their capacities.
        """
        joint = self.joint
        order = np.argsort(key(at, count), kind="stable")
        at, count = at[order], count[order]
        for uplinks, number, inside in (
            (joint.racks, joint.rack, self._caps_rack),
            (joint.zones, joint.zone, self._caps_zone),
        ):
            most = self._behind(uplinks, seconds) if inside else None
            if most is not None:
                count = _within(count, number[at], most)
                order = np.argsort(key(at, count), kind="stable")
                at, count = at[order], count[order]
        count = np.clip(self.need - (np.cumsum(count) - count), 0, count)
        return at[count > 0], count[count > 0]

    def _behind(self, uplinks: Uplinks, seconds: float) -> Counts | None:
        """Return how many members may be behind each uplink; ``None`` for no limit."""
        base, slope = uplinks
        if not base.any() and not slope.any():
            return None
        left = seconds - self.joint.tail + ROUNDING - base
        steps = np.floor(left / np.where(slope > 0, slope, 1.0))
        most = np.where(slope > 0, np.minimum(steps, self.need), self.need)
        result: Counts = np.where(left < 0, 0, np.maximum(most, 0)).astype(np.int64)
        return result

    def _halve(self, high: float) -> tuple[float, float, int, Rows]:
        """Return about the least seconds that the relaxed test passes, and the domain that does then.

        Returns:
            What does not pass and what does, that domain, or -1 if nothing passes by ``high``, and
            the candidates that matter up to ``high`` as it was given.
        """
        tried = self._relaxed(high, self._at, self._nodes, self.capacities)
        if not len(tried[0]):
            return high, high, -1, self._at
        (passed, at, nodes), every, low = tried, tried[1], 0.0
        capacities = self.capacities.only(at, high)
        while high - low > _COARSE_SECONDS:
            middle = (low + high) / 2
            tried = self._relaxed(middle, at, nodes, capacities)
            if len(tried[0]):
                high, (passed, at, nodes) = middle, tried
                capacities = capacities.only(at, high)
            else:
                low = middle
        return low, high, int(passed[0]), every

    def _relaxed(
        self, seconds: float, at: Rows, nodes: Counts, capacities: Capacities
    ) -> tuple[Rows, Rows, Counts]:
        """Test all domains at once.

        Returns:
            Those that might have enough members ready, the smallest first; their candidates; and the
            fewest nodes that each domain then takes.
        """
        joint, domain, need = self.joint, self.domain[at], self.need
        while True:
            further = need - 1 if joint.chained_members else nodes[domain] - 1
            count = capacities.by(seconds, at, further)
            members: Column = np.bincount(domain, weights=count, minlength=self._count).astype(
                np.float64
            )
            passes = (members >= need) & (self._bound <= seconds + ROUNDING)
            if joint.chained_members or not passes.any():
                break
            more = np.maximum(fewest(count, domain, self._count, need), nodes)
            if not (passes & (more > nodes)).any():
                break
            nodes = np.where(passes, more, nodes)
        if self._weighs and passes.any():
            taken = _within_sorted(count, domain, np.full(self._count, need))
            load = np.bincount(domain, weights=joint.weight[at] * taken, minlength=self._count)
            passes &= load + joint.tail <= seconds + ROUNDING
        if self._caps_rack and passes.any():
            members = self._nested(count, at, seconds, members)
            passes &= members >= need
        domains = np.flatnonzero(passes)
        kept = at[passes[domain] & (count > 0)]
        return domains[np.argsort(members[domains], kind="stable")], kept, nodes

    def _nested(self, count: Counts, at: Rows, seconds: float, members: Column) -> Column:
        """Return the members of each domain within what the uplinks below it let through."""
        joint, domain = self.joint, self.domain
        racks = self._behind(joint.racks, seconds) if self._caps_rack else None
        zones = self._behind(joint.zones, seconds) if self._caps_zone else None
        if racks is None and zones is None:
            return members
        by_rack = np.bincount(joint.rack[at], weights=count, minlength=len(joint.racks.base))
        if racks is not None:
            by_rack = np.minimum(by_rack, racks)
        zone_of = np.zeros(len(by_rack), dtype=np.intp)
        zone_of[joint.rack[at]] = joint.zone[at]
        by_zone = np.bincount(zone_of, weights=by_rack, minlength=len(joint.zones.base))
        if zones is not None:
            by_zone = np.minimum(by_zone, zones)
        domain_of = np.zeros(len(by_zone), dtype=np.intp)
        domain_of[joint.zone[at]] = domain[at]
        return np.bincount(domain_of, weights=by_zone, minlength=self._count).astype(np.float64)

    def _bounds(self) -> Column:
        """Return the seconds that each domain needs in any case."""
        joint, need, at = self.joint, self.need, self._at
        bound = np.full(self._count, joint.links_least(need))
        for caps, uplinks, number in (
            (self._caps_rack, joint.racks, joint.rack),
            (self._caps_zone, joint.zones, joint.zone),
        ):
            if not caps and len(at):
                seconds = (uplinks.base + uplinks.slope * need)[number[at]] + joint.tail
                np.maximum.at(bound, self.domain[at], seconds)
        return bound

    def _enough(self) -> float:
        """Return seconds by which every placement that there can be is ready."""
        joint, need, at = self.joint, self.need, self._at
        if not len(at):
            return 0.0
        waits = joint.openings.waits[joint.rows[at]]
        slot = float(waits[np.isfinite(waits)].max(initial=0.0))
        data = float((data_of(joint, at, np.full(len(at), need)) + joint.chain[at] * need).max())
        own = slot + data + float((joint.image + joint.load + joint.init)[at].max())
        links = sum(
            float((each.base + each.slope * need).max()) for each in (joint.racks, joint.zones)
        )
        peers = float(joint.weight[at].max()) * need
        return own + links + peers + joint.links_least(need) + joint.tail


class _Domain:
    """One domain, solved exactly."""

    def __init__(self, level: Level, at: Rows) -> None:
        self._level = level
        self.joint = level.joint
        self._at = at
        self._capacities = level.capacities
        self._weighs = bool(self.joint.weight[at].any())

    def solve(self, low: float, high: float, limit: float) -> tuple[Placement, float] | None:
        """Return the best placement that is quicker than a limit; none is ready by ``low``.

        Args:
            low: Seconds.
            high: Seconds by which there may be one.
            limit: Seconds.
        """
        limit -= EXACT_SECONDS
        self._capacities = self._capacities.only(self._at, limit)
        placement = self._by(high)
        if placement is None:
            low, high = high, limit
            placement = self._by(high)
        if placement is None:
            return None
        high = min(high, seconds_of(self.joint, placement))
        while high - low > EXACT_SECONDS:
            middle = (low + high) / 2
            found = self._by(middle)
            if found is None:
                low = middle
            else:
                placement, high = found, min(middle, seconds_of(self.joint, found))
        return placement, seconds_of(self.joint, placement)

    def _by(self, seconds: float) -> dict[int, int] | None:
        """Return a placement that is ready by then; ``None`` if there is none."""
        joint, need = self.joint, self._level.need
        nodes = 1
        while nodes <= need:
            placement = self._with(seconds, joint.further(nodes, need))
            if placement is None:
                return None
            if joint.chained_members or len(placement) <= nodes:
                return placement
            nodes = len(placement)
        return None

    def _with(self, seconds: float, further: int) -> dict[int, int] | None:
        """Return the placement on the fewest nodes, or with the least load on peers, for a chain."""
        joint, level = self.joint, self._level
        count = self._capacities.by(seconds, self._at, further)
        if count.sum() < level.need:
            return None
        at, count = self._at[count > 0], count[count > 0]
        if self._weighs:
            at, count = level.take(at, count, seconds, lambda at, _: joint.weight[at])
            late = (joint.weight[at] * count).sum() + joint.tail > seconds + ROUNDING
        else:
            at, count = level.take(at, count, seconds, lambda _, count: -count.astype(np.float64))
            late = False
        if late or count.sum() < level.need:
            return None
        return dict(zip(at.tolist(), count.tolist(), strict=True))


def _within(count: Counts, group: NDArray[np.intp], most: Counts) -> Counts:
    """Cut counts so that each group has at most so many, the last of it first."""
    order = np.argsort(group, kind="stable")
    cut = np.empty_like(count)
    cut[order] = _within_sorted(count[order], group[order], most)
    return cut


def _within_sorted(count: Counts, group: NDArray[np.intp], most: Counts) -> Counts:
    """Do the same where the members of each group are together."""
    total = np.cumsum(count)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    starts = np.repeat((total - count)[first], np.diff(np.append(first, len(group))))
    before = total - count - starts
    result: Counts = np.clip(most[group] - before, 0, count)
    return result
