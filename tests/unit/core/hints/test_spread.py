"""A spread says what every node sees of a dataset: its own entry, its rack's, its zone's, or the rest."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.core.hints.estimate import KINDS, locate, together
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import Node
from cachefs.core.hints.spread import Seen, Split, Spread, added, nowhere

splits = st.builds(Split, *[st.sampled_from([0.0, 1.0, 5.0])] * 9)
views = st.builds(Seen, splits, st.sampled_from([0.0, 2.0]))
zones = st.sampled_from(["", "a", "b", "nowhere"])
racks = st.tuples(zones, st.sampled_from(["", "r1", "r9"]))
spreads = st.builds(
    Spread,
    total=st.just(9.0),
    nodes=st.dictionaries(st.sampled_from(["n0", "n2", "gone"]), views),
    racks=st.dictionaries(racks, views),
    zones=st.dictionaries(zones, views),
    elsewhere=views,
    origin=st.sampled_from(["o", "p"]),
)
places = st.lists(racks, min_size=1, max_size=5)


def _fleet(where: list[tuple[str, str]]) -> Fleet:
    fleet = Fleet()
    for at, (zone, rack) in enumerate(where):
        fleet.put(Node(name=f"n{at}", zone=zone, rack=rack), now=0.0)
    return fleet


def _seen(spread: Spread, name: str, zone: str, rack: str) -> Seen:
    """Look one node up, the closest entry first."""
    for found in (spread.nodes.get(name), spread.racks.get((zone, rack)), spread.zones.get(zone)):
        if found is not None:
            return found
    return spread.elsewhere


@settings(deadline=None)
@given(spreads, places)
def test_every_node_sees_the_closest_entry_there_is(spread, where):
    fleet = _fleet(where)
    located = locate(spread, fleet)
    for row, (zone, rack) in enumerate(where):
        seen = _seen(spread, f"n{row}", zone, rack)
        assert located.seen(row) == seen
        assert located.origins[spread.origin][row] == seen.split.origin


@settings(deadline=None)
@given(st.lists(spreads, max_size=3), places)
def test_several_datasets_add_up_and_the_last_to_arrive_counts(several, where):
    fleet = _fleet(where)
    both = together([locate(spread, fleet) for spread in several], fleet)
    for row, (zone, rack) in enumerate(where):
        seen = [_seen(spread, f"n{row}", zone, rack) for spread in several]
        split = added([each.split for each in seen]) if seen else Split()
        arriving = max((each.arriving_seconds for each in seen), default=0.0)
        assert both.seen(row) == Seen(split, arriving)
        for origin in {spread.origin for spread in several}:
            wanted = sum(
                each.split.origin
                for each, spread in zip(seen, several, strict=True)
                if spread.origin == origin
            )
            assert both.origins[origin][row] == wanted


@given(splits)
def test_a_split_adds_up_to_all_and_tells_what_is_local(split):
    assert split.total == sum(split)
    peers = split.peer_rack + split.peer_zone + split.peer_remote
    assert split.local == split.total - split.arriving - peers - split.origin


def test_what_nobody_holds_comes_from_the_origin_everywhere():
    located = locate(nowhere(7.0, "o"), _fleet([("a", "r1"), ("b", "")]))
    assert located.kinds.tolist() == [[0.0, 0.0]] * (len(KINDS) - 1) + [[7.0, 7.0]]


def test_a_node_that_joins_after_the_spread_was_made_sees_it_too():
    spread = Spread(
        total=5.0, zones={"a": Seen(Split(peer_zone=5.0))}, elsewhere=Seen(Split(origin=5.0))
    )
    fleet = _fleet([("b", "")])
    fleet.put(Node(name="late", zone="a"), now=1.0)
    assert locate(spread, fleet).kinds[KINDS.index("peer_zone")].tolist() == [0.0, 5.0]
    assert np.isfinite(locate(spread, fleet).arriving).all()
