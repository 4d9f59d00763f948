"""The joint estimate: seconds until the members of a gang, placed so and so, are all ready.

A member alone is estimated by :mod:`.estimate`. Together, members share:

- *their node*. What every member reads comes onto a node once, however many are there. What each rank
  reads of its own comes once for each, over the same card and disk: the seconds of a part are then
  ``base + slope · members``. Each further member also waits for a further slot.
- *the uplinks of their rack and zone, and the origin's*. Bytes for all cross each of them once (the
  cache fetches each block once, and hands it on); shares of ranks cross it for every member behind it.
- *the cards of the peers that hold the bytes*, for shares of ranks.
- *a chain*. Bytes that all read are handed from node to node, a block behind one another: each further
  node adds the time of one block. Whole copies are never waited for.

So for a placement with ``m(n)`` members on node *n*, of nodes *S*::

    own(n)  = max(slot(n, m), image, data(n, m) + chain · (|S| - 1)) + load + init
    seconds = max(own(n) for n of S,
                  uplink(r, members behind it) + tail for each rack and zone,
                  origin(all members) + tail,  peers(all members) + tail)

``tail`` is the least load and start of any candidate: nobody is ready sooner after the last shared byte.
A gang of one costs what one job costs. :func:`seconds_of` is this formula and nothing else; the solver
(:mod:`.gangs`) and the exhaustive search in its tests both go by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.answer import Breakdown
from cachefs.core.hints.asking import Gang, Loader, LoaderMode
from cachefs.core.hints.estimate import KINDS, Estimate, Link, Links, Located, estimate, together
from cachefs.core.hints.fleet import Column, Fleet, Rows
from cachefs.core.hints.nodes import NEVER
from cachefs.core.hints.slots import Counts, Openings

BLOCK_BYTES = 8 << 20
"""The default size of a block."""

_PEERS = slice(KINDS.index("peer_rack"), KINDS.index("peer_remote") + 1)
_BEYOND_RACK = [KINDS.index(kind) for kind in ("peer_zone", "peer_remote", "origin")]
_BEYOND_ZONE = [KINDS.index(kind) for kind in ("peer_remote", "origin")]
_AFAR = slice(KINDS.index("peer_rack"), None)


Placement = Mapping[int, int]
"""How many members, at least one, on which candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the members of a gang do, each on its own and all together."""

    every: Located | None = None
    """The bytes that each member reads all of; ``None`` for none."""
    shares: Located | None = None
    """The bytes of which each rank reads a share."""
    links: Links = field(default_factory=Links)
    loader: Loader = field(default_factory=Loader)
    image: Column | None = None
    """Seconds until the container image is there."""
    init: float = 0.0
    files: int = 0
    block_bytes: int = BLOCK_BYTES


class Uplinks(NamedTuple):
    """The links of all racks, or zones, by number: ``base + slope · members`` seconds."""

    base: Column
    slope: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """The numbers of the formula, a column entry for each candidate node (not for each of the fleet)."""

    fleet: Fleet
    gang: Gang
    openings: Openings
    rows: Rows
    """Of the candidates in the fleet."""
    parts: tuple[str, ...]
    base: Column
    """Seconds of data by part and candidate, apart from what grows with the members there."""
    slope: Column
    overhead: Column
    image: Column
    load: Column
    init: Column
    chain: Column
    """Seconds that each further node, of those that share, adds."""
    chained_members: bool
    """Whether the chain counts members and not nodes. It does if ranks also read shares of their own
    from peers: then fewest nodes and least load on the peers are two aims, and only one can be exact."""
    rack: NDArray[np.intp]
    zone: NDArray[np.intp]
    region: NDArray[np.intp]
    racks: Uplinks
    zones: Uplinks
    origins: Mapping[str, tuple[float, float]]
    """Base and slope of each origin's link."""
    weight: Column
    """Seconds that a member here adds to the peers' cards, for the share of its rank."""

    @property
    def least(self) -> int:
        """How many members make the gang ready."""
        return self.gang.size if self.gang.least is None else self.gang.least

    @property
    def tail(self) -> float:
        """Seconds that follow the last shared byte in any case."""
        return float((self.load + self.init).min(initial=NEVER))

    def name(self, at: int) -> str:
        """Return the name of a candidate."""
        return self.fleet.names[int(self.rows[at])]

    def further(self, nodes: int, members: int) -> int:
        """Return how many links the chain has."""
        return (members if self.chained_members else nodes) - 1

    def links_least(self, members: int) -> float:
        """Return the seconds that so many members need in any case: of the origins' links."""
        slowest = max(
            (base + slope * members for base, slope in self.origins.values()), default=0.0
        )
        return slowest + self.tail


