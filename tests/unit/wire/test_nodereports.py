"""What workers say of their nodes, over the wire and from workers of other versions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.blocks import FileVersionId
from cachefs.core.hints.nodes import Gpu
from cachefs.wire.nodereports import (
    AWAITED_LIMIT,
    Awaited,
    NodeReport,
    TrafficReport,
    read_node,
    read_traffic,
)

FILE = FileVersionId("f" * 40)
NODE = NodeReport(
    name="gpu-7",
    rack="r1",
    region="eu",
    labels={"pool": "training"},
    cpus=96,
    memory_bytes=1 << 40,
    memory_free_bytes=1 << 39,
    gpus=(
        Gpu(index=0, model="H100", memory_bytes=80, numa=1, island=2, used=0.25),
        Gpu(
            index=1,
            model="A100",
            memory_bytes=40,
            mig=("1g.5gb",),
            mig_used=("2g.10gb",),
            partitioned=True,
            used=0.5,
            memory_free_bytes=20,
        ),
    ),
    numa_nodes=2,
    nic_bytes_rate=1e9,
    disk_bytes_rate=3e9,
    memory_numa=0,
)
TRAFFIC = TrafficReport(
    from_workers={"w2": 3},
    from_origins={"team/model": 5},
    sending=7,
    from_disk=2,
    queued_bytes=10**12,
    queued_reads_bytes=4096,
    awaited=(Awaited(FILE, 0b1011, 2.5),),
)


def over_the_wire(report, key):
    return json.loads(json.dumps({key: report.to_document()}))


def test_a_node_is_read_as_it_was_said():
    assert read_node(over_the_wire(NODE, "node")) == NODE


def test_traffic_is_read_as_it_was_said():
    assert read_traffic(over_the_wire(TRAFFIC, "traffic")) == TRAFFIC


def test_what_nobody_knows_is_not_said():
    assert NodeReport(name="n").to_document() == {"name": "n", "numa_nodes": 1}
    assert TrafficReport().to_document() == {}


def test_an_accelerator_without_slices_is_not_taken_for_one_without_free_slices():
    whole, cut = read_node(over_the_wire(NODE, "node")).gpus
    assert (whole.partitioned, cut.partitioned) == (False, True)


@pytest.mark.parametrize("statistics", [{}, {"node": None}, {"node": 7}, {"node": {"rack": "r"}}])
def test_a_worker_that_says_nothing_of_its_node_is_no_report(statistics):
    assert read_node(statistics) is None
    assert read_traffic(statistics) == TrafficReport()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(sorted(NodeReport.__dataclass_fields__)), JSON),
    st.dictionaries(st.sampled_from(sorted(TrafficReport.__dataclass_fields__)), JSON),
)
def test_whatever_a_worker_of_another_version_says_is_read_or_ignored(node, traffic):
    read_node({"node": {**node, "name": "n"}})
    read_traffic({"traffic": traffic})


def test_a_report_has_a_limit_whatever_is_awaited():
    many = tuple(Awaited(FILE, 1, 0.0) for _ in range(2 * AWAITED_LIMIT))
    assert len(TrafficReport(awaited=many).to_document()["awaited"]) == AWAITED_LIMIT
    wide = tuple(Awaited(FILE, 1 << 400_000, 0.0) for _ in range(3))
    assert TrafficReport(awaited=wide).to_document() == {}
