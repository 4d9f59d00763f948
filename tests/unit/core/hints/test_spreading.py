"""Spreading: what each node sees of a dataset, against a loop over single blocks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.core.blocks import block_count, block_range
from cachefs.core.hints.nodes import NEVER
from cachefs.core.hints.spread import Seen, Split, Spread, nowhere
from cachefs.core.hints.spreading import (
    AWAITED,
    DISK,
    MEMORY,
    Copy,
    Place,
    Tally,
    credited,
    parts_of,
    spread,
)
from cachefs.core.names import WorkerId

BLOCK = 100
WORKERS = [WorkerId(f"w{number}") for number in range(6)]
RANKS = ("dram", "dram_far", "nvme", "arriving", "peer_rack", "peer_zone", "peer_remote", "origin")


def tally_of(files: dict[str, tuple[int, list[Copy]]]) -> Tally:
    tally = Tally(sum(size for size, _ in files.values()))
    for size, copies in files.values():
        tally.add(parts_of(size, BLOCK, copies))
    return tally


def seen_by(viewer: Place, files, places, seconds) -> Seen:
    """What a node sees, block by block: the definition."""
    sums = dict.fromkeys(RANKS, 0)
    late = 0.0
    for size, copies in files.values():
        for index in range(block_count(size, BLOCK)):
            best = ("origin", 0.0)
            for worker, how, mask in copies:
                if not mask >> index & 1 or worker not in places:
                    continue
                kind, wait = as_seen(viewer, places[worker], how, seconds.get(worker, NEVER))
                nearer = RANKS.index(kind) < RANKS.index(best[0])
                if nearer or (kind == best[0] and wait < best[1]):
                    best = (kind, wait)
            sums[best[0]] += block_range(index, size, BLOCK).length
            late = max(late, best[1])
    return Seen(Split(gpu=0, **sums), late)


def as_seen(viewer: Place, place: Place, how, wait):
    if place.node == viewer.node:
        if how == AWAITED:
            return "arriving", wait
        return {DISK: "nvme", MEMORY: "dram_far" if place.is_far else "dram"}[how], 0.0
    wait = wait if how == AWAITED else 0.0
    if viewer.rack and (place.zone, place.rack) == (viewer.zone, viewer.rack):
        return "peer_rack", wait
    return ("peer_zone" if place.zone == viewer.zone else "peer_remote"), wait


def sees(found: Spread, node, rack, zone) -> Seen:
    """What the spread says of a node, as `locate` reads it."""
    nearer = found.nodes.get(node) or (found.racks.get((zone, rack)) if rack else None)
    return nearer or found.zones.get(zone) or found.elsewhere


@st.composite
def worlds(draw):
    nodes = {
        f"n{number}": (
            draw(st.sampled_from(["", "r1", "r2"])),
            draw(st.sampled_from(["", "a", "b"])),
        )
        for number in range(draw(st.integers(1, 5)))
    }
    places = {}
    for worker in WORKERS[: draw(st.integers(0, 6))]:
        node = draw(st.sampled_from(sorted(nodes)))
        places[worker] = Place(node, *nodes[node], is_far=draw(st.booleans()))
    seconds = {worker: draw(st.floats(0, 100)) for worker in WORKERS if draw(st.integers(0, 9))}
    files = {}
    for number in range(draw(st.integers(0, 4))):
        size = draw(st.integers(0, 12 * BLOCK))
        blocks = block_count(size, BLOCK)
        copies = draw(
            st.dictionaries(
                st.tuples(st.sampled_from(WORKERS), st.sampled_from([MEMORY, DISK, AWAITED])),
                st.integers(0, 2**blocks - 1),
                max_size=8,
            )
        )
        files[f"f{number}"] = size, [Copy(*who, mask) for who, mask in copies.items()]
    return nodes, places, seconds, files


@pytest.mark.slow
@given(worlds())
@settings(max_examples=150, deadline=None)
def test_every_node_sees_what_a_loop_over_single_blocks_finds(world):
    nodes, places, seconds, files = world
    found = spread(tally_of(files), places, origin="s3", seconds=seconds)
    others = {
        "x1": ("r1", "a"),
        "x2": ("", "b"),
        "x3": ("r9", "b"),
        "x4": ("r1", "z"),
        "x5": ("", ""),
    }
    for node, (rack, zone) in {**nodes, **others}.items():
        assert sees(found, node, rack, zone) == seen_by(
            Place(node, rack, zone), files, places, seconds
        )
    assert found.origin == "s3"


@given(worlds())
@settings(max_examples=50, deadline=None)
def test_every_split_adds_up_to_all_there_is(world):
    _, places, seconds, files = world
    total = sum(size for size, _ in files.values())
    found = spread(tally_of(files), places, seconds=seconds)
    each = [*found.nodes.values(), *found.racks.values(), *found.zones.values(), found.elsewhere]
    assert [seen.split.total for seen in each] == [total] * len(each)
    assert found.total == total


@given(worlds(), worlds())
@settings(max_examples=50, deadline=None)
def test_a_tally_that_changed_file_by_file_is_that_of_the_last_state(before, after):
    first, last = before[3], after[3]
    tally = tally_of(first)
    for size, copies in first.values():
        tally.remove(parts_of(size, BLOCK, copies))
    assert tally.sizes == {}
    for size, copies in last.values():
        tally.add(parts_of(size, BLOCK, copies))
    assert tally.sizes == tally_of(last).sizes


def test_portions_of_a_large_table_add_up(monkeypatch):
    files = {
        f"f{number}": (BLOCK, [Copy(worker, DISK, 1) for worker in chosen])
        for number, chosen in enumerate([WORKERS[:1], WORKERS[1:3], WORKERS[2:], WORKERS[:5]])
    }
    places = {worker: Place(worker, "r", "z") for worker in WORKERS}
    whole = spread(tally_of(files), places)
    monkeypatch.setattr("cachefs.core.hints.spreading._CELLS_MAX", 1)
    assert spread(tally_of(files), places) == whole


def test_what_a_worker_holds_it_does_not_await():
    parts = parts_of(250, BLOCK, [Copy(WORKERS[0], DISK, 0b011), Copy(WORKERS[0], AWAITED, 0b110)])
    assert parts == {((WORKERS[0], DISK),): 200, ((WORKERS[0], AWAITED),): 50}


def test_bytes_of_a_mask_beyond_the_file_do_not_count():
    assert parts_of(150, BLOCK, [Copy(WORKERS[0], DISK, 0b1111)]) == {((WORKERS[0], DISK),): 150}


def test_without_anybody_all_is_at_the_origin():
    assert spread(Tally(70), {}, origin="hub") == nowhere(70, "hub")


@pytest.mark.parametrize(
    ("dram", "nvme", "expected"),
    [
        (0, 0, (0, 40, 10, 50)),
        (0, 30, (0, 40, 10, 50)),
        (0, 70, (0, 70, 5, 25)),
        (20, 50, (20, 50, 5, 25)),
        (500, 500, (500 / 960 * 60, 40 + 460 / 960 * 60, 0, 0)),
    ],
)
def test_what_is_only_assigned_counts_as_far_as_no_more_is_known(dram, nvme, expected):
    known = Spread(
        total=100,
        nodes={"n1": Seen(Split(nvme=40, peer_zone=10, origin=50))},
        zones={"a": Seen(Split(peer_zone=50, origin=50))},
    )
    split = credited(known, "n1", ("a", ""), dram=dram, nvme=nvme).nodes["n1"].split
    assert (split.dram, split.nvme, split.peer_zone, split.origin) == pytest.approx(expected)
    assert split.total == pytest.approx(100)


def test_what_is_assigned_to_a_node_that_has_nothing_is_taken_from_what_it_sees():
    known = Spread(total=100, zones={"a": Seen(Split(peer_zone=60, origin=40), 3.0)})
    seen = credited(known, "n9", ("a", ""), dram=0, nvme=10).nodes["n9"]
    assert seen.split == Split(nvme=10, peer_zone=54, origin=36)
    assert seen.arriving_seconds == 3.0


def test_what_is_on_its_way_is_not_replaced_by_what_is_assigned():
    known = Spread(total=100, nodes={"n1": Seen(Split(arriving=100), 7.0)})
    assert credited(known, "n1", ("", ""), dram=0, nvme=50) is known