def joined(
    fleet: Fleet, openings: Openings, gang: Gang, work: Work, *, may: NDArray[np.bool_]
) -> Joint:
    """Make the numbers of the formula.

    Args:
        fleet: The nodes.
        openings: Where and when members could start.
        gang: The gang.
        work: What its members do.
        may: Which nodes may be chosen at all.
    """
    one = _estimate(fleet, work, 1 / gang.size)
    two = one if work.shares is None else _estimate(fleet, work, 2 / gang.size)
    parts, base, slope = _parts(fleet, work, one, two)
    rows = np.flatnonzero(may & (openings.seconds < NEVER) & np.isfinite(one.ready))
    base, slope = base[:, rows], slope[:, rows]
    kept = (base + slope).max(axis=1, initial=0.0) > 0
    every, shares = (
        (_kinds(each, fleet) * work.loader.fraction)[:, rows] for each in (work.every, work.shares)
    )
    card = (fleet.column("nic") * fleet.column("efficiency_nic"))[rows]
    card = card / (fleet.column("streams_in")[rows] + 1)
    afar = every[_AFAR].sum(axis=0)
    weight = shares[_PEERS].sum(axis=0) / gang.size / _peers_rate(one, work)
    rack, zone = fleet.column("rack")[rows], fleet.column("zone")[rows]
    far = every[_BEYOND_RACK].sum(axis=0), shares[_BEYOND_RACK].sum(axis=0) / gang.size
    farther = every[_BEYOND_ZONE].sum(axis=0), shares[_BEYOND_ZONE].sum(axis=0) / gang.size
    return Joint(
        fleet=fleet,
        gang=gang,
        openings=openings,
        rows=rows,
        parts=tuple(part for part, keep in zip(parts, kept, strict=True) if keep),
        base=base[kept],
        slope=slope[kept],
        overhead=one.overhead[rows],
        image=one.image[rows],
        load=one.load[rows],
        init=one.init[rows],
        chain=np.minimum(afar, work.block_bytes) / card,
        chained_members=bool(weight.any() and afar.any()),
        rack=rack,
        zone=zone,
        region=fleet.column("region")[rows],
        racks=_uplinks(work.links.racks, fleet.racks, rack, *far),
        zones=_uplinks(work.links.zones, fleet.zones, zone, *farther),
        origins=_origins(work, rows, gang.size),
        weight=weight,
    )


def seconds_of(joint: Joint, placement: Placement, island: int | None = None) -> float:
    """Return the seconds until all members of a placement are ready. This is the formula.

    Args:
        joint: Its numbers.
        placement: Where the members are.
        island: On whose accelerators alone, if on a single node; ``None`` for any.
    """
    at, members = _columns(placement)
    own = own_of(joint, at, members, island=island).max()
    return max(float(own), *(seconds for _, seconds in shared_of(joint, at, members)))


