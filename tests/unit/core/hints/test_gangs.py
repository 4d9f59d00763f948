"""Gangs are placed where they are ready together soonest: held to a search of every placement."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cachefs.core.hints.asking import Gang, Loader, LoaderMode, WantedGpu
from cachefs.core.hints.domains import WIDTHS
from cachefs.core.hints.estimate import KINDS, Link, Links, Located, estimate, locate
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.gangs import NoPlace, price_of, solve
from cachefs.core.hints.joint import Joint, Work, joined, seconds_of
from cachefs.core.hints.nodes import NEVER, Gpu, Node, Rates
from cachefs.core.hints.slots import Slots
from cachefs.core.hints.spread import Seen, Split, Spread, nowhere

NOW = 100.0
GB = 1e9
PLACES = [  # region, zone, rack
    ("x", "a", "r1"),
    ("x", "a", "r2"),
    ("x", "a", ""),
    ("x", "b", "r1"),
    ("y", "c", "r1"),
]
bytes_of_kinds = st.lists(st.sampled_from([0, 0, 0, 1, 2, 7]), min_size=9, max_size=9)
links = st.builds(
    Link,
    rate=st.sampled_from([NEVER, 0.5 * GB, 3 * GB]),
    streams=st.sampled_from([0.0, 1.0]),
    queued=st.sampled_from([0.0, GB]),
)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    fleet = Fleet()
    for at in range(draw(st.integers(1, 4))):
        region, zone, rack = draw(st.sampled_from(PLACES))
        gpus = tuple(
            Gpu(
                index=index,
                island=draw(st.integers(0, 1)),
                used=float(busy := draw(st.integers(0, 3)) == 3),
                free_at=draw(st.sampled_from([None, 95.0, 103.0])) if busy else None,
            )
            for index in range(draw(st.sampled_from([0, 1, 2, 3, 3])))
        )
        rates = Rates(
            nic=draw(st.sampled_from([1.0, 4.0])) * GB, load=draw(st.sampled_from([6.0, 12.0])) * GB
        )
        node = Node(name=f"n{at}", region=region, zone=zone, rack=rack, gpus=gpus, rates=rates)
        fleet.put(node, now=NOW)
    return fleet


@st.composite
def spreads(draw: st.DrawFn, fleet: Fleet) -> Located | None:
    if not draw(st.booleans()):
        return None
    alike = draw(st.booleans())
    first = draw(bytes_of_kinds)
    columns = [first if alike else draw(bytes_of_kinds) for _ in range(len(fleet))]
    kinds = np.array(columns, dtype=float).T * GB
    arriving = np.where(kinds[KINDS.index("arriving")] > 0, 3.0, 0.0)
    return Located(kinds, arriving, {"o": kinds[-1].copy()})


@st.composite
def joints(draw: st.DrawFn) -> Joint:
    fleet = draw(fleets())
    size = draw(st.integers(1, 5))
    gang = Gang(
        size=size,
        least=draw(st.one_of(st.none(), st.integers(1, size))),
        required_topology=draw(st.sampled_from([*[None] * 6, *WIDTHS[:-1]])),
        preferred_topology=draw(st.sampled_from([None, None, *WIDTHS[:-1]])),
    )
    wanted = draw(
        st.sampled_from(
            [WantedGpu(), WantedGpu(), WantedGpu(count=2), WantedGpu(fraction=0.5), None]
        )
    )
    work = Work(
        every=draw(spreads(fleet)),
        shares=draw(spreads(fleet)),
        links=Links(
            racks=draw(st.dictionaries(st.sampled_from(sorted(fleet.racks)), links)),
            zones=draw(st.dictionaries(st.sampled_from(sorted(fleet.zones)), links)),
            origins=draw(st.dictionaries(st.just("o"), links)),
        ),
        loader=Loader(mode=draw(st.sampled_from(LoaderMode)), required_fraction=0.5),
        image=np.array([draw(st.sampled_from([0.0, 2.0])) for _ in range(len(fleet))]),
        init=draw(st.sampled_from([0.0, 1.0])),
        files=draw(st.sampled_from([0, 100])),
        block_bytes=draw(st.sampled_from([8 << 20, 10**9])),
    )
    may = np.array([draw(st.integers(0, 9)) > 0 for _ in range(len(fleet))])
    openings = Slots(fleet).openings(wanted, now=NOW)
    return joined(fleet, openings, gang, work, may=may)


def _level(joint: Joint, placement: dict[int, int]) -> str:
    """Return the closest level at which a placement is together."""
    nodes = [joint.fleet.at(int(joint.rows[at])) for at in placement]
    if len(nodes) == 1:
        return "node"
    for level, place in (
        ("rack", {(node.zone, node.rack) for node in nodes} if nodes[0].rack else {1, 2}),
        ("zone", {node.zone for node in nodes}),
        ("region", {node.region for node in nodes}),
    ):
        if len(place) == 1:
            return level
    return "cluster"


def _least(joint: Joint) -> float:
    """Try every placement there is."""
    count, need = len(joint.rows), joint.least
    best = NEVER
    islands = int(joint.openings.islands.max(initial=-1)) + 1
    for at, island in product(range(count), range(islands)):
        if price_of(joint, "island") < NEVER:
            seconds = seconds_of(joint, {at: need}, island)
            best = min(best, seconds + price_of(joint, "island"))
    most = joint.openings.members_by(np.full(count, 1e12), joint.rows).tolist()
    for members in product(*(range(min(need, each) + 1) for each in most)):
        if sum(members) == need:
            placement = {at: each for at, each in enumerate(members) if each}
            price = price_of(joint, _level(joint, placement))
            if price < NEVER:
                best = min(best, seconds_of(joint, placement) + price)
    return best


def _wide(seed: int) -> Joint:
    """Make a gang that needs several nodes, and shared parts that matter."""
    rng = np.random.default_rng(seed)
    fleet = Fleet()
    count = int(rng.integers(3, 6))
    for at in range(count):
        region, zone, rack = PLACES[rng.integers(len(PLACES))]
        free = rng.integers(1, 4)
        gpus = tuple(Gpu(index=each, used=float(each >= free), free_at=104.0) for each in range(3))
        rates = Rates(nic=rng.choice([1.0, 2.0, 4.0]) * GB, load=rng.choice([6.0, 12.0]) * GB)
        node = Node(name=f"n{at}", region=region, zone=zone, rack=rack, gpus=gpus, rates=rates)
        fleet.put(node, now=NOW)

    kind = rng.integers(6)

    def spread(most: float) -> Located:
        held = rng.random((9, count)) < rng.random((9, 1))
        kinds = np.where(held, rng.integers(0, 10, (9, count)) * most * GB, 0.0)
        if kind == 4:  # nothing but what few peers send
            kinds[: KINDS.index("peer_rack")] = kinds[KINDS.index("origin")] = 0.0
            kinds[KINDS.index("dram"), 0] = most * GB
        elif rng.random() < 0.5:
            kinds[:] = kinds[:, :1]
        return Located(kinds, np.zeros(count), {"o": kinds[-1].copy()})

    def link() -> Link:
        if kind >= 4:
            return Link()
        return Link(rate=rng.choice([NEVER, 0.5, 1.0, 4.0]) * GB, queued=rng.choice([0.0, GB]))

    size = int(rng.integers(3, 7))
    topology = [None, None, None, "rack", "zone", "region"]
    work = Work(
        every=spread(1.0) if kind not in (0, 4) else None,
        shares=spread(4.0) if kind not in (1, 5) else None,
        links=Links(
            racks={place: link() for place in fleet.racks},
            zones={place: link() for place in fleet.zones},
            origins={"o": link()},
        ),
        block_bytes=10**9 if kind == 5 else 8 << 20,
    )
    gang = Gang(
        size=size,
        least=int(rng.integers(3, size + 1)),
        required_topology=topology[rng.integers(6)],
        preferred_topology=topology[rng.integers(6)],
    )
    openings = Slots(fleet).openings(WantedGpu(), now=NOW)
    return joined(fleet, openings, gang, work, may=np.ones(count, dtype=np.bool_))


def _check(joint: Joint) -> None:
    found, least = solve(joint), _least(joint)
    if isinstance(found, NoPlace):
        assert least == NEVER
        assert found.reason
    else:
        assert found.seconds + found.price <= least + 1e-5


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(joints())
def test_no_placement_is_quicker_than_the_one_that_is_found(joint):
    _check(joint)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@example(922)  # a chain as long as that of one node
@example(370)  # a greedy choice by room instead of by what peers send
@example(10)  # no order at all
@example(5)  # uplinks without a limit
@given(st.integers(0, 1 << 32))
def test_nor_is_any_of_a_gang_that_needs_several_nodes(seed):
    _check(_wide(seed))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(joints())
def test_what_is_said_of_a_placement_is_what_the_formula_says_of_it(joint):
    found = solve(joint)
    if isinstance(found, NoPlace):
        return
    row = {joint.fleet.names[row]: at for at, row in enumerate(joint.rows.tolist())}
    placement = {row[name]: each for name, each in Counter(found.assignment[: joint.least]).items()}
    assert joint.least <= len(found.assignment) <= joint.gang.size
    if found.level != "island":
        assert found.seconds == pytest.approx(seconds_of(joint, placement))
        assert found.level == _level(joint, placement)
    assert found.breakdown.ready == pytest.approx(found.seconds)
    assert found.breakdown.bottleneck
    for name, members in Counter(found.assignment).items():
        openings = joint.openings
        at = np.array([joint.rows[row[name]]])
        assert openings.members_by(np.array([1e12]), at)[0] >= members


def _cluster(count: int, gpus: int) -> Fleet:
    """Make nodes n0, n1, … of racks r0, r1, … of two nodes each."""
    fleet = Fleet()
    for at in range(count):
        cards = tuple(Gpu(index=each, island=each // 2) for each in range(gpus))
        rates = Rates(nic=GB, disk=2 * GB, load=10 * GB)
        node = Node(name=f"n{at}", rack=f"r{at // 2}", zone="a", gpus=cards, rates=rates)
        fleet.put(node, now=NOW)
    return fleet


def _solved(fleet: Fleet, gang: Gang, wanted: WantedGpu | None = None, **work: object):
    openings = Slots(fleet).openings(wanted or WantedGpu(), now=NOW)
    may = np.ones(len(fleet), dtype=np.bool_)
    return solve(joined(fleet, openings, gang, Work(**work), may=may))


def _from_origin(fleet: Fleet, size: float) -> Located:
    return locate(nowhere(size, "o"), fleet)


def test_a_gang_of_one_costs_what_one_job_costs():
    fleet = _cluster(3, 1)
    located = _from_origin(fleet, 20 * GB)
    limits = Links(origins={"o": Link(rate=2 * GB, queued=GB)})
    alone = estimate(fleet, located, limits, slot=np.zeros(3), init=4.0, files=10)
    found = _solved(fleet, Gang(size=1), every=located, links=limits, init=4.0, files=10)
    assert found.seconds == pytest.approx(float(alone.ready.min()))
    assert found.level == "island"


def test_bytes_for_all_come_once_from_the_origin_and_over_each_card():
    fleet = _cluster(4, 2)
    limits = Links(origins={"o": Link(rate=2 * GB)})
    found = _solved(fleet, Gang(size=8), every=_from_origin(fleet, 20 * GB), links=limits)
    block = (8 << 20) / GB
    assert found.seconds == pytest.approx(20 + 3 * block + 2)
    assert found.breakdown.bottleneck.startswith("nic:")
    assert found.assignment == ("n0", "n0", "n1", "n1", "n2", "n2", "n3", "n3")


def test_shares_of_ranks_come_once_for_each_rank():
    fleet = _cluster(4, 2)
    limits = Links(origins={"o": Link(rate=2 * GB)})
    located = _from_origin(fleet, 16 * GB)
    found = _solved(fleet, Gang(size=8), shares=located, links=limits)
    assert found.breakdown.bottleneck == "origin:o"
    assert found.seconds == pytest.approx(16 / 2 + 16 / 8 / 10)
    alone = _solved(fleet, Gang(size=2), shares=located, links=Links())
    assert alone.seconds == pytest.approx(8 + 0.8)  # two cards, half of it each


def test_shares_that_one_peer_sends_wait_for_its_card():
    fleet = _cluster(5, 1)
    there = {"n4": Seen(Split(nvme=16 * GB))}
    elsewhere = Seen(Split(peer_zone=16 * GB))
    located = locate(Spread(total=16 * GB, nodes=there, elsewhere=elsewhere), fleet)
    found = _solved(fleet, Gang(size=4), shares=located)
    assert "n4" in found.assignment
    assert found.breakdown.bottleneck == "peers"
    assert found.seconds == pytest.approx(12 + 4 / 10)


def test_a_required_rack_is_kept_to_even_if_another_would_be_quicker():
    fleet = _cluster(4, 1)
    there = {name: Seen(Split(dram=20 * GB)) for name in ("n1", "n2")}
    located = locate(
        Spread(total=20 * GB, nodes=there, elsewhere=Seen(Split(peer_zone=20 * GB))), fleet
    )
    assert set(_solved(fleet, Gang(size=2), every=located).assignment) == {"n1", "n2"}
    within = _solved(fleet, Gang(size=2, required_topology="rack"), every=located)
    assert (within.level, within.domain) == ("rack", "a/r0")


def test_a_preferred_rack_gives_way_only_to_what_is_much_quicker():
    fleet = _cluster(4, 1)
    for size, level in ((20 * GB, "rack"), (80 * GB, "zone")):
        there = {name: Seen(Split(dram=size)) for name in ("n1", "n2")}
        elsewhere = Seen(Split(peer_zone=size))
        located = locate(Spread(total=size, nodes=there, elsewhere=elsewhere), fleet)
        gang = Gang(size=2, preferred_topology="rack")
        assert _solved(fleet, gang, every=located).level == level


def test_an_island_is_a_set_of_accelerators_of_one_node():
    fleet = _cluster(2, 4)
    found = _solved(fleet, Gang(size=2, required_topology="island"))
    assert (found.level, found.domain) == ("island", "n0/0")
    refused = _solved(fleet, Gang(size=3, required_topology="island"))
    assert refused == NoPlace("2 of 3 members find a place in any one island")


def test_a_gang_that_fits_nowhere_says_how_much_of_it_would():
    fleet = _cluster(4, 2)
    assert _solved(fleet, Gang(size=9)) == NoPlace("8 of 9 members find a place in the cluster")
    gang = Gang(size=8, required_topology="rack")
    assert _solved(fleet, gang) == NoPlace("4 of 8 members find a place in any one rack")
    none = _solved(fleet, Gang(size=2), WantedGpu(model="B200"))
    assert none == NoPlace("no node can take a member")


def test_members_beyond_those_that_are_enough_are_placed_but_not_waited_for():
    fleet = _cluster(4, 2)
    there = {name: Seen(Split(dram=20 * GB)) for name in ("n0", "n1")}
    elsewhere = Seen(Split(peer_zone=20 * GB))
    located = locate(Spread(total=20 * GB, nodes=there, elsewhere=elsewhere), fleet)
    found = _solved(fleet, Gang(size=6, least=4), every=located)
    assert found.assignment[:4] == ("n0", "n0", "n1", "n1")
    assert len(found.assignment) == 6
    assert found.seconds == pytest.approx(1 + 2)
    few = _solved(fleet, Gang(size=20, least=2), every=located)
    assert len(few.assignment) == 8


def test_a_gang_waits_for_slots_together():
    fleet = _cluster(2, 1)
    busy = Gpu(index=0, used=1.0, free_at=NOW + 30)
    fleet.put(Node(name="n1", rack="r0", zone="a", gpus=(busy,)), now=NOW)
    found = _solved(fleet, Gang(size=2))
    assert found.seconds == pytest.approx(30)
    assert found.breakdown.bottleneck == "slot:n1"


def test_nodes_of_a_rack_without_a_name_are_not_close():
    fleet = _cluster(0, 0)
    for name in ("n0", "n1"):
        fleet.put(Node(name=name, zone="a", gpus=(Gpu(index=0),)), now=NOW)
    assert _solved(fleet, Gang(size=2)).level == "zone"
    assert isinstance(_solved(fleet, Gang(size=2, required_topology="rack")), NoPlace)


def test_a_gang_without_accelerators_is_placed_too():
    openings = Slots(fleet := _cluster(2, 0)).openings(None, now=NOW)
    may = np.ones(2, dtype=np.bool_)
    found = solve(joined(fleet, openings, Gang(size=100), Work(), may=may))
    assert (found.level, len(found.assignment)) == ("node", 100)


def test_of_equal_racks_the_smallest_that_suffices_is_taken():
    fleet = _cluster(8, 2)
    fleet.remove("n5")
    assert _solved(fleet, Gang(size=4)).domain == "a/r0"
    for name in ("n0", "n1", "n2", "n3"):  # a rack of six accelerators
        gpus = tuple(Gpu(index=at) for at in range(3))
        fleet.put(Node(name=name, rack=f"r{int(name[1]) // 2}", zone="a", gpus=gpus), now=NOW)
    assert _solved(fleet, Gang(size=4)).domain == "a/r3"
