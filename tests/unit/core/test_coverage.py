"""How much of some files is resident, and how often its rarest block."""

from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.blocks import FileVersionId
from cachefs.core.coverage import cover
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId

BLOCK = 100


def member(name, zone="", *, pool="default", draining=False):
    return Member(
        worker=WorkerId(name), incarnation="1", node="n", zone=zone, pool=pool, weight=1.0,
        data_address="", control_address="", socket_path="", draining=draining,
    )  # fmt: skip


def covered(held, members, size=250):
    file = FileVersionId("f")
    return cover({file: size}, {file: held}, members, pool="default", block_size=BLOCK)


def test_a_block_counts_once_in_its_zone_and_tier_however_many_hold_it():
    members = [member("a1", "a"), member("a2", "a"), member("b1", "b")]
    found = covered(
        {("a1", "disk"): 0b011, ("a2", "disk"): 0b001, ("a2", "memory"): 0b001, ("b1", "disk"): 4},
        members,
    )
    assert (found.bytes_total, found.bytes_resident) == (250, 250)
    assert found.bytes_by_zone == {"a": 200, "b": 50}
    assert found.bytes_by_tier == {"disk": 250, "memory": 100}
    assert (found.copies, found.copies_by_zone) == (1, {"a": 0, "b": 0})


def test_who_leaves_or_is_of_another_pool_gives_no_copies():
    members = [member("a"), member("b", draining=True), member("c", pool="other")]
    found = covered({(name, "disk"): 0b111 for name in "abc"}, members)
    assert (found.copies, found.bytes_resident) == (1, 250)


def test_of_no_block_there_are_no_copies():
    assert covered({}, [member("a")], size=0).copies == 0


def test_an_empty_file_beside_others_does_not_make_them_rare():
    sizes = {FileVersionId("f"): 100, FileVersionId("empty"): 0}
    held = {FileVersionId("f"): {(WorkerId("a"), "disk"): 1}}
    found = cover(sizes, held, [member("a")], pool="default", block_size=BLOCK)
    assert found.copies == 1


@given(st.lists(st.integers(0, 31), max_size=6))
def test_the_rarest_block_is_found_as_by_counting(masks):
    members = [member(f"w{at}") for at in range(len(masks))]
    held = {(WorkerId(f"w{at}"), "disk"): mask for at, mask in enumerate(masks)}
    found = covered(held, members, size=500)
    assert found.copies == min(sum(mask >> index & 1 for mask in masks) for index in range(5))