def own_of(
    joint: Joint,
    at: Rows,
    members: Counts,
    *,
    further: int | None = None,
    island: int | None = None,
) -> Column:
    """Return the seconds of each node of a placement, apart from what it shares with others.

    Args:
        joint: The numbers.
        at: Candidates, each once.
        members: How many are there.
        further: Links of the chain; as many as this placement has for ``None``.
        island: See :func:`seconds_of`.
    """
    slot = joint.openings.seconds_for(members, joint.rows[at], island)
    data = data_of(joint, at, members)
    if further is None:
        further = joint.further(len(at), int(members.sum()))
    data = data + joint.chain[at] * further
    starts = np.maximum.reduce([slot, joint.image[at], data])
    own: Column = starts + joint.load[at] + joint.init[at]
    return own


def data_of(joint: Joint, at: Rows, members: Counts) -> Column:
    """Return the seconds of data on each node, with so many members there and nobody else."""
    by_part = joint.base[:, at] + joint.slope[:, at] * members
    data: Column = by_part.max(axis=0, initial=0.0) + joint.overhead[at]
    return data


def shared_of(joint: Joint, at: Rows, members: Counts) -> list[tuple[str, float]]:
    """Return the seconds of each shared part that matters, the tail included."""
    found: list[tuple[str, float]] = []
    for kind, uplinks, number in (
        ("rack", joint.racks, joint.rack),
        ("zone", joint.zones, joint.zone),
    ):
        behind = np.bincount(number[at], weights=members, minlength=len(uplinks.base))
        seconds = np.where(behind > 0, uplinks.base + uplinks.slope * behind, 0.0)
        worst = int(seconds.argmax())
        names: list[Any] = list(joint.fleet.racks if kind == "rack" else joint.fleet.zones)
        place = names[worst] if kind == "rack" else (names[worst],)
        found.append((f"{kind}:{'/'.join(filter(None, place))}", float(seconds[worst])))
    count = int(members.sum())
    found += [
        (f"origin:{name}", base + slope * count) for name, (base, slope) in joint.origins.items()
    ]
    found.append(("peers", float((joint.weight[at] * members).sum())))
    return [(name, seconds + joint.tail) for name, seconds in found]


def breakdown_of(
    joint: Joint, placement: Placement, island: int | None = None
) -> tuple[Breakdown, int]:
    """Return the parts of a placement's slowest node, what all wait for, and which node it is."""
    at, members = _columns(placement)
    own = own_of(joint, at, members, island=island)
    slowest = int(own.argmax())
    node = int(at[slowest])
    one, count = at[slowest : slowest + 1], members[slowest : slowest + 1]
    slot = float(joint.openings.seconds_for(count, joint.rows[one], island)[0])
    chain = float(joint.chain[node] * joint.further(len(at), int(members.sum())))
    data = float(data_of(joint, one, count)[0]) + chain
    image, load, init = (float(each[node]) for each in (joint.image, joint.load, joint.init))
    shared, seconds = max(shared_of(joint, at, members), key=lambda each: each[1])
    name = joint.name(node)
    longest = max(slot, image, data, load, init)
    if seconds > own[slowest]:
        data, bottleneck = seconds - load - init, shared
    elif longest == data and data > 0:
        by_part = joint.base[:, node] + joint.slope[:, node] * count[0]
        part = joint.parts[int(by_part.argmax())] if len(by_part) else "data"
        bottleneck = _named(part, name, joint, node)
    else:
        kinds = {"slot": slot, "image": image, "load": load}
        bottleneck = next(
            (f"{kind}:{name}" for kind, each in kinds.items() if each == longest), "init"
        )
    return Breakdown(slot, image, data, load, init, bottleneck), node


def _named(part: str, name: str, joint: Joint, at: int) -> str:
    """Return a part as an estimate's breakdown names it."""
    node = joint.fleet.at(int(joint.rows[at]))
    if part == "rack":
        return f"rack:{'/'.join(filter(None, (node.zone, node.rack)))}"
    if part == "zone":
        return f"zone:{node.zone}"
    if part == "peers" or part.startswith("origin:"):
        return part
    return f"{'nvme' if part == 'disk' else part}:{name}"


