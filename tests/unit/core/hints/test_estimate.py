"""The estimate of all nodes at once is that of a plain loop over one, for anything there may be."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.core.hints.asking import Loader, LoaderMode
from cachefs.core.hints.estimate import Link, Links, estimate, locate, together
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import NEVER, Node, Rates
from cachefs.core.hints.spread import Seen, Split, Spread, nowhere

GB = 1e9
splits = st.builds(Split, *[st.sampled_from([0.0, 0.0, 1 * GB, 5 * GB])] * 9)
views = st.builds(Seen, splits, st.sampled_from([0.0, 2.0, 9.0]))
zones = st.sampled_from(["a", "b"])
racks = st.tuples(zones, st.sampled_from(["", "r1"]))
spreads = st.builds(
    Spread,
    total=st.just(9.0),
    nodes=st.dictionaries(st.sampled_from(["n0", "n2"]), views),
    racks=st.dictionaries(racks, views),
    zones=st.dictionaries(zones, views),
    elsewhere=views,
    origin=st.sampled_from(["o", "p"]),
)
links_of_one = st.builds(
    Link,
    rate=st.sampled_from([NEVER, GB, 4 * GB]),
    streams=st.sampled_from([0.0, 3.0]),
    queued=st.sampled_from([0.0, 2 * GB]),
)
limits = st.builds(
    Links,
    racks=st.dictionaries(racks, links_of_one),
    zones=st.dictionaries(zones, links_of_one),
    origins=st.dictionaries(st.sampled_from(["o", "p"]), links_of_one),
    peers=st.sampled_from([1.0, 0.5]),
)
rates = st.builds(Rates, *[], nic=st.sampled_from([GB, 3 * GB]), disk=st.sampled_from([GB, 2 * GB]))
loaders = st.builds(
    Loader, mode=st.sampled_from(LoaderMode), required_fraction=st.sampled_from([0.25, 1.0])
)
ways = {
    "dram": ("memory",),
    "dram_far": ("memory", "numa"),
    "nvme": ("disk",),
    "peer_rack": ("nic", "peers"),
    "peer_zone": ("nic", "peers", "rack"),
    "peer_remote": ("nic", "peers", "rack", "zone"),
    "origin": ("nic", "rack", "zone", "origin"),
}


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    fleet = Fleet()
    for at in range(draw(st.integers(1, 4))):
        zone, rack = draw(racks)
        fleet.put(Node(name=f"n{at}", zone=zone, rack=rack, rates=draw(rates)), now=0.0)
        for name in ("streams_in", "streams_out", "streams_disk"):
            fleet.column(name)[at] = draw(st.sampled_from([0.0, 1.0, 4.0]))
        for name in ("queued_in", "queued_disk"):
            fleet.column(name)[at] = draw(st.sampled_from([0.0, 3 * GB]))
        for name in ("nic", "disk", "memory", "numa", "load"):
            fleet.column(f"efficiency_{name}")[at] = draw(st.sampled_from([1.0, 0.5]))
    if draw(st.booleans()):
        fleet.remove("n1")
    return fleet


def _own(fleet: Fleet, row: int, part: str, streams: str | None = None) -> float:
    rate = getattr(fleet.at(row).rates, part) * fleet.column(f"efficiency_{part}")[row]
    return rate / ((fleet.column(streams)[row] if streams else 0.0) + 1)


def _plain(
    fleet: Fleet, row: int, seen: Seen, by_origin: dict[str, float], links: Links, **asked
) -> tuple[float, float]:
    """Return the seconds of data and of loading, for one node, as the formula says."""
    node, loader = fleet.at(row), asked["loader"]
    fraction = loader.required_fraction if loader.mode is LoaderMode.LAZY else 1.0
    wanted = {kind: size * fraction for kind, size in seen.split._asdict().items()}
    alive = [at for at in range(len(fleet)) if fleet.column("alive")[at]]
    cards = {at: _own(fleet, at, "nic", "streams_out") for at in alive}
    held = {at: asked["local"][at] for at in alive if at != row and asked["local"][at] > 0}
    longest = max((size / cards[at] for at, size in held.items()), default=0.0)
    rack = links.racks.get((node.zone, node.rack), Link())
    zone = links.zones.get(node.zone, Link())
    share = {
        "memory": _own(fleet, row, "memory"),
        "numa": _own(fleet, row, "numa"),
        "disk": _own(fleet, row, "disk", "streams_disk"),
        "nic": _own(fleet, row, "nic", "streams_in"),
        "peers": (sum(held.values()) / longest if held else sum(cards.values()) / len(cards))
        * links.peers,
        "rack": rack.rate / (rack.streams + 1),
        "zone": zone.rate / (zone.streams + 1),
    }
    queued = {
        "disk": fleet.column("queued_disk")[row],
        "nic": fleet.column("queued_in")[row],
        "rack": rack.queued,
        "zone": zone.queued,
    }
    overhead = 0.0005 * asked["files"]
    load = (sum(wanted.values()) - wanted["gpu"]) / _own(fleet, row, "load")
    origin = {name: links.origins.get(name, Link()) for name in by_origin}
    if loader.mode is LoaderMode.SERIAL:
        data = waits = 0.0
        for kind, way in ways.items():
            if kind != "origin":
                data += wanted[kind] / min(share[part] for part in way)
            if wanted[kind]:
                used = [part for part in way if part in queued]
                waits = max([waits, *(queued[part] / share[part] for part in used)])
        for name, size in by_origin.items():
            at_most = origin[name].rate / (origin[name].streams + 1)
            data += size * fraction / min(share["nic"], share["rack"], share["zone"], at_most)
            waits = max(waits, origin[name].queued / at_most if size else 0.0)
        data += waits
        return max(data, seen.arriving_seconds) + overhead, load
    longest = seen.arriving_seconds
    for part, rate in share.items():
        over = sum(wanted[kind] for kind, way in ways.items() if part in way)
        if over:
            longest = max(longest, (over + queued.get(part, 0.0)) / rate)
    for name, size in by_origin.items():
        link = origin[name]
        if size:
            ours = (size * fraction + link.queued) / (link.rate / (link.streams + 1))
            longest = max(longest, ours)
    return longest + overhead, load


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    fleets(),
    st.lists(spreads, min_size=1, max_size=2),
    limits,
    loaders,
    st.sampled_from([0, 100]),
)
def test_every_row_is_what_a_plain_loop_says(fleet, several, links, loader, files):
    located = together([locate(spread, fleet) for spread in several], fleet)
    slot = np.arange(len(fleet)) * 3.0
    image = np.full(len(fleet), 2.0)
    found = estimate(
        fleet,
        located,
        links,
        slot=slot,
        loader=loader,
        image=image,
        init=1.5,
        files=files,
    )
    for row in range(len(fleet)):
        if not fleet.column("alive")[row]:
            continue
        by_origin = {name: column[row] for name, column in located.origins.items()}
        seen = located.seen(row)
        local = [located.seen(at).split.local for at in range(len(fleet))]
        data, load = _plain(
            fleet,
            row,
            seen,
            by_origin,
            links,
            loader=loader,
            local=local,
            files=files,
        )
        assert found.data[row] == pytest.approx(data)
        assert found.load[row] == pytest.approx(load)
        starts = 0.0 if seen.split.total and seen.split.gpu == seen.split.total else 1.5
        ready = max(slot[row], 2.0, data) + load + starts
        assert found.ready[row] == pytest.approx(ready)
        told = found.breakdown(row, fleet.names[row], (fleet.at(row).zone, fleet.at(row).rack))
        assert told.ready == pytest.approx(ready)


def _two(**seconds: object) -> Fleet:
    fleet = Fleet()
    for name in ("n1", "n2"):
        node = Node(name=name, zone="a", rack="r1", rates=Rates(nic=GB, disk=2 * GB, load=10 * GB))
        fleet.put(node, now=0.0)
    return fleet


def _data(fleet: Fleet, spread: Spread, links: Links | None = None, **asked) -> list[float]:
    found = estimate(
        fleet, locate(spread, fleet), links or Links(), slot=np.zeros(len(fleet)), **asked
    )
    return [round(each, 6) for each in found.data.tolist()]


def test_who_already_uses_a_card_leaves_us_a_fair_share():
    fleet = _two()
    fleet.column("streams_in")[0] = 3
    assert _data(fleet, nowhere(10 * GB)) == [40.0, 10.0]


def test_what_was_promised_before_us_comes_first_where_we_read():
    fleet = _two()
    fleet.column("queued_in")[:] = 5 * GB
    held = Spread(
        total=10 * GB,
        nodes={"n1": Seen(Split(nvme=10 * GB))},
        elsewhere=Seen(Split(origin=10 * GB)),
    )
    assert _data(fleet, held) == [5.0, 15.0]


def test_bytes_on_their_way_are_charged_to_nobody_again():
    """So the second of two jobs goes where the first one's bytes are coming."""
    spread = Spread(
        total=10 * GB,
        nodes={"n1": Seen(Split(arriving=10 * GB), arriving_seconds=4.0)},
        elsewhere=Seen(Split(origin=10 * GB)),
        origin="o",
    )
    slow = Links(origins={"o": Link(rate=0.5 * GB)})
    assert _data(_two(), spread, slow) == [4.0, 20.0]
    assert _data(_two(), spread, slow, loader=Loader(mode=LoaderMode.SERIAL)) == [4.0, 20.0]


