"""The fleet as a table holds the nodes that were put, and nothing else."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import Gpu, Node, Rates

names = st.sampled_from([f"n{at}" for at in range(5)])


class Table(RuleBasedStateMachine):
    """The fleet against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.nodes: dict[str, Node] = {}
        self.seen: dict[str, float] = {}
        self.known: dict[str, int] = {}
        self.changed: set[str] = set()
        self.revision = 0

    @rule(
        name=names,
        place=st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "r1"])),
        nic=st.sampled_from([1.0, 2.0]),
        schedulable=st.booleans(),
        now=st.floats(0, 100),
    )
    def put(self, name, place, nic, schedulable, now):
        zone, rack = place
        rates = Rates(nic=nic)
        node = Node(name=name, rack=rack, zone=zone, rates=rates, schedulable=schedulable)
        if self.nodes.get(name) != node:
            self.changed.add(name)
        self.nodes[name] = node
        self.seen[name] = now
        self.fleet.put(node, now=now)
        self.known.setdefault(name, self.fleet.row(name))

    @rule(name=names)
    def remove(self, name):
        if self.nodes.pop(name, None) is not None:
            self.changed.add(name)
        self.fleet.remove(name)

    @rule(name=names, now=st.floats(0, 100))
    def hear(self, name, now):
        self.fleet.heard(name, now=now)
        if name in self.known:
            self.seen[name] = now

    @rule()
    def follow(self):
        rows = self.fleet.changed_since(self.revision)
        assert {self.fleet.names[row] for row in rows} == self.changed
        self.revision, self.changed = self.fleet.revision, set()

    @invariant()
    def every_column_says_what_the_node_says(self):
        fleet = self.fleet
        assert len(fleet) == len(self.known)
        for name, row in self.known.items():
            assert fleet.row(name) == row
            assert fleet.column("heard_at")[row] == self.seen[name]
            node = self.nodes.get(name)
            assert fleet.node(name) == node
            assert fleet.column("alive")[row] == (node is not None)
            if node is not None:
                assert fleet.at(row) == node
                assert fleet.column("schedulable")[row] == node.schedulable
                assert fleet.column("nic")[row] == node.rates.nic
                assert fleet.column("zone")[row] == fleet.zones[node.zone]
                assert fleet.column("rack")[row] == fleet.racks[node.zone, node.rack]

    @invariant()
    def names_that_are_not_there_have_no_row(self):
        rows = self.fleet.rows(["n0", "nobody", "n3"])
        assert [self.fleet.names[row] for row in rows] == [
            name for name in ("n0", "n3") if name in self.nodes
        ]

    @invariant()
    def rows_are_ordered_by_name(self):
        order = np.argsort(self.fleet.by_name)
        assert [self.fleet.names[row] for row in order] == sorted(self.known)


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_a_fleet_grows_beyond_its_first_rows_and_keeps_what_was_written():
    fleet = Fleet()
    for at in range(200):
        fleet.put(Node(name=f"n{at}"), now=0.0)
        fleet.column("streams_in")[at] = at
    assert fleet.column("streams_in").tolist() == list(range(200))
    assert fleet.column("efficiency_nic").tolist() == [1.0] * 200


def test_what_is_written_into_a_column_stays_when_the_node_is_put_again():
    fleet = Fleet()
    fleet.put(Node(name="n1"), now=0.0)
    fleet.column("streams_in")[0] = 3.0
    fleet.put(Node(name="n1", gpus=(Gpu(index=0),)), now=1.0)
    assert fleet.column("streams_in")[0] == 3.0


def test_a_node_that_returns_as_it_was_has_changed():
    fleet = Fleet()
    fleet.put(Node(name="n1"), now=0.0)
    fleet.remove("n1")
    revision = fleet.revision
    fleet.put(Node(name="n1"), now=1.0)
    assert fleet.changed_since(revision).tolist() == [0]


def test_a_column_that_there_is_not_is_a_mistake():
    with pytest.raises(KeyError):
        Fleet().column("colour")
