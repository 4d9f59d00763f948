"""The room that files which are just coming in will still take."""

from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.core.tiers import PAGE_SIZE
from cachefs.workers.storage.cachedfile import Block, CachedFile
from cachefs.workers.storage.growing import GROWING_SECONDS, Growing

BLOCK = 2 * PAGE_SIZE


def a_file(name, size):
    return CachedFile(
        FileVersionId(name * 40),
        size=size,
        block_size=BLOCK,
        dataset=DatasetName("tests", "data"),
        version=VersionId("ab" * 20),
    )


def bring(growing, file, index, now=0.0):
    file.blocks[index] = Block(b"", now)
    growing.note(file, now)


def test_a_file_that_begins_wants_its_whole_pages():
    growing, file = Growing(), a_file("a", 2 * BLOCK + 1)
    growing.note(file, 0.0)
    assert growing.wanted(0.0) == 2 * BLOCK + PAGE_SIZE


def test_each_block_that_comes_in_is_wanted_no_more_and_the_last_one_ends_it():
    growing, file = Growing(), a_file("a", 2 * BLOCK + 1)
    bring(growing, file, 2)
    assert growing.wanted(0.0) == 2 * BLOCK
    bring(growing, file, 0)
    assert growing.wanted(0.0) == BLOCK
    bring(growing, file, 1)
    assert growing.wanted(0.0) == 0


def test_files_that_grow_together_add_up_and_one_that_leaves_does_not_count():
    growing, first, second = Growing(), a_file("a", BLOCK), a_file("b", 3 * BLOCK)
    growing.note(first, 0.0)
    growing.note(second, 0.0)
    assert growing.wanted(0.0) == 4 * BLOCK
    growing.forget(second)
    assert growing.wanted(0.0) == BLOCK


def test_a_file_of_which_nothing_comes_any_more_wants_nothing():
    growing, first, second = Growing(), a_file("a", 2 * BLOCK), a_file("b", BLOCK)
    growing.note(first, 0.0)
    growing.note(second, 1.0)
    bring(growing, first, 0, now=2.0)
    assert growing.wanted(1.0 + GROWING_SECONDS) == BLOCK
    assert growing.wanted(2.0 + GROWING_SECONDS) == 0
