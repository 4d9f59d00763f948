"""The cache of verified blocks: single-flight, bounds, and buffers that stay stable in use."""

import pytest

from cachefs.client.block_cache import BlockCache
from cachefs.client.fetching import Served
from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.errors import DeadlineError, WorkerUnavailableError
from cachefs.testing.simulation.world.runtime import SimRuntime

MEMBER = Member(
    worker=WorkerId("w"),
    incarnation="1",
    node="n",
    zone="z",
    pool="default",
    weight=1.0,
    data_address="",
    control_address="",
    socket_path="",
)
LENGTH = 100


def block(index: int) -> BlockId:
    return BlockId(FileVersionId("f"), index)


def filler(byte: int, calls: list[int] | None = None):
    def fetch(into: memoryview) -> Served:
        into[:] = bytes([byte]) * len(into)
        if calls is not None:
            calls.append(byte)
        return Served("peer", MEMBER)

    return fetch


def use(cache: BlockCache, index: int, calls: list[int] | None = None) -> bytes:
    with cache.obtain(block(index), LENGTH, filler(index, calls), deadline=1e9) as held:
        return bytes(held.view)


def room(cache: BlockCache) -> bool:
    """Say whether there is room for one more block."""
    found = cache.try_promise(block(99), LENGTH)
    cache.withdraw(block(99))
    return found


@pytest.fixture
def world() -> SimRuntime:
    return SimRuntime(5)


def test_a_block_is_fetched_once_and_then_found(world):
    def body():
        cache = BlockCache(world, capacity_bytes=10 * LENGTH)
        calls: list[int] = []
        assert use(cache, 7, calls) == use(cache, 7, calls) == b"\7" * LENGTH
        assert calls == [7]
        into = bytearray(10)
        assert cache.find(block(7), memoryview(into), 5) is not None
        assert into == b"\7" * 10

    world.run(body)


def test_however_many_want_a_block_one_fetches_it(world):
    def body():
        cache = BlockCache(world, capacity_bytes=10 * LENGTH)
        calls: list[int] = []

        def slow(into: memoryview) -> Served:
            world.sleep(1.0)
            return filler(1, calls)(into)

        def read() -> None:
            with cache.obtain(block(1), LENGTH, slow, deadline=100.0) as held:
                assert bytes(held.view) == b"\1" * LENGTH

        tasks = [world.start("read", read) for _ in range(5)]
        assert all(task.join(None) for task in tasks)
        assert calls == [1]

    world.run(body)


def test_a_fetch_that_fails_leaves_the_next_one_to_try(world):
    def body():
        cache = BlockCache(world, capacity_bytes=10 * LENGTH)

        def fail(into: memoryview) -> Served:
            raise WorkerUnavailableError("dead")

        with (
            pytest.raises(WorkerUnavailableError),
            cache.obtain(block(1), LENGTH, fail, deadline=9.0),
        ):
            pass
        assert not cache.holds(block(1))
        assert use(cache, 1) == b"\1" * LENGTH

    world.run(body)


def test_waiting_for_anothers_fetch_ends_by_the_deadline(world):
    def body():
        cache = BlockCache(world, capacity_bytes=10 * LENGTH)

        def endless(into: memoryview) -> Served:
            world.sleep(50.0)
            return filler(1)(into)

        def read() -> None:
            with cache.obtain(block(1), LENGTH, endless, deadline=100.0):
                pass

        task = world.start("read", read)
        world.sleep(1.0)
        with (
            pytest.raises(DeadlineError),
            cache.obtain(block(1), LENGTH, endless, deadline=world.monotonic() + 2.0),
        ):
            pass
        assert task.join(None)

    world.run(body)


def test_the_block_unused_for_longest_goes_first(world):
    def body():
        cache = BlockCache(world, capacity_bytes=3 * LENGTH)
        for index in (1, 2, 3, 1, 4):
            use(cache, index)
        assert [cache.holds(block(index)) for index in (1, 2, 3, 4)] == [True, False, True, True]

    world.run(body)


def test_a_block_in_use_is_never_given_to_another(world):
    def body():
        cache = BlockCache(world, capacity_bytes=LENGTH)
        with cache.obtain(block(1), LENGTH, filler(1), deadline=9.0) as held:
            for index in range(2, 8):
                assert use(cache, index) == bytes([index]) * LENGTH
            assert bytes(held.view) == b"\1" * LENGTH

    world.run(body)


def test_without_capacity_a_block_is_gone_after_its_use(world):
    def body():
        cache = BlockCache(world, capacity_bytes=0)
        assert use(cache, 1) == b"\1" * LENGTH
        assert not cache.holds(block(1))

    world.run(body)


def test_blocks_that_nobody_has_seen_yet_leave_no_room_for_more(world):
    def body():
        cache = BlockCache(world, capacity_bytes=2 * LENGTH)
        use(cache, 1)
        assert room(cache)
        use(cache, 2)
        assert not room(cache)
        with cache.obtain(block(1), LENGTH, filler(1), deadline=9.0) as held:
            held.seen = len(held.view)
        assert room(cache)

    world.run(body)


def look(cache: BlockCache, index: int, count: int) -> None:
    """Read a part of a block, as a reader does."""
    with cache.obtain(block(index), LENGTH, filler(index), deadline=1e9) as held:
        held.seen += count


def test_a_block_that_is_half_read_leaves_no_room_for_a_second(world):
    def body():
        cache = BlockCache(world, capacity_bytes=LENGTH)
        look(cache, 1, LENGTH // 2)
        assert not room(cache)
        world.sleep(2.0)
        assert room(cache)
        look(cache, 1, LENGTH // 2)
        assert room(cache)

    world.run(body)


def test_a_block_that_was_read_goes_before_one_that_will_be(world):
    def body():
        cache = BlockCache(world, capacity_bytes=3 * LENGTH)
        use(cache, 1)  # ahead of a reader
        look(cache, 2, LENGTH // 2)
        look(cache, 3, LENGTH)
        use(cache, 4)
        assert [cache.holds(block(index)) for index in (1, 2, 3, 4)] == [True, True, False, True]

    world.run(body)


def test_room_that_is_promised_is_not_promised_again(world):
    def body():
        cache = BlockCache(world, capacity_bytes=2 * LENGTH)
        assert cache.try_promise(block(1), LENGTH)
        assert cache.try_promise(block(1), LENGTH), "the same room"
        assert cache.expects(block(1))
        assert not cache.holds(block(1))
        assert cache.try_promise(block(2), LENGTH)
        assert not cache.try_promise(block(3), LENGTH)
        use(cache, 1)
        assert not cache.try_promise(block(3), LENGTH), "the block has come into its room"
        cache.withdraw(block(2))
        assert cache.try_promise(block(3), LENGTH)

    world.run(body)
