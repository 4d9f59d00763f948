"""The books of a tier: blocks that were taken out for an eviction are accounted for, however it ends."""

import pytest

from cachefs.core.blocks import FileVersionId
from cachefs.core.eviction import open_policy
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.core.tiers import PAGE_SIZE, Room
from cachefs.workers.storage.books import Books
from cachefs.workers.storage.cachedfile import CachedFile

BLOCK = PAGE_SIZE


@pytest.fixture
def books():
    return Books(Room.of(8 * BLOCK, high_mark=1.0, low_mark=0.75), open_policy("lru"))


@pytest.fixture
def file(books):
    """A file of four blocks, all resident, the third of them doubtful."""
    file = CachedFile(
        FileVersionId("a" * 40),
        size=4 * BLOCK,
        block_size=BLOCK,
        dataset=DatasetName("tests", "data"),
        version=VersionId("ab" * 20),
    )
    books.adopt(file, 0.0)
    for index in range(4):
        fill(books, file, index)
    file.doubtful.add(2)
    return file


def fill(books, file, index):
    assert books.room.try_reserve(BLOCK)
    books.enter(file, index, b"digest", 1.0)


def check(books, *, used, reserved=0):
    assert (books.room.used, books.room.reserved, books.room.leaving) == (
        used * BLOCK,
        reserved * BLOCK,
        0,
    )


def test_blocks_that_went_are_counted_and_their_room_is_free(books, file):
    taken = books.take_out(file, [0, 1])
    assert sorted(file.blocks) == [2, 3]
    assert books.room.leaving == 2 * BLOCK
    books.settle(taken, freed=[0, 1], kept=False)
    check(books, used=2)
    assert (books.counts.evictions, books.counts.evicted_bytes) == (2, 2 * BLOCK)


def test_blocks_that_are_put_back_are_as_they_were(books, file):
    taken = books.take_out(file, [0, 2])
    books.settle(taken, freed=[], kept=True)
    assert sorted(file.blocks) == [0, 1, 2, 3]
    assert file.doubtful == {2}
    check(books, used=4)
    assert books.counts.evictions == 0
    assert sorted(books.evictable(file, 2.0)) == [0, 1, 2, 3]


def test_blocks_that_are_put_back_are_doubtful_if_a_stranger_wrote_meanwhile(books, file):
    taken = books.take_out(file, [0, 1])
    file.suspicions += 1
    books.settle(taken, freed=[], kept=True)
    assert file.doubtful == {0, 1, 2}


def test_blocks_that_could_not_be_freed_are_strays(books, file):
    taken = books.take_out(file, [0, 1])
    books.settle(taken, freed=[0], kept=False)
    assert file.strays == {1}
    check(books, used=3)
    books.free_strays(file, [1])
    check(books, used=2)


def test_a_block_that_was_filled_again_meanwhile_is_counted_once(books, file):
    taken = books.take_out(file, [0])
    fill(books, file, 0)
    books.settle(taken, freed=[0], kept=True)
    assert sorted(file.blocks) == [0, 1, 2, 3]
    check(books, used=4)


def test_a_block_that_was_found_as_a_stray_meanwhile_is_counted_once(books, file):
    taken = books.take_out(file, [0])
    books.note_strays(file, [0])
    books.settle(taken, freed=[], kept=True)
    assert file.strays == set()
    assert 0 in file.doubtful, "somebody wrote there"
    check(books, used=4)


def test_nothing_is_put_back_into_a_file_that_is_gone(books, file):
    taken = books.take_out(file, [0])
    books.forget(file)
    books.settle(taken, freed=[], kept=True)
    assert 0 not in file.blocks
    assert file.strays == {0}
    books.end(file)
    check(books, used=0)


def test_a_file_that_was_found_open_is_passed_over_for_a_while(books, file):
    file.open_until = 10.0
    assert books.evictable(file, 9.9) == []
    assert books.coldest(9.9) is None
    assert sorted(books.evictable(file, 10.0)) == [0, 1, 2, 3]
