"""What every source of nodes must do, held against the file of nodes and the one in memory."""

import json
import os

import pytest

from cachefs.hints.inventory.facts import Facts
from cachefs.hints.inventory.nodesfile import NodesFile
from cachefs.testing.memory.nodes import MemoryNodes


class FileWorld:
    """A file, as an operator writes it."""

    def __init__(self, folder):
        self._path = folder / "nodes.yaml"
        self._nodes = {}
        self._writes = 0
        self._write()
        self.source = NodesFile(self._path)

    def put(self, name, rack):
        self._nodes[name] = {"rack": rack}
        self._write()

    def remove(self, name):
        del self._nodes[name]
        self._write()

    def fail(self):
        self._path.rename(self._path.with_suffix(".away"))

    def mend(self):
        self._path.with_suffix(".away").rename(self._path)

    def _write(self):
        self._path.write_text(json.dumps({"nodes": self._nodes}))
        # Two changes within a tick of the clock have different times all the same.
        self._writes += 1
        os.utime(self._path, (self._writes, self._writes))


class MemoryWorld:
    """The source that tests use."""

    def __init__(self, _folder):
        self.source = MemoryNodes()

    def put(self, name, rack):
        self.source.put(Facts(name=name, rack=rack))

    def remove(self, name):
        self.source.remove(name)

    def fail(self):
        self.source.fail("it cannot be reached")

    def mend(self):
        self.source.fail("")


@pytest.fixture(params=[FileWorld, MemoryWorld])
def world(request, tmp_path):
    made = request.param(tmp_path)
    yield made
    made.source.close()


def test_nodes_are_listed_by_name(world):
    world.put("n1", "r1")
    world.put("n2", "r2")
    nodes = world.source.look().nodes
    assert {name: node.rack for name, node in nodes.items()} == {"n1": "r1", "n2": "r2"}
    assert [node.name for node in nodes.values()] == list(nodes)


def test_a_look_sees_what_has_changed(world):
    world.put("n1", "r1")
    world.source.look()
    world.put("n1", "r2")
    assert world.source.look().nodes["n1"].rack == "r2"
    world.remove("n1")
    assert world.source.look().nodes == {}


def test_as_long_as_nothing_has_changed_it_is_the_same_object(world):
    world.put("n1", "r1")
    first = world.source.look()
    assert world.source.look() is first


def test_an_earlier_listing_does_not_change(world):
    world.put("n1", "r1")
    first = world.source.look()
    world.remove("n1")
    world.source.look()
    assert set(first.nodes) == {"n1"}


def test_what_cannot_be_read_now_is_answered_with_what_was_read_last_and_why(world):
    world.put("n1", "r1")
    assert world.source.look().problem == ""
    world.fail()
    listing = world.source.look()
    assert set(listing.nodes) == {"n1"}
    assert listing.problem
    assert world.source.look() is listing


def test_once_it_can_be_read_again_nothing_is_wrong_any_more(world):
    world.put("n1", "r1")
    world.fail()
    world.source.look()
    world.mend()
    assert world.source.look().problem == ""
    assert set(world.source.look().nodes) == {"n1"}


def test_it_may_be_closed_twice(world):
    world.source.close()
    world.source.close()


def test_a_file_that_makes_no_sense_holds_up_nothing_and_says_where(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text("nodes:\n  n1: {rack: r1}\n")
    source = NodesFile(path)
    source.look()
    path.write_text("nodes:\n  n1: {rack: r2}\n  n2: {rak: r2}\n")
    os.utime(path, (1, 1))
    listing = source.look()
    assert listing.nodes["n1"].rack == "r1"
    assert listing.problem == (
        f"the file of nodes: {path}:3: unknown key 'rak' (did you mean rack?)"
    )
    assert source.look() is listing
    path.write_text("nodes:\n  n1: {rack: r3}\n")
    os.utime(path, (2, 2))
    assert source.look().nodes["n1"].rack == "r3"
    assert source.look().problem == ""


def test_a_file_that_was_never_there_is_a_problem_and_no_nodes(tmp_path):
    listing = NodesFile(tmp_path / "missing").look()
    assert listing.nodes == {}
    assert "no such file" in listing.problem


def test_a_file_that_is_no_text_is_a_problem(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not text" in NodesFile(path).look().problem
