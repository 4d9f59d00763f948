"""The order of fills, and their limits: demand first, room before bytes."""

import threading
from dataclasses import replace

import pytest

from cachefs.config.schema import FillConfig
from cachefs.core.blocks import FileVersionId
from cachefs.core.membership import View
from cachefs.core.names import DatasetName
from cachefs.errors import (
    CapacityError,
    OriginNotFoundError,
)
from tests.unit.workers.worlds import BLOCK, DIGEST, Gate, block, member


def test_a_read_without_room_is_served_from_memory(make):
    world = make(room=0)
    with world.obtain() as obtained:
        assert obtained.held is None
        assert bytes(obtained.view()) == block(0)
        assert world.filler.statistics().uncached_blocks == 1
    assert world.filler.statistics().uncached_blocks == 0


def test_blocks_in_memory_have_a_limit(make):
    world = make(room=0, config=FillConfig(uncached_blocks_limit=1))
    with world.obtain(0), pytest.raises(CapacityError):
        world.obtain(1)
    world.obtain(1).close()
    assert world.filler.statistics().uncached_blocks == 0


def test_a_warm_up_without_room_fails_before_it_asks_the_origin(make):
    world = make(room=2)
    world.filler.warm("job", {world.file: range(6)})
    world.wait_until(lambda: world.filler.statistics().failed_fills == 4)
    assert sum(world.origin.reads.values()) == 2
    assert world.filler.statistics().uncached_blocks == 0


def test_a_warm_up_fills_what_is_not_here(make):
    world = make()
    world.obtain(2).close()
    world.filler.warm("job", {world.file: range(6)})
    world.wait_until(lambda: len(world.store.blocks) == 6)
    assert max(world.origin.reads.values()) == 1


def test_a_warm_up_leaves_alone_what_has_just_failed(make):
    world = make(config=FillConfig(attempts_limit=1, failure_memory_seconds=60))
    world.origin.remove("a")
    with pytest.raises(OriginNotFoundError):
        world.obtain(0)
    world.filler.warm("job", {world.file: [0, 1]})
    world.wait_until(lambda: world.filler.statistics().failed_fills == 2)
    assert (world.reads(0), world.reads(1)) == (1, 1)


def test_demand_goes_before_warm_up(make):
    world = make(config=FillConfig(inflight_fills_limit=1))
    gate = Gate(world)
    world.filler.warm("job", {world.file: [0, 1, 2]})
    world.wait_until(lambda: gate.order)
    reader = threading.Thread(target=lambda: world.obtain(5).close())
    reader.start()
    world.wait_until(lambda: world.filler.statistics().queued_fills == 1)
    gate.opened.set()
    reader.join(5)
    world.wait_until(lambda: len(world.store.blocks) == 4)
    assert gate.order == [0, 5, 1, 2]


def test_a_read_joins_the_warm_up_of_its_block(make):
    world = make()
    gate = Gate(world)
    world.filler.warm("job", {world.file: [0]})
    world.wait_until(lambda: gate.order)
    reader = threading.Thread(target=lambda: world.obtain(0).close())
    reader.start()
    world.wait_until(lambda: world.filler.statistics().misses == 1)
    gate.opened.set()
    reader.join(5)
    assert world.reads() == 1


def test_a_job_that_wants_nothing_any_more_stops(make):
    world = make(config=FillConfig(inflight_fills_limit=1))
    gate = Gate(world)
    world.filler.warm("job", {world.file: range(6)})
    world.wait_until(lambda: gate.order)
    world.filler.warm("job", {})
    gate.opened.set()
    world.wait_until(lambda: world.filler.statistics().inflight_fills == 0)
    assert gate.order == [0]


def test_a_copy_is_made_from_the_first_owner_which_fills(make):
    world = make(replicas=2)
    world.metadata.members = View(1, (member("own"), member("peer")))
    world.peers.held["peer", "fills"] = (block(0), DIGEST(block(0)))
    for index in range(5):
        world.filler.warm("job", {world.file: [index]})
        world.wait_until(lambda: world.filler.statistics().inflight_fills == 0)
    copies = sum(1 for asked in world.peers.asked if asked == ("peer", False))
    assert copies > 0
    assert sum(world.origin.reads.values()) == 5 - world.filler.statistics().filled_blocks["peer"]


def test_too_many_reads_that_wait_are_refused(make):
    world = make(config=FillConfig(inflight_fills_limit=1, queued_fills_limit=1))
    gate = Gate(world)
    readers = []
    for index in (0, 1):
        readers.append(threading.Thread(target=lambda at=index: world.obtain(at).close()))
        readers[-1].start()
        world.wait_until(
            lambda at=index: gate.order and world.filler.statistics().queued_fills == at
        )
    with pytest.raises(CapacityError, match="too many"):
        world.obtain(2)
    gate.opened.set()
    for reader in readers:
        reader.join(5)


def test_an_origin_that_stands_still_does_not_keep_others_waiting(make):
    world = make(config=FillConfig(inflight_fills_limit=2))
    opened = threading.Event()
    world.origin.hook = lambda _, __, offset, ___: offset // BLOCK == 5 or opened.wait(10)
    readers = [
        threading.Thread(target=lambda at=index: world.obtain(at).close()) for index in (0, 1, 2)
    ]
    for reader in readers:
        reader.start()
    world.wait_until(lambda: world.filler.statistics().queued_fills == 1)
    entry = world.file.entry._replace(file_version=FileVersionId("2" * 40))
    other = replace(world.file, dataset=DatasetName("default", "other"), entry=entry)
    deadline = world.runtime.monotonic() + 5.0
    world.filler.obtain(other, 5, only_cached=False, deadline=deadline).close()
    assert world.store.blocks[entry.file_version, 5] == block(5)
    assert world.filler.statistics().queued_fills == 1
    opened.set()
    for reader in readers:
        reader.join(5)
    assert len(world.store.blocks) == 4


def test_closing_fails_who_waits_in_the_queue(make):
    world = make(config=FillConfig(inflight_fills_limit=1))
    gate = Gate(world)
    errors = []

    def ask(index):
        try:
            world.obtain(index).close()
        except Exception as error:  # noqa: BLE001
            errors.append(str(error))

    readers = [threading.Thread(target=ask, args=(index,)) for index in (0, 1)]
    readers[0].start()
    world.wait_until(lambda: gate.order)
    readers[1].start()
    world.wait_until(lambda: world.filler.statistics().queued_fills == 1)
    closing = threading.Thread(target=world.filler.close)
    closing.start()
    readers[1].join(5)
    assert errors == ["the worker is shutting down"]
    gate.opened.set()
    closing.join(5)
    readers[0].join(5)
    assert not closing.is_alive()
    assert world.origin.closed
