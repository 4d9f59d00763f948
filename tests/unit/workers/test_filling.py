"""Filling: once per block, from peers before the origin, and never a wrong byte."""

import hashlib
import threading

import pytest

from cachefs.config.schema import FillConfig
from cachefs.core import placement
from cachefs.core.blocks import BlockId
from cachefs.core.membership import View
from cachefs.errors import (
    DeadlineError,
    IntegrityError,
    OriginNotFoundError,
    OriginUnavailableError,
    WorkerUnavailableError,
)
from tests.unit.workers.worlds import BLOCK, CONTENT, DIGEST, FAST, OWN, Gate, block, member


def test_a_block_comes_from_the_origin_once_and_then_from_the_store(make):
    world = make()
    with world.obtain() as first:
        assert (first.source, first.digest) == ("origin", DIGEST(block(0)))
    with world.obtain() as second:
        assert second.source == "memory"
    assert world.reads() == 1
    statistics = world.filler.statistics()
    assert (statistics.hits, statistics.misses) == (1, 1)
    assert statistics.filled_bytes == {"peer": 0, "origin": BLOCK}


def test_the_last_block_is_short(make):
    world = make()
    world.obtain(5).close()
    assert world.store.blocks[world.file.entry.file_version, 5] == CONTENT[5000:]


def test_who_wants_only_what_is_cached_starts_no_fill(make):
    world = make()
    assert world.obtain(only_cached=True) is None
    assert world.reads() == 0


def test_many_who_ask_at_once_share_one_fill(make):
    world = make()
    gate = Gate(world)
    sources = []

    def ask():
        with world.obtain() as obtained:
            sources.append(obtained.source)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    world.wait_until(lambda: world.filler.statistics().misses == 16)
    gate.opened.set()
    for thread in threads:
        thread.join(5)
    assert sources == ["origin"] * 16
    assert world.reads() == 1


def test_each_waits_with_its_own_deadline_and_the_fill_goes_on(make):
    world = make()
    gate = Gate(world)
    with pytest.raises(DeadlineError, match="asked: origin"):
        world.obtain(seconds=0.05)
    gate.opened.set()
    world.wait_until(lambda: world.store.blocks)
    assert world.obtain().source == "memory"
    assert world.reads() == 1


def test_an_exception_in_one_who_waits_ends_nobody_elses_fill(make, monkeypatch):
    monkeypatch.setattr("cachefs.workers.filling.fills.PROGRESS_SECONDS", 0.01)
    world = make()
    gate = Gate(world)

    def leave():
        raise ConnectionResetError("the reader left")

    with pytest.raises(ConnectionResetError):
        world.obtain(on_wait=leave)
    gate.opened.set()
    assert world.obtain().source in ("origin", "memory")
    assert world.reads() == 1


def test_a_fill_that_nobody_waits_for_any_more_is_not_begun(make):
    world = make(config=FillConfig(inflight_fills_limit=1))
    gate = Gate(world)
    for index in (0, 1):
        with pytest.raises(DeadlineError):
            world.obtain(index, seconds=0.02)
    gate.opened.set()
    world.wait_until(lambda: world.filler.statistics().inflight_fills == 0)
    assert (world.reads(0), world.reads(1)) == (1, 0)


def test_a_peer_that_holds_the_block_saves_the_origin(make):
    world = make()
    world.metadata.members = View(1, (member("own"), member("peer")))
    world.peers.held["peer", 0] = (block(0), DIGEST(block(0)))
    with world.obtain() as obtained:
        assert obtained.source == "peer"
    assert world.reads() == 0
    assert world.peers.asked == [("peer", True)]


def test_a_peer_that_lies_is_suspected_and_the_next_is_asked(make):
    world = make()
    world.metadata.members = View(1, (member("own"), member("p1"), member("p2")))
    wrong = b"x" * BLOCK
    world.peers.held["p1", 0] = world.peers.held["p2", 0] = (wrong, DIGEST(block(0)))
    with world.obtain() as obtained:
        assert (obtained.source, obtained.digest) == ("origin", DIGEST(block(0)))
    assert world.filler.peers.suspects() == {"p1", "p2"}


