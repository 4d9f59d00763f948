"""The columns of all nodes are those of each node alone, whatever has changed meanwhile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.core.hints.asking import GANG_LIMIT, WantedGpu
from cachefs.core.hints.fitting import Taken, fit, needed, places, release, slot_seconds, wants_none
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import NEVER, Gpu, Node
from cachefs.core.hints.slots import Slots
from tests.unit.core.hints.strategies import nodes, promises, wants

NOW = 100.0
NAMES = ("n0", "n1", "n2")


def _check(fleet: Fleet, slots: Slots, wanted: WantedGpu, taken: dict, now: float) -> None:
    """Hold every row to what the plain functions say of its node."""
    found = slots.openings(wanted, now=now, taken=taken)
    assert len(found.slots) == len(fleet)
    for row, name in enumerate(fleet.names):
        node, promised = fleet.node(name), taken.get(name, ())
        alone = 0 if node is None else fit(node, wanted, taken=promised).slots
        assert found.slots[row] == alone, name
        if node is None or not node.schedulable or wants_none(wanted):
            assert found.seconds[row] == (0.0 if alone else NEVER)
            continue
        offered = places(node, wanted, promised)
        seconds = slot_seconds(offered, wanted, now=now)
        assert np.isclose(found.seconds[row], seconds) or found.seconds[row] == seconds, name
        rows = np.array([row])
        for after in (0.0, 20.0, 100.0):
            ready = sum(
                each.now + each.later * (release(each.moment, now) - now <= after)
                for each in offered
            )
            assert found.members_by(np.array([after]), rows)[0] == ready // needed(wanted)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_columns_follow_every_change_of_nodes_and_promises(data):
    fleet = Fleet()
    slots = Slots(fleet)
    kinds = data.draw(st.lists(wants, min_size=1, max_size=2))
    for step in range(data.draw(st.integers(1, 4))):
        for name in data.draw(st.lists(st.sampled_from(NAMES), max_size=3)):
            if data.draw(st.integers(0, 4)) == 0:
                fleet.remove(name)
            else:
                fleet.put(data.draw(nodes(name, most=3 + step)), now=NOW)
        taken = data.draw(st.dictionaries(st.sampled_from(NAMES), promises, max_size=2))
        for wanted in kinds:
            _check(fleet, slots, wanted, taken, NOW + 7 * step)


def test_only_what_has_changed_is_done_again():
    fleet = Fleet()
    for name in NAMES:
        fleet.put(Node(name=name, gpus=(Gpu(index=0),)), now=NOW)
    slots = Slots(fleet)
    wanted = WantedGpu()
    slots.openings(wanted, now=NOW)
    kept = slots._kept[wanted]
    kept._now[:] = 9
    fleet.put(Node(name="n1", gpus=(Gpu(index=0, used=1.0),)), now=NOW)
    assert slots.openings(wanted, now=NOW).slots.tolist() == [9, 0, 9]


def test_members_are_counted_by_island():
    fleet = Fleet()
    gpus = tuple(Gpu(index=at, island=7 * (at % 2), used=float(at == 0)) for at in range(4))
    fleet.put(Node(name="n0", gpus=gpus), now=NOW)
    fleet.put(Node(name="n1", gpus=(Gpu(index=0),)), now=NOW)
    found = Slots(fleet).openings(WantedGpu(), now=NOW)
    both = found.members_by_island(np.zeros(2), np.array([0, 1]))
    assert both.tolist() == [[1, 2], [1, 0]]


def test_a_gang_without_accelerators_may_start_wherever_work_may_go():
    fleet = Fleet()
    fleet.put(Node(name="n0"), now=NOW)
    fleet.put(Node(name="n1", schedulable=False), now=NOW)
    assert Slots(fleet).openings(None, now=NOW).slots.tolist() == [GANG_LIMIT, 0]


def test_kinds_that_are_no_longer_asked_for_are_forgotten():
    fleet = Fleet()
    fleet.put(Node(name="n0", gpus=(Gpu(index=0),)), now=NOW)
    slots = Slots(fleet)
    for count in range(1, 100):
        slots.openings(WantedGpu(count=count), now=NOW)
    assert len(slots._kept) == 64
    assert WantedGpu(count=99) in slots._kept


def test_a_broken_accelerator_is_broken_further_before_a_whole_one():
    fleet = Fleet()
    fleet.put(Node(name="n0", gpus=(Gpu(index=0), Gpu(index=1))), now=NOW)
    fleet.put(Node(name="n1", gpus=(Gpu(index=0, used=0.5), Gpu(index=1, used=1.0))), now=NOW)
    growth = Slots(fleet).openings(WantedGpu(fraction=0.5), now=NOW).growth
    assert growth[1] < growth[0]


def test_eight_that_are_whole_are_kept_for_those_who_want_eight():
    fleet = Fleet()
    fleet.put(Node(name="n0", gpus=tuple(Gpu(index=at) for at in range(8))), now=NOW)
    gpus = tuple(Gpu(index=at, used=float(at > 0)) for at in range(8))
    fleet.put(Node(name="n1", gpus=gpus), now=NOW)
    growth = Slots(fleet).openings(WantedGpu(), now=NOW).growth
    assert growth[1] < growth[0]


@given(st.lists(nodes(most=3), max_size=3), wants, promises)
def test_a_promise_on_one_node_leaves_the_others_alone(made, wanted, taken):
    fleet = Fleet()
    for at, node in enumerate(made):
        fleet.put(Node(name=f"n{at}", gpus=node.gpus, schedulable=node.schedulable), now=NOW)
    slots = Slots(fleet)
    before = slots.openings(wanted, now=NOW).seconds[1:].tolist()
    held = {"n0": (*taken, Taken(wanted, 1, NEVER))}
    assert slots.openings(wanted, now=NOW, taken=held).seconds[1:].tolist() == before
    assert slots.openings(wanted, now=NOW).seconds[1:].tolist() == before
