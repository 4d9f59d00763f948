"""A file of nodes: what it may say, and how it says that something is wrong."""

import textwrap

import pytest

from cachefs.core.hints.nodes import GIB
from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError
from cachefs.hints.inventory import nodesfile
from cachefs.hints.inventory.facts import Facts
from cachefs.hints.inventory.sources import Listing


def parse(text):
    return nodesfile.parse(textwrap.dedent(text), "nodes.yaml")


def test_the_example_in_the_modules_first_lines_is_right():
    example = nodesfile.__doc__.partition("::\n\n")[2].partition("\n\nIt is read")[0]
    listing = parse(example)
    assert len(listing.nodes) == 129
    node = listing.nodes["gpu-128"]
    assert (node.zone, node.rack, node.labels) == ("a", "r1", {"pool": "training"})
    assert node.rates == {"nic": 25e9 / 8}
    assert [(gpu.numa, gpu.island) for gpu in node.gpus] == [(0, 0)] * 4 + [(1, 0)] * 4
    assert {(gpu.model, gpu.memory_bytes) for gpu in node.gpus} == {("H100", 80 * GIB)}
    assert listing.nodes["login1"].schedulable is False
    assert listing.racks == {("a", "r1"): 50e9}
    assert listing.zones == {"a": 125e9}
    assert listing.origins == {"s3://models": 2.5e9}
    assert list(listing.fluid_datasets.values()) == [DatasetName("team", "llama")]


def test_an_empty_file_has_no_nodes():
    assert parse("") == Listing()
    assert parse("# nothing yet\n") == Listing()
    assert parse("nodes:\n") == Listing()


def test_a_node_of_which_nothing_is_said_has_the_defaults():
    listing = parse("defaults: {zone: a}\nnodes:\n  n1:\n")
    assert listing.nodes == {"n1": Facts(name="n1", zone="a")}


def test_what_a_node_says_adds_to_the_defaults_or_replaces_them():
    listing = parse("""
        defaults: {zone: a, nic: 1GB, disk: 2GB, labels: {a: "1", b: "1"}}
        nodes:
          n1: {zone: b, nic: 3GB, labels: {b: "2"}}
    """)
    node = listing.nodes["n1"]
    assert (node.zone, node.rates) == ("b", {"nic": 3e9, "disk": 2e9})
    assert node.labels == {"a": "1", "b": "2"}


def test_ranges_multiply():
    listing = parse("nodes:\n  r[1-2]-n[08-10]: {}\n")
    assert list(listing.nodes) == [f"r{rack}-n{node:02}" for rack in (1, 2) for node in (8, 9, 10)]


def test_accelerators_of_several_kinds_are_numbered_on():
    (node,) = parse("""
        nodes:
          n1:
            gpus:
              - {count: 2, model: A100, memory: 40GiB}
              - {model: A100, mig: [1g.5gb, 2g.10gb]}
    """).nodes.values()
    assert [gpu.index for gpu in node.gpus] == [0, 1, 2]
    assert [gpu.partitioned for gpu in node.gpus] == [False, False, True]
    assert node.gpus[2].mig == ("1g.5gb", "2g.10gb")
    assert len({gpu.island for gpu in node.gpus}) == 3


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("nodes:\n  n1: {rack: r1\n", 3, "not YAML"),
        ("nodes:\n  n1:\n    rak: r1\n", 3, "unknown key 'rak' .did you mean rack"),
        ("nods: {}\n", 1, "unknown key 'nods'"),
        ("nodes:\n  n1: {}\n  n1: {}\n", 3, "the node 'n1' is there twice"),
        ("nodes:\n  n1: {}\n  n[1-2]: {}\n", 3, "the node 'n1' is there twice"),
        ("nodes:\n  n[2-1]: {}\n", 2, "not a range: .2-1"),
        ("nodes:\n  n[0-999999]: {}\n", 2, "not a range"),
        ("nodes:\n  n1:\n    nic: fast\n", 3, "not a rate: 'fast'"),
        ("nodes:\n  n1: {nic: 0}\n", 2, "a rate of nothing"),
        ("nodes:\n  n1: {zone: a, zone: b}\n", 2, "'zone' is there twice"),
        ("nodes:\n  - n1\n", 2, "this must be a mapping"),
        ("nodes:\n  n1: {rack: [r1]}\n", 2, "this must be a single value"),
        ("nodes:\n  n1: {images: pytorch}\n", 2, "this must be a list"),
        ("nodes:\n  n1: {schedulable: maybe}\n", 2, "must be true or false, not 'maybe'"),
        ("nodes:\n  n1:\n    gpus: {count: many}\n", 3, "not a whole number: 'many'"),
        ("nodes:\n  n1:\n    gpus: {count: 5000}\n", 3, "more than 1024 accelerators"),
        ("nodes:\n  n1: {labels: {a: {b: c}}}\n", 2, "this must be a single value"),
        ("uplinks:\n  racks:\n    a/r1: 1 parsec\n", 3, "not a rate"),
        ("uplinks: {zones: {a: 0}}\n", 1, "a rate of nothing"),
        ("fluid_datasets:\n  abc: UPPER\n", 2, "dataset"),
        ("[a]: 1\n", 1, "this must be a name"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, line, message):
    with pytest.raises(ConfigError, match=message) as caught:
        nodesfile.parse(text, "nodes.yaml")
    assert caught.value.subject == f"nodes.yaml:{line}"


def test_aliases_are_refused_before_they_can_grow():
    with pytest.raises(ConfigError, match="aliases"):
        parse("nodes:\n  n1: &a {rack: r1}\n  n2: *a\n")