def test_a_peer_whose_bytes_are_not_those_the_coordinator_knows_is_suspected(make):
    world = make()
    world.metadata.members = View(1, (member("own"), member("peer")))
    world.metadata.known = [DIGEST(block(0))]
    wrong = b"x" * BLOCK
    world.peers.held["peer", 0] = (wrong, DIGEST(wrong))
    assert world.obtain().source == "origin"
    assert world.filler.peers.suspects() == {"peer"}


def test_a_dead_peer_is_passed_over_once_and_then_left_alone(make):
    world = make()
    world.metadata.members = View(1, (member("own"), member("peer")))
    for index in (0, 1):
        world.peers.held["peer", index] = WorkerUnavailableError("dead")
        assert world.obtain(index).source == "origin"
    assert world.peers.asked == [("peer", True)]


def test_peers_are_not_asked_for_what_was_certainly_never_filled(make):
    world = make()
    members = (member("own"), member("peer"))
    world.metadata.members = View(1, members)
    owned, also_owned = [
        index
        for index in range(5)
        if placement.order(BlockId(world.file.entry.file_version, index), members, pool="default")[
            0
        ].worker
        == OWN
    ][:2]
    world.filler.peers.observe(world.metadata.members)
    world.runtime.sleep(0.03)
    world.obtain(owned).close()
    assert world.peers.asked == []
    world.metadata.down = True
    world.obtain(also_owned).close()
    assert world.peers.asked == [("peer", True)]


def test_an_origin_in_trouble_is_asked_so_often_and_no_more(make):
    world = make()

    def fail(*_):
        raise OriginUnavailableError("busy")

    world.origin.hook = fail
    for _ in range(3):
        with pytest.raises(OriginUnavailableError):
            world.obtain()
    assert world.reads() == FAST.attempts_limit
    (failure,) = world.filler.take_failures()
    assert (failure.index, type(failure.error)) == (0, OriginUnavailableError)


def test_a_second_attempt_can_succeed(make):
    world = make()
    failures = [OriginUnavailableError("busy", retry_after_seconds=0.01)]

    def fail_once(*_):
        if failures:
            raise failures.pop()

    world.origin.hook = fail_once
    assert world.obtain().source == "origin"
    assert world.reads() == 2


def test_an_origin_that_asks_for_more_patience_than_there_is_fails_at_once(make):
    world = make()

    def fail(*_):
        raise OriginUnavailableError("busy", retry_after_seconds=3600)

    world.origin.hook = fail
    with pytest.raises(OriginUnavailableError):
        world.obtain(seconds=2)
    assert world.reads() == 1


def test_what_cannot_help_is_not_tried_again(make):
    world = make()
    world.origin.remove("a")
    with pytest.raises(OriginNotFoundError):
        world.obtain()
    assert world.reads() == 1


def test_a_failure_is_forgotten_after_a_while(make):
    world = make(config=FillConfig(failure_memory_seconds=0.02, attempts_limit=1))

    def fail(*_):
        raise OriginUnavailableError("busy")

    world.origin.hook = fail
    with pytest.raises(OriginUnavailableError):
        world.obtain()
    world.origin.hook = None
    world.runtime.sleep(0.03)
    assert world.obtain().source == "origin"


def test_other_bytes_than_were_filled_before_are_an_error_and_are_not_stored(make):
    world = make()
    world.metadata.known = [DIGEST(b"as it was")]
    with pytest.raises(IntegrityError):
        world.obtain()
    assert world.store.blocks == {}
    assert world.store.reserved == 0


def test_a_file_of_one_block_is_held_to_the_checksum_of_the_whole_file(make):
    right = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
    assert make(content=b"hello", digest=right).obtain().source == "origin"
    assert make(content=b"hello", digest="unheard-of:00").obtain().source == "origin"
    world = make(content=b"HELLO", digest=right)
    world.metadata.members = View(1, (member("own"), member("peer")))
    world.peers.held["peer", 0] = (b"HELLO", DIGEST(b"HELLO"))
    with pytest.raises(IntegrityError, match="checksum"):
        world.obtain()
    assert world.store.blocks == {}
    assert world.filler.peers.suspects() == {"peer"}


def test_a_bug_in_the_store_fails_the_fill_and_not_the_thread(make):
    world = make()

    def broken(file_version, index):
        raise ZeroDivisionError

    working, world.store.holds = world.store.holds, broken
    with pytest.raises(Exception, match="ZeroDivisionError"):
        world.obtain()
    world.store.holds = working
    assert world.obtain(1).source == "origin"
