"""Blocks that only move, and warm-ups that shall take their time."""

import threading

from cachefs.core import placement
from cachefs.core.blocks import BlockId
from cachefs.core.membership import View
from cachefs.core.names import WorkerId
from cachefs.workers.filling.warming import JobTerms, WarmJobs
from tests.unit.workers.worlds import BLOCK, DIGEST, block, member


def read(world, index):
    with world.obtain(index) as obtained:
        return bytes(world.store.blocks[world.file.entry.file_version, index]) if obtained else b""


def idle(world):
    statistics = world.filler.statistics()
    return not statistics.inflight_fills and not statistics.warm_blocks_left


def test_a_block_that_only_moves_is_never_asked_of_the_origin(make):
    world = make()
    world.filler.warm("move", {world.file: [0, 1]}, JobTerms(from_peers=True))
    world.wait_until(lambda: idle(world))
    assert world.origin.bytes_read == 0
    assert not world.store.blocks
    # Nobody's failure: a read of the block is served from the origin as if nothing had been tried.
    assert read(world, 0) == block(0)
    assert world.filler.take_failures() == []


def test_a_read_that_waits_for_a_moving_block_gets_it_from_the_origin(make):
    world = make()
    world.metadata.members = View(1, (member("own"), member("other")))
    gate = threading.Event()

    def slow(member, request):
        gate.wait(5)

    world.peers.fetch = slow
    world.filler.warm(
        "move", {world.file: [0]}, JobTerms(from_peers=True, source=WorkerId("other"))
    )
    found = []
    reader = threading.Thread(target=lambda: found.append(read(world, 0)))
    reader.start()
    world.wait_until(lambda: world.filler.statistics().misses == 1)
    gate.set()
    reader.join(5)
    assert found == [block(0)]


def test_a_moving_block_is_asked_of_the_worker_that_gives_it_first(make):
    world = make()
    others = [member(f"w{number}") for number in range(6)]
    world.metadata.members = View(1, (member("own"), *others))
    world.peers.held["w5", 0] = (block(0), DIGEST(block(0)))
    world.filler.warm("move", {world.file: [0]}, JobTerms(from_peers=True, source=WorkerId("w5")))
    world.wait_until(lambda: world.store.blocks)
    assert world.peers.asked == [("w5", True)]


def test_when_many_joined_at_once_the_coordinator_says_who_holds_a_block(make):
    world = make()
    others = [member(f"w{number}") for number in range(20)]
    world.metadata.members = View(1, (member("own"), *others))
    world.metadata.known = [DIGEST(block(index)) for index in range(6)]
    order = [
        each.worker
        for each in placement.order(
            BlockId(world.file.entry.file_version, 0), others, pool="default"
        )
    ]
    world.metadata.held = {order[-1]: 0b1}
    world.peers.held[order[-1], 0] = (block(0), DIGEST(block(0)))
    assert read(world, 0) == block(0)
    assert world.origin.bytes_read == 0
    assert [worker for worker, _ in world.peers.asked] == [*order[:3], order[-1]]


def test_a_warm_up_with_a_rate_takes_its_time_and_keeps_no_read_waiting(make):
    world = make()
    world.filler.warm("slow", {world.file: [0, 1, 2]}, JobTerms(rate=BLOCK / 1000))
    world.wait_until(lambda: world.store.holds(world.file.entry.file_version, 0))
    assert read(world, 4) == block(4)
    assert {index for _, index in world.store.blocks} == {0, 4}
    assert world.filler.statistics().warm_blocks_left == 2


def test_a_job_that_is_told_again_has_no_second_burst(make):
    world = make()
    jobs = WarmJobs(BLOCK)
    terms = JobTerms(rate=BLOCK)
    for at in (0.0, 0.5):
        jobs.put("job", [(world.file, 0), (world.file, 1)], (), now=at, terms=terms)
        given = jobs.take(at)
        assert (given is not None) == (at == 0.0)
    assert jobs.due(0.5) == 1.0
    assert jobs.take(1.0) is not None


def test_what_a_worker_holds_already_costs_a_warm_up_nothing_of_its_rate(make):
    """Whoever is told again is told of everything again: that must not take the time of a second filling."""
    world = make()
    for index in range(4):
        world.store.blocks[world.file.entry.file_version, index] = block(index)
    world.filler.warm("slow", {world.file: range(5)}, JobTerms(rate=BLOCK / 1000))
    world.wait_until(lambda: world.store.holds(world.file.entry.file_version, 4))


def test_what_is_given_back_is_not_waited_for_and_what_was_filled_is(make):
    world = make()
    jobs = WarmJobs(BLOCK)
    jobs.put("job", [(world.file, index) for index in range(4)], (), now=0.0, terms=JobTerms(BLOCK))
    jobs.give_back(jobs.take(0.0), 0.0)
    assert jobs.take(0.0).index == 1
    assert jobs.due(0.0) == 1.0
    jobs.give_back(jobs.take(1.0), 1.0)
    assert jobs.take(1.0).index == 3


def test_a_copy_for_a_crowd_comes_from_another_worker_and_is_a_guest(make):
    world = make()
    world.metadata.members = View(1, (member("own"), member("other")))
    world.peers.held["other", 0] = (block(0), DIGEST(block(0)))
    with world.obtain(from_peers=True) as obtained:
        assert obtained.source == "peer"
    assert world.store.guests == {(world.file.entry.file_version, 0)}
    assert world.origin.bytes_read == 0
    with world.obtain(from_peers=True) as obtained:
        assert obtained.source == "memory"


def test_a_copy_that_no_worker_has_is_nothing_and_nobodys_failure(make):
    world = make()
    world.metadata.members = View(1, (member("own"), member("other")))
    assert world.obtain(from_peers=True) is None
    assert world.origin.bytes_read == 0
    assert world.filler.take_failures() == []
    assert read(world, 0) == block(0)
    assert world.store.guests == set()


def test_a_copy_for_which_there_is_no_room_is_nothing(make):
    world = make(room=0)
    world.metadata.members = View(1, (member("own"), member("other")))
    world.peers.held["other", 0] = (block(0), DIGEST(block(0)))
    assert world.obtain(from_peers=True) is None


def test_a_read_that_joins_a_copy_which_nobody_has_gets_its_block_from_the_origin(make):
    world = make()
    world.metadata.members = View(1, (member("own"), member("other")))
    gate = threading.Event()

    def slow(member, request):
        gate.wait(5)

    world.peers.fetch = slow
    copies, found = [], []
    crowd = threading.Thread(target=lambda: copies.append(world.obtain(from_peers=True)))
    crowd.start()
    world.wait_until(lambda: world.filler.statistics().misses == 1)
    reader = threading.Thread(target=lambda: found.append(read(world, 0)))
    reader.start()
    world.wait_until(lambda: world.filler.statistics().misses == 2)
    gate.set()
    reader.join(5)
    crowd.join(5)
    assert found == [block(0)]
    assert world.reads(0) == 1
    assert copies[0] is not None