def _columns(placement: Placement) -> tuple[Rows, Counts]:
    at = np.fromiter(placement, dtype=np.intp, count=len(placement))
    return at, np.fromiter(placement.values(), dtype=np.int64, count=len(placement))


def _estimate(fleet: Fleet, work: Work, share: float) -> Estimate:
    """Estimate every node with so much of what the ranks read shares of."""
    located = [] if work.every is None else [work.every]
    if work.shares is not None:
        located.append(work.shares.scaled(share))
    return estimate(
        fleet,
        together(located, fleet),
        work.links,
        slot=np.zeros(len(fleet)),
        loader=work.loader,
        image=work.image,
        init=work.init,
        files=work.files,
    )


def _parts(
    fleet: Fleet, work: Work, one: Estimate, two: Estimate
) -> tuple[list[str], Column, Column]:
    """Return the parts of the data's seconds with what grows with the members and what does not.

    The estimate is linear in the bytes, part by part, so two of its points tell the line. (What peers
    send depends on the mix of bytes that they hold; if that makes more members quicker, they are not.)
    """
    if work.loader.mode is LoaderMode.SERIAL:
        # Its kinds add up; what arrives runs beside them.
        still = [replace(each.located, arriving=np.zeros(len(fleet))) for each in (one, two)]
        sums = [_estimate_located(fleet, work, each) for each in still]
        first = {"serial": sums[0], "arriving": one.parts["arriving"]}
        second = {"serial": sums[1], "arriving": two.parts["arriving"]}
    else:
        first, second = dict(one.parts), dict(two.parts)
    names = list(first)
    low, high = (np.stack([each[name] for name in names]) for each in (first, second))
    slope = np.maximum(high - low, 0.0)
    return names, low - slope, slope


def _estimate_located(fleet: Fleet, work: Work, located: Located) -> Column:
    slot = np.zeros(len(fleet))
    found = estimate(
        fleet,
        located,
        work.links,
        slot=slot,
        loader=work.loader,
        files=work.files,
    )
    data: Column = found.data - found.overhead
    return data


def _kinds(located: Located | None, fleet: Fleet) -> Column:
    return np.zeros((len(KINDS), len(fleet))) if located is None else located.kinds


def _peers_rate(found: Estimate, work: Work) -> float:
    """Return what the peers' cards give together, in bytes per second."""
    over = found.located.kinds[_PEERS].sum(axis=0) * work.loader.fraction
    seconds = found.parts["peers"]
    some = (over > 0) & (seconds > 0)
    # A node that holds some itself has fewer peers than one that holds nothing.
    return float((over[some] / seconds[some]).max()) if some.any() else NEVER


def _uplinks(
    links: Mapping[Any, Link],
    numbers: Mapping[Any, int],
    number: NDArray[np.intp],
    every: Column,
    share: Column,
) -> Uplinks:
    """Return the seconds of uplinks. Any node behind one tells which bytes come from beyond it."""
    base, slope, most_every, most_share = np.zeros((4, len(numbers) or 1))
    np.maximum.at(most_every, number, every)
    np.maximum.at(most_share, number, share)
    for place, link in links.items():
        at = numbers.get(place)
        if at is not None and most_every[at] + most_share[at] > 0:
            base[at] = (most_every[at] + link.queued) / link.share
            slope[at] = most_share[at] / link.share
    return Uplinks(base, slope)


def _origins(work: Work, rows: Rows, size: int) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for located, share in ((work.every, 0), (work.shares, 1)):
        for name, column in located.origins.items() if located is not None else ():
            most = float(column[rows].max(initial=0.0)) * work.loader.fraction
            if most > 0:
                link = work.links.origins.get(name, Link())
                before = found.get(name, (link.queued / link.share, 0.0))
                added = (0.0, most / size / link.share) if share else (most / link.share, 0.0)
                found[name] = before[0] + added[0], before[1] + added[1]
    return found
