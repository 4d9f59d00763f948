"""Gangs: where the members of a gang would be ready together soonest.

What is minimised is the joint estimate (:func:`.joint.seconds_of`) and a price for distance: members
that are farther apart talk more slowly, so a wider domain has to be quicker by so much. A required
level of topology leaves out all domains that are wider; a preferred one makes them dearer.

A domain is an island, a node, a rack, a zone, a region or the cluster. On a single node there is one
placement, and all nodes are reckoned at once; the wider ones are searched by :mod:`.domains`, exactly.

Of placements that are equally quick, the one is taken whose nodes are ready sooner by themselves and
break up less of what is free. Members beyond those that are enough are placed where they are ready
next; the others do not wait for them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heapify, heapreplace

import numpy as np

from cachefs.core.hints.answer import Breakdown
from cachefs.core.hints.capacities import EVER, Capacities
from cachefs.core.hints.domains import CLUSTER, EXACT_SECONDS, WIDTHS, Level, domains_of
from cachefs.core.hints.fleet import Column, Rows
from cachefs.core.hints.joint import Joint, Placement, breakdown_of, own_of, seconds_of
from cachefs.core.hints.nodes import NEVER
from cachefs.core.hints.scoring import ALIKE_SECONDS
from cachefs.core.hints.slots import Counts

DISTANCE_SECONDS = dict(zip(WIDTHS, (0.0, 0.0, 0.25, 0.5, 1.0, 2.0), strict=True))
"""What a domain has to be quicker by than a closer one: less than estimates are known to."""
_ON_ONE = ("island", "node")
PREFERRED_SECONDS = 30.0
"""What each level wider than the preferred one has to be quicker by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GangChoice:
    """Where to put the members."""

    assignment: tuple[str, ...]
    """The node of each member, by rank; fewer than the gang's size if there is no place for more."""
    level: str
    """At which those that make the gang ready are together; :data:`CLUSTER` for nowhere closer."""
    domain: str
    """Its name: ``a/r1``."""
    seconds: float
    """Until as many as are enough are ready."""
    price: float
    """Seconds that were added for the distance when domains were compared."""
    breakdown: Breakdown
    """Of the node that is ready last, with what all wait for."""
    slowest: str
    """That node."""


@dataclass(frozen=True, slots=True)
class NoPlace:
    """There is nowhere to put the gang."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A placement."""

    placement: Placement
    level: str
    seconds: float
    island: int | None = None


def price_of(joint: Joint, level: str) -> float:
    """Return the seconds that a domain of a level has to be quicker by; infinite if it is too wide."""
    gang, width = joint.gang, WIDTHS.index(level)
    if gang.required_topology is not None and width > WIDTHS.index(gang.required_topology):
        return NEVER
    price = DISTANCE_SECONDS[level]
    if gang.preferred_topology is not None:
        price += PREFERRED_SECONDS * max(width - WIDTHS.index(gang.preferred_topology), 0)
    return price


def solve(joint: Joint) -> GangChoice | NoPlace:
    """Find where the members of a gang would be ready together soonest."""
    best: _Found | None = None
    capacities = Capacities(joint)
    for level in _levels(joint):
        price = price_of(joint, level)
        limit = NEVER if best is None else best.seconds + price_of(joint, best.level) - price
        if level in _ON_ONE:
            best = _on_one(joint, level, limit) or best
        elif (found := Level(joint, capacities, level).solve(limit)) is not None:
            best = _Found(found[0], level, found[1])
    if best is None:
        return NoPlace(_why_none(joint))
    best = replace(best, placement=_sooner(joint, capacities, best))
    seconds = seconds_of(joint, best.placement, best.island)
    breakdown, slowest = breakdown_of(joint, best.placement, best.island)
    return GangChoice(
        assignment=(*_names(joint, best.placement), *_names(joint, _more(joint, best))),
        level=best.level,
        domain=_domain(joint, best),
        seconds=seconds,
        price=price_of(joint, best.level),
        breakdown=breakdown,
        slowest=joint.name(slowest),
    )


def _levels(joint: Joint) -> Iterator[str]:
    """Yield the levels that are to be searched: not those too wide, nor as wide as a closer one."""
    narrower = 0
    for level in WIDTHS:
        if price_of(joint, level) == NEVER:
            return
        domain = domains_of(joint, level) if level not in _ON_ONE else np.full(1, -1)
        count = len(np.unique(domain))
        if count != narrower:
            yield level
        # Where some are in no domain, a wider level may have as many, and other ones.
        narrower = 0 if (domain < 0).any() else count