def test_a_serial_loader_adds_up_what_a_pipelined_one_overlaps():
    spread = Spread(total=10 * GB, elsewhere=Seen(Split(nvme=4 * GB, origin=6 * GB)))
    assert _data(_two(), spread) == [6.0, 6.0]
    assert _data(_two(), spread, loader=Loader(mode=LoaderMode.SERIAL)) == [8.0, 8.0]


def test_a_lazy_loader_waits_for_the_part_that_it_needs():
    lazy = Loader(mode=LoaderMode.LAZY, required_fraction=0.1)
    assert _data(_two(), nowhere(10 * GB), loader=lazy) == [1.0, 1.0]


def test_an_uplink_counts_for_what_comes_from_beyond_it_alone():
    links = Links(racks={("a", "r1"): Link(rate=0.5 * GB)}, zones={"a": Link(rate=0.25 * GB)})
    for split, seconds in (
        (Split(peer_rack=GB), 1.0),
        (Split(peer_zone=GB), 2.0),
        (Split(peer_remote=GB), 4.0),
        (Split(origin=GB), 4.0),
    ):
        spread = Spread(total=GB, elsewhere=Seen(split))
        assert _data(_two(), spread, links) == [seconds, seconds]


def test_each_origin_has_a_link_of_its_own():
    fleet = _two()
    both = together([locate(nowhere(GB, name), fleet) for name in ("o", "p")], fleet)
    links = Links(origins={"o": Link(rate=0.5 * GB), "p": Link(rate=0.1 * GB)})
    found = estimate(fleet, both, links, slot=np.zeros(2))
    assert found.data.tolist() == [10.0, 10.0]
    assert found.breakdown(0, "n1", ("a", "r1")).bottleneck == "origin:p"


@pytest.mark.parametrize(
    ("split", "links", "bottleneck"),
    [
        (Split(nvme=50 * GB), Links(), "nvme:n1"),
        (Split(origin=50 * GB), Links(), "nic:n1"),
        (Split(origin=GB), Links(racks={("a", "r1"): Link(rate=0.01 * GB)}), "rack:a/r1"),
        (Split(origin=GB), Links(zones={"a": Link(rate=0.01 * GB)}), "zone:a"),
        (Split(dram=50 * GB), Links(), "load:n1"),
        (Split(gpu=50 * GB), Links(), "init"),
    ],
)
def test_the_bottleneck_is_what_the_longest_part_waits_for(split, links, bottleneck):
    fleet = _two()
    located = locate(Spread(total=split.total, elsewhere=Seen(split)), fleet)
    found = estimate(fleet, located, links, slot=np.zeros(2))
    assert found.breakdown(0, "n1", ("a", "r1")).bottleneck == bottleneck
    waits = replace(found, slot=np.full(2, 1e6))
    assert waits.breakdown(0, "n1", ("a", "r1")).bottleneck == "slot:n1"
