"""How fast peers send: each its part, until the slowest has sent its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.hints.estimate import Links, estimate, locate
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import Node, Rates
from cachefs.core.hints.spread import Seen, Split, Spread

MB = 1e6


def _seconds_from_peers(
    held: list[float], cards: list[float], efficiency: float = 1.0
) -> list[float]:
    """Spread a dataset over nodes, each with a part of its own, and ask a further node, too."""
    fleet, total = Fleet(), sum(held)
    for at, card in enumerate([*cards, 1e12]):
        fleet.put(Node(name=f"n{at}", rates=Rates(nic=card)), now=0.0)
    nodes = {
        f"n{at}": Seen(Split(nvme=part, peer_zone=total - part)) for at, part in enumerate(held)
    }
    spread = Spread(total=total, nodes=nodes, elsewhere=Seen(Split(peer_zone=total)))
    located = locate(spread, fleet)
    links = Links(peers=efficiency)
    found = estimate(fleet, located, links, slot=np.zeros(len(fleet)))
    return [float(each) for each in found.parts["peers"]]


def test_the_slowest_of_the_others_is_waited_for() -> None:
    seconds = _seconds_from_peers([100 * MB, 100 * MB, 100 * MB], [125 * MB, 50 * MB, 25 * MB])
    assert seconds == pytest.approx([4.0, 4.0, 2.0, 4.0])


def test_one_that_holds_nothing_slows_nobody_down() -> None:
    assert _seconds_from_peers([100 * MB, 0.0], [100 * MB, 1.0])[2] == pytest.approx(1.0)


def test_what_was_learned_of_peers_counts() -> None:
    assert _seconds_from_peers([100 * MB], [100 * MB], efficiency=0.5)[1] == pytest.approx(2.0)


def test_several_copies_share_the_sending() -> None:
    fleet = Fleet()
    for at in range(5):
        fleet.put(Node(name=f"n{at}", rates=Rates(nic=100 * MB)), now=0.0)
    nodes = {f"n{at}": Seen(Split(nvme=400 * MB)) for at in range(4)}
    spread = Spread(total=400 * MB, nodes=nodes, elsewhere=Seen(Split(peer_zone=400 * MB)))
    found = estimate(fleet, locate(spread, fleet), Links(), slot=np.zeros(5))
    assert found.parts["peers"][4] == pytest.approx(1.0)


def test_bytes_that_peers_only_await_come_as_fast_as_the_average_sends() -> None:
    fleet = Fleet()
    for at in range(2):
        fleet.put(Node(name=f"n{at}", rates=Rates(nic=100 * MB)), now=0.0)
    nodes = {"n0": Seen(Split(arriving=300 * MB), 1.0)}
    spread = Spread(total=300 * MB, nodes=nodes, elsewhere=Seen(Split(peer_zone=300 * MB), 1.0))
    found = estimate(fleet, locate(spread, fleet), Links(), slot=np.zeros(2))
    assert found.parts["peers"][1] == pytest.approx(3.0)


parts = st.floats(1.0, 1e12)


@given(st.lists(st.tuples(parts, parts), min_size=2, max_size=6))
def test_whoever_asks_waits_for_the_longest_of_the_others_parts(
    pairs: list[tuple[float, float]],
) -> None:
    held, cards = [one for one, _ in pairs], [one for _, one in pairs]
    found = _seconds_from_peers(held, cards)
    for at in range(len(pairs)):
        others = [held[each] / cards[each] for each in range(len(pairs)) if each != at]
        assert found[at] == pytest.approx(max(others), rel=1e-2)