def _on_one(joint: Joint, level: str, limit: float) -> _Found | None:
    """Return the best single node, or island of one, that is quicker than a limit."""
    openings, rows = joint.openings, joint.rows
    enough = (openings.now + openings.later)[rows].sum(axis=1) >= joint.least * openings.need
    at = np.flatnonzero(enough)
    members = np.full(len(at), joint.least)
    islands: list[int | None] = [None]
    if level == "island":
        islands = list(range(int(joint.openings.islands.max(initial=-1)) + 1))
    best: _Found | None = None
    for island in islands if len(at) else ():
        own = own_of(joint, at, members, further=joint.further(1, joint.least), island=island)
        seconds = np.maximum(own, _shared_on_one(joint, at))
        growth = openings.growth[rows[at]]
        first = int(np.lexsort((joint.fleet.by_name[rows[at]], growth, seconds))[0])
        if seconds[first] < limit - EXACT_SECONDS:
            limit = float(seconds[first])
            best = _Found({int(at[first]): joint.least}, level, limit, island)
    return best


def _shared_on_one(joint: Joint, at: Rows) -> Column:
    """Return the seconds of what is shared, were all members on one node."""
    members = joint.least
    by_rack = joint.racks.base + joint.racks.slope * members
    by_zone = joint.zones.base + joint.zones.slope * members
    links = np.maximum(by_rack[joint.rack[at]], by_zone[joint.zone[at]])
    shared = np.maximum(links, joint.weight[at] * members) + joint.tail
    return np.maximum(shared, joint.links_least(members))


def _sooner(joint: Joint, capacities: Capacities, found: _Found) -> Placement:
    """Return an equally quick placement in the same domain, on nodes that are ready sooner by themselves."""
    if found.level in _ON_ONE:
        return found.placement
    level = Level(joint, capacities, found.level)
    domain = level.domain[next(iter(found.placement))]
    at = np.flatnonzero(level.domain == domain)
    further = joint.further(len(found.placement), joint.least)
    seconds = found.seconds + EXACT_SECONDS
    count = level.capacities.by(seconds, at, further)
    at, count = at[count > 0], count[count > 0]
    alone = own_of(joint, at, np.ones(len(at), dtype=np.int64), further=0)
    growth = joint.openings.growth[joint.rows[at]]
    keys = joint.fleet.by_name[joint.rows[at]], growth, np.floor(alone / ALIKE_SECONDS)
    rank = np.empty(len(joint.rows))
    rank[at[np.lexsort(keys)]] = np.arange(len(at))
    at, count = level.take(at, count, seconds, lambda at, _: rank[at])
    other = dict(zip(at.tolist(), count.tolist(), strict=True))
    ready = count.sum() == joint.least and seconds_of(joint, other) <= seconds
    return other if ready else found.placement


def _more(joint: Joint, found: _Found) -> dict[int, int]:
    """Return places for the members beyond those that are enough, where they are ready next."""
    spare = joint.gang.size - joint.least
    if not spare:
        return {}
    level = joint.gang.required_topology or CLUSTER
    island = found.island if level == "island" else None
    domain = domains_of(joint, "node" if level == "island" else level)
    first = next(iter(found.placement))
    at = np.array([first]) if domain[first] < 0 else np.flatnonzero(domain == domain[first])
    have = np.array([found.placement.get(each, 0) for each in at.tolist()])

    def next_ready(which: Rows, members: Counts) -> Column:
        return own_of(joint, which, members, further=0, island=island)

    line = list(
        zip(next_ready(at, have + 1).tolist(), at.tolist(), (have + 1).tolist(), strict=True)
    )
    heapify(line)
    more: dict[int, int] = {}
    while spare and line and line[0][0] < NEVER:
        _, which, members = line[0]
        more[which] = more.get(which, 0) + 1
        spare -= 1
        after = next_ready(np.array([which]), np.array([members + 1]))
        heapreplace(line, (float(after[0]), which, members + 1))
    return more


def _names(joint: Joint, placement: Placement) -> Iterator[str]:
    """Yield the node of each member; neighbouring ranks are close to one another."""

    def place(at: int) -> tuple[str, str, str, str]:
        node = joint.fleet.at(int(joint.rows[at]))
        return node.region, node.zone, node.rack, node.name

    for at in sorted(placement, key=place):
        for _ in range(placement[at]):
            yield joint.name(at)


def _domain(joint: Joint, found: _Found) -> str:
    node = joint.fleet.at(int(joint.rows[next(iter(found.placement))]))
    names = {
        "island": f"{node.name}/{found.island}",
        "node": node.name,
        "rack": "/".join(filter(None, (node.zone, node.rack))),
        "zone": node.zone,
        "region": node.region,
        CLUSTER: "",
    }
    return names[found.level]


def _why_none(joint: Joint) -> str:
    """Say to a person why there is no place."""
    at = np.arange(len(joint.rows))
    level = joint.gang.required_topology or CLUSTER
    where = "the cluster" if level == CLUSTER else f"any one {level}"
    if not len(at):
        return "no node can take a member"
    far = np.full(len(at), EVER)
    if level == "island":
        members = joint.openings.members_by_island(far, joint.rows)
        most = int(members.max(initial=0))
    else:
        domain = domains_of(joint, level)
        some = domain >= 0
        found = joint.openings.members_by(far[some], joint.rows[some])
        most = int(np.bincount(domain[some], weights=found).max(initial=0)) if some.any() else 0
    return f"{most} of {joint.least} members find a place in {where}"
