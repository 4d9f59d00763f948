"""A stamp vouches for bytes: it may never be one that a neighbour's write has moved unseen.

Each test makes one interleaving happen: who asks for a stamp is held up at a place where another thread
may run, and there a neighbour writes into the cache file and another reader notices.
"""

import pytest

from cachefs.testing.blocks import block_bytes, block_digest, make_file
from cachefs.workers.storage.verifying import NO_STAMP, ROUNDS_LIMIT

BLOCK = 4096
COUNT = 3


class HookedLock:
    """The worker's lock; what shall happen when it is next let go of happens then, once."""

    def __init__(self, lock):
        self._lock = lock
        self.on_exit = None

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *details):
        self._lock.__exit__(*details)
        hook, self.on_exit = self.on_exit, None
        if hook is not None:
            hook()

    def __getattr__(self, name):
        return getattr(self._lock, name)


@pytest.fixture
def file(bench):
    bench.open(8)
    file = make_file("a", COUNT * BLOCK)
    bench.fill(file, *range(COUNT))
    return file


@pytest.fixture
def lease(bench, file):
    lease = bench.store.lease(file)
    yield lease
    lease.release()


def scribble(bench, file, index=1):
    """Write over a block, as a process does that has no business there."""
    with bench.data_path(file).open("r+b") as data:
        data.seek(index * BLOCK)
        data.write(b"scribbled")


def verifier_of(bench):
    return bench.store._tiers[0].verifier


def test_a_stamp_is_never_that_of_a_write_which_came_after_the_look(
    bench, file, lease, monkeypatch
):
    """It is read under the lock under which nothing was found doubtful.

    Read a moment later, it would be that which the other thread has just taken over from the
    neighbour's write, before anybody has verified what was written.
    """
    before = lease.stamp()
    cached = bench.store._tiers[0].books.files[file.entry.file_version]
    lock = HookedLock(verifier_of(bench)._lock)
    monkeypatch.setattr(verifier_of(bench), "_lock", lock)

    def a_neighbour_writes_and_another_notices():
        scribble(bench, file)
        verifier_of(bench).check(cached)
        assert cached.doubtful == set(range(COUNT))

    lock.on_exit = a_neighbour_writes_and_another_notices
    stamp = lease.stamp()
    assert lock.on_exit is None, "it was read without the lock"
    assert stamp == before
    assert stamp != lease.file.stamp(), "it vouches for what nobody has verified"


def test_a_file_that_is_written_faster_than_it_is_verified_has_no_stamp(
    bench, file, lease, monkeypatch
):
    data = verifier_of(bench)._data
    matches, compared = data.matches, []

    def matches_and_write(cached, index, digest):
        compared.append(index)
        found = matches(cached, index, digest)
        scribble(bench, file, index=0)  # always the same bytes: only the stamp moves
        return found

    scribble(bench, file, index=0)
    monkeypatch.setattr(data, "matches", matches_and_write)
    assert lease.stamp() == NO_STAMP
    assert lease.file.stamp() != NO_STAMP, "no file has it, so that whoever compares asks again"
    assert len(compared) >= ROUNDS_LIMIT
    monkeypatch.undo()
    assert lease.stamp() == lease.file.stamp()
    assert lease.digests() == [None, *(block_digest(file, at, BLOCK) for at in (1, 2))]
    assert bench.read(file, 1) == block_bytes(file, 1, BLOCK)
