"""Readahead: what is fetched before it is read, and what is not."""

import pytest

from cachefs.client.block_cache import BlockCache
from cachefs.client.fetching import Served
from cachefs.client.lanes import Lanes
from cachefs.client.readahead import Readahead
from cachefs.config.schema import ReaderConfig
from cachefs.core.blocks import BlockId, Range
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.errors import WorkerUnavailableError
from cachefs.testing.blocks import make_file
from cachefs.testing.simulation.world.runtime import SimRuntime

BLOCK = 100
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


class World:
    """One open file of ten blocks, the file after it, and a record of what was fetched."""

    def __init__(self, *, window_blocks: int = 4, cache_blocks: int = 8) -> None:
        self.runtime = SimRuntime(3)
        self.config = ReaderConfig(
            readahead_bytes=window_blocks * BLOCK, block_cache_bytes=cache_blocks * BLOCK
        )
        self.ref = make_file("a-1-of-2", 10 * BLOCK)
        self.following = make_file("a-2-of-2", 10 * BLOCK)
        self.fetched: list[tuple[str, int]] = []
        self.cancelled = 0
        self.slow_seconds = 0.0
        self.fails = False

    def run(self, body) -> None:
        """Run a test's body with ``ahead`` made anew."""

        def main() -> None:
            self.cache = BlockCache(self.runtime, capacity_bytes=self.config.block_cache_bytes)
            self.lanes = Lanes(self.runtime, self.config.connections_limit)
            self.ahead = Readahead(
                self.runtime,
                self.config,
                block_size=BLOCK,
                cache=self.cache,
                lanes=self.lanes,
                fetch=self._fetch,
                ref=self.ref,
                following=self.following,
            )
            body()
            self.ahead.close()
            self.lanes.close()

        self.runtime.run(main)

    def _fetch(self, ref, index, into, deadline, cancel) -> Served:
        self.fetched.append((ref.entry.path, index))
        until = self.runtime.monotonic() + self.slow_seconds
        while self.runtime.monotonic() < until:
            self.runtime.sleep(0.1)
            if cancel.cancelled:
                self.cancelled += 1
                raise WorkerUnavailableError("cancelled")
        if self.fails:
            raise WorkerUnavailableError("dead")
        return Served("peer", MEMBER)

    def read(self, offset: int, length: int) -> None:
        """Read a range as a reader does that takes blocks from the cache, and let fetches end."""
        self.ahead.note(Range(offset, length))
        for index in range(offset // BLOCK, -(-(offset + length) // BLOCK)):
            held = self.cache.join(BlockId(self.ref.entry.file_version, index), deadline=1e9)
            if held is not None:
                held.seen = len(held.view)
                self.cache.release(held)
        self.runtime.sleep(1.0)

    @property
    def indexes(self) -> list[int]:
        """The blocks of the open file that were fetched, in order."""
        return [index for path, index in self.fetched if path == self.ref.entry.path]


def test_a_look_at_the_header_fetches_nothing_ahead():
    world = World()
    world.run(lambda: world.read(0, 10))
    assert world.fetched == []


def test_reads_that_go_forward_open_a_window_that_doubles_up_to_its_limit():
    world = World()

    def body():
        for index, reached in enumerate((None, 2, 4, 7, 8)):
            world.read(index * BLOCK, BLOCK)
            assert max(world.indexes, default=None) == reached

    world.run(body)
    assert sorted(world.indexes) == [2, 3, 4, 5, 6, 7, 8]


def test_no_block_is_asked_for_twice_by_reads_slightly_out_of_order():
    world = World(cache_blocks=20)

    def body():
        world.ahead.expect_all(at_once=False)
        for offset in (0, 100, 150, 50):
            world.read(offset, 50)

    world.run(body)
    assert len(set(world.indexes)) == len(world.indexes)


def test_jumps_fetch_nothing_ahead():
    world = World()

    def body():
        for offset in (0, 700, 300, 900):
            world.read(offset, 10)

    world.run(body)
    assert world.fetched == []


@pytest.mark.parametrize(("at_once", "expected"), [(True, [0, 1]), (False, [])])
def test_a_file_that_will_be_read_whole_is_begun_at_once_if_wanted(at_once, expected):
    world = World()

    def body():
        world.ahead.expect_all(at_once=at_once)
        world.runtime.sleep(1.0)
        assert world.indexes == expected

    world.run(body)


def test_a_file_that_will_be_read_whole_has_its_full_window_from_the_first_read_on():
    world = World()

    def body():
        world.ahead.expect_all(at_once=False)
        world.read(0, BLOCK)

    world.run(body)
    assert world.indexes == [1, 2, 3, 4]


def test_at_the_end_only_the_first_block_of_the_next_file_is_fetched():
    world = World(cache_blocks=20)

    def body():
        world.ahead.expect_all(at_once=False)
        for index in range(10):
            world.read(index * BLOCK, BLOCK)

    world.run(body)
    following = [index for path, index in world.fetched if path == world.following.entry.path]
    assert following == [0]


def test_nothing_is_fetched_for_which_an_unseen_block_would_have_to_go():
    world = World(window_blocks=8, cache_blocks=3)

    def body():
        world.ahead.expect_all(at_once=False)
        world.read(0, 10)
        assert len(world.indexes) <= 3
        assert all(
            world.cache.holds(BlockId(world.ref.entry.file_version, index))
            for index in world.indexes
        )

    world.run(body)
    assert world.indexes


def test_without_room_or_wish_nothing_is_fetched():
    for world in (World(window_blocks=0), World(cache_blocks=0)):

        def body(world=world):
            world.ahead.expect_all(at_once=True)
            for index in range(4):
                world.read(index * BLOCK, BLOCK)

        world.run(body)
        assert world.fetched == []


def test_a_fetch_ahead_that_fails_harms_nobody():
    world = World()
    world.fails = True

    def body():
        world.ahead.expect_all(at_once=True)
        world.runtime.sleep(1.0)
        assert not world.cache.holds(BlockId(world.ref.entry.file_version, 0))

    world.run(body)
    assert world.indexes


def test_closing_cancels_what_is_under_way():
    world = World()
    world.slow_seconds = 100.0

    def body():
        world.ahead.expect_all(at_once=True)
        world.runtime.sleep(1.0)
        begun = len(world.fetched)
        world.ahead.close()
        world.runtime.sleep(1.0)
        assert world.cancelled == begun > 0
        assert len(world.fetched) == begun

    world.run(body)


def test_who_reads_backward_is_read_ahead_of_before_his_reads():
    world = World()

    def body():
        for offset in (750, 700, 650, 600):
            world.read(offset, 50)

    world.run(body)
    assert world.indexes[0] == 6
    assert sorted(world.indexes) == [2, 3, 4, 5, 6]


def test_blocks_that_were_read_to_their_end_are_not_fetched_again():
    world = World()

    def body():
        for index in (5, 4):
            world.ahead.read_to_end(index)
        for offset in (750, 700, 650, 600):
            world.read(offset, 50)

    world.run(body)
    assert 5 not in world.indexes
    assert 4 not in world.indexes
    assert 3 in world.indexes


def test_a_file_that_is_read_from_behind_is_not_read_ahead_from_its_beginning():
    world = World(window_blocks=8)

    def body():
        world.ahead.expect_all(at_once=False)
        for offset in (990, 980, 970, 960):
            world.read(offset, 10)

    world.run(body)
    assert world.indexes
    assert min(world.indexes) > 0
