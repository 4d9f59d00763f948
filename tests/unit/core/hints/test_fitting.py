"""Whether a node can take a member, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.fitting import Taken, fit, places, release, slot_seconds
from cachefs.core.hints.nodes import GIB, NEVER, Gpu, Node
from tests.unit.core.hints.strategies import nodes, promises, wants

NOW = 100.0


def _node(*gpus: Gpu, schedulable: bool = True) -> Node:
    return Node(name="n1", gpus=gpus, schedulable=schedulable)


def _cards(count: int, **others: object) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(index=at, model="NVIDIA H100", numa=at // 2, **others)  # type: ignore[arg-type]
        for at in range(count)
    )


def _wait(node: Node, wanted: WantedGpu, *taken: Taken, members: int = 1) -> float:
    return slot_seconds(places(node, wanted, taken), wanted, members=members, now=NOW)


def test_a_release_that_is_to_come_is_believed():
    assert release(103.0, NOW) == 103.0


def test_what_is_overdue_runs_on_for_as_long_as_it_is_late_and_fifteen_seconds():
    assert release(60.0, NOW) == NOW + 15 + 40
    assert release(NOW, NOW) == NOW + 15


def test_as_many_members_fit_as_whole_accelerators_allow():
    assert fit(_node(*_cards(8)), WantedGpu(count=3)).slots == 2


def test_a_busy_accelerator_is_waited_for():
    node = _node(Gpu(index=0, used=1.0, free_at=112.0), Gpu(index=1, used=1.0, free_at=130.0))
    assert _wait(node, WantedGpu()) == 12.0
    assert _wait(node, WantedGpu(count=2)) == 30.0
    assert _wait(node, WantedGpu(count=3)) == NEVER


def test_an_accelerator_that_nobody_knows_the_end_of_is_never_free():
    assert _wait(_node(Gpu(index=0, used=1.0)), WantedGpu()) == NEVER


def test_fractions_share_an_accelerator_up_to_its_memory():
    card = Gpu(index=0, used=0.4, memory_free_bytes=50 * GIB)
    assert fit(_node(card), WantedGpu(fraction=0.2)).slots == 3
    assert fit(_node(card), WantedGpu(fraction=0.2, memory_gib=20)).slots == 2
    assert fit(_node(card), WantedGpu(fraction=0.7)).slots == 0


def test_what_is_sold_as_80_gib_is_enough_for_80_gib():
    assert fit(_node(Gpu(index=0, memory_bytes=81559 << 20)), WantedGpu(memory_gib=80)).slots == 1
    assert fit(_node(Gpu(index=0, memory_bytes=40 * GIB)), WantedGpu(memory_gib=80)).slots == 0


def test_a_slice_is_counted_by_its_profile_and_a_cut_accelerator_is_never_given_whole():
    node = _node(Gpu(index=0, partitioned=True, mig=("1g.10gb", "1g.10gb", "3g.40gb")))
    assert fit(node, WantedGpu(mig_profile="1G.10GB")).slots == 2
    assert fit(node, WantedGpu(mig_profile="7g.80gb")).slots == 0
    assert fit(node, WantedGpu()).slots == 0


def test_a_slice_in_use_is_waited_for():
    card = Gpu(index=0, partitioned=True, mig_used=("1g.10gb",), free_at=120.0)
    assert _wait(_node(card), WantedGpu(mig_profile="1g.10gb")) == 20.0


def test_a_member_without_accelerators_fits_wherever_work_may_go():
    assert fit(_node(), None).slots > 1000
    assert fit(_node(), WantedGpu(count=0)).slots > 1000
    assert fit(_node(schedulable=False), None).slots == 0


def test_the_numa_node_is_that_of_all_accelerators_taken_or_none():
    node = _node(*_cards(4))
    assert fit(node, WantedGpu(count=2)).numa == 0
    assert fit(node, WantedGpu(count=3)).numa is None


@pytest.mark.parametrize(
    ("node", "wanted", "reason"),
    [
        (_node(), WantedGpu(), "it has no accelerators"),
        (_node(*_cards(1), schedulable=False), WantedGpu(), "it takes no new work"),
        (_node(*_cards(1)), WantedGpu(model="A100"), "NVIDIA H100, A100 is wanted"),
        (_node(*_cards(1)), WantedGpu(memory_gib=141), "have 80 GiB, 141 are wanted"),
        (_node(*_cards(2)), WantedGpu(count=4), "it has 2 accelerators, 4 are wanted"),
        (
            _node(*_cards(2, used=1.0)),
            WantedGpu(model="H100"),
            "0 of 2 H100 are free, 1 are wanted",
        ),
        (_node(*_cards(1, used=0.9)), WantedGpu(fraction=0.5), "the emptiest has 0.1"),
        (_node(*_cards(1)), WantedGpu(mig_profile="1g.10gb"), "it has no slice 1g.10gb"),
        (_node(Gpu(index=0, partitioned=True)), WantedGpu(), "cut into slices"),
        (
            _node(Gpu(index=0, partitioned=True, mig_used=("1g.10gb",))),
            WantedGpu(mig_profile="1g.10gb"),
            "no slice 1g.10gb is free",
        ),
    ],
)
def test_a_node_that_does_not_fit_says_why_to_a_person(node, wanted, reason):
    found = fit(node, wanted)
    assert found.slots == 0
    assert reason in found.reason


def test_what_is_kept_for_others_is_not_free():
    node = _node(*_cards(2))
    taken = Taken(WantedGpu(), 2, NEVER)
    assert fit(node, WantedGpu(), taken=[taken]).reason == "what is free is kept for other jobs"
    assert _wait(node, WantedGpu(), taken) == NEVER
    assert _wait(node, WantedGpu(), taken._replace(until=160.0)) == 60.0
    assert _wait(node, WantedGpu(), taken._replace(members=1)) == 0.0


def test_a_release_that_is_kept_for_another_is_not_ours():
    node = _node(Gpu(index=0, used=1.0, free_at=110.0), Gpu(index=1, used=1.0, free_at=140.0))
    assert _wait(node, WantedGpu(), Taken(WantedGpu(), 1, NEVER)) == 40.0
    assert _wait(node, WantedGpu(), Taken(WantedGpu(), 2, NEVER)) == NEVER


def test_a_fraction_is_kept_on_the_fullest_accelerator_that_has_room():
    node = _node(Gpu(index=0), Gpu(index=1, used=0.5, free_at=300.0))
    taken = Taken(WantedGpu(fraction=0.5), 1, NEVER)
    assert fit(node, WantedGpu(), taken=[taken]).slots == 1
    assert fit(node, WantedGpu(fraction=0.5), taken=[taken]).slots == 2


def test_a_slice_that_is_kept_leaves_the_others():
    node = _node(Gpu(index=0, partitioned=True, mig=("1g.10gb", "1g.10gb")))
    wanted = WantedGpu(mig_profile="1g.10gb")
    assert fit(node, wanted, taken=[Taken(wanted, 1, NEVER)]).slots == 1
    assert _wait(node, wanted, Taken(wanted, 2, 130.0)) == 30.0


@given(nodes(), wants, promises)
def test_a_promise_never_gives_others_more_or_sooner(node, wanted, taken):
    assert fit(node, wanted, taken=taken).slots <= fit(node, wanted).slots
    if wanted.fraction is None and wanted.mig_profile is None and wanted.count:
        assert _wait(node, wanted, *taken) >= _wait(node, wanted)


@given(nodes(), wants, st.integers(1, 3))
def test_more_members_never_start_sooner(node, wanted, members):
    if wanted.count:
        assert _wait(node, wanted, members=members + 1) >= _wait(node, wanted, members=members)


@given(nodes(), wants, promises)
def test_a_reason_is_given_exactly_when_there_is_no_slot(node, wanted, taken):
    found = fit(node, wanted, taken=taken)
    assert bool(found.reason) == (found.slots == 0)
