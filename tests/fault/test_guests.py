"""Copies for a crowd in real tiers: they take a share at most, and are the first to go."""

import pytest

from cachefs.testing.blocks import block_bytes, make_file
from tests.fault.test_openers import mapped

BLOCK = 4096
IDLE_SECONDS = 60.0


@pytest.fixture
def file(bench):
    bench.open(8, low_mark=1.0)
    return make_file("hot", 4 * BLOCK)


def invite(bench, file, *indexes):
    bench.fill(file, *indexes)
    for index in indexes:
        bench.store.mark_guest(file.entry.file_version, index)


def settle(bench, *, later=IDLE_SECONDS + 1.0, own=(), unknown=(), all_of_them=False):
    now = bench.store._runtime.monotonic() + later
    return bench.store.guests.settle(
        lambda _, index: None if index in unknown else index in own,
        now=now,
        idle_seconds=IDLE_SECONDS,
        all_of_them=all_of_them,
    )


def test_a_guest_that_nobody_reads_goes_and_the_blocks_that_are_owned_stay(bench, file):
    bench.fill(file, 0)
    invite(bench, file, 1, 2)
    assert settle(bench, later=0.0) == 0
    assert bench.resident(file) == [0, 1, 2]
    assert settle(bench) == 2
    assert bench.resident(file) == [0]
    assert len(bench.store.guests) == 0
    assert bench.tier().used_bytes == BLOCK


def test_a_guest_that_is_read_stays(bench, file):
    invite(bench, file, 1)
    assert settle(bench, later=IDLE_SECONDS - 1.0) == 0
    assert bench.read(file, 1) == block_bytes(file, 1, BLOCK)


def test_a_guest_that_has_become_the_workers_own_is_a_block_like_any_other(bench, file):
    invite(bench, file, 1, 2)
    assert settle(bench, own=[1]) == 1
    assert bench.resident(file) == [1]
    assert settle(bench) == 0


def test_when_the_members_have_changed_also_guests_that_are_read_become_the_workers_own(
    bench, file
):
    invite(bench, file, 1, 2)
    settle(bench, later=0.0, own=[1])
    assert len(bench.store.guests) == 2
    settle(bench, later=0.0, own=[1], all_of_them=True)
    assert len(bench.store.guests) == 1


def test_a_guest_stays_while_nobody_can_say_whose_it_is(bench, file):
    invite(bench, file, 1)
    assert settle(bench, unknown=[1]) == 0
    assert settle(bench) == 1


def test_guests_go_before_older_blocks(bench, file):
    bench.fill(file, 0)
    other = make_file("other", 9 * BLOCK)
    bench.fill(other, *range(6))
    invite(bench, file, 1)
    bench.read(file, 1)
    bench.fill(other, 6)
    assert bench.resident(file) == [0]


def test_pins_keep_what_is_owned_and_not_the_guests(bench, file):
    bench.fill(file, 0)
    invite(bench, file, 1)
    bench.store.set_pins([file.entry.file_version], {})
    assert settle(bench) == 1
    assert bench.resident(file) == [0]


def test_a_guest_that_is_open_elsewhere_stays_until_it_is_not(bench, file):
    invite(bench, file, 1)
    with mapped(bench.data_path(file)):
        assert settle(bench) == 0
        assert bench.resident(file) == [1]
    assert settle(bench, later=2 * IDLE_SECONDS) == 1
    assert bench.resident(file) == []


def test_a_guest_that_is_being_sent_stays(bench, file):
    invite(bench, file, 1)
    with bench.store.find(file, 1):
        assert settle(bench) == 0
    assert settle(bench) == 1


def test_guests_take_a_share_of_the_tiers_at_most(bench, file):
    invite(bench, file, 0)
    assert bench.store.guests.may_come(0.25)
    invite(bench, file, 1)
    assert not bench.store.guests.may_come(0.25)
    settle(bench)
    assert bench.store.guests.may_come(0.25)


def test_a_guest_that_rots_or_is_dropped_leaves_nothing_behind(bench, file):
    invite(bench, file, 1, 2)
    bench.store.discard(file.entry.file_version, 1, _digest(bench, file, 1))
    assert len(bench.store.guests) == 1
    bench.store.drop([file.entry.file_version])
    assert len(bench.store.guests) == 0
    assert settle(bench) == 0


def _digest(bench, file, index):
    with bench.store.find(file, index) as held:
        return held.digest


def test_after_a_restart_a_guest_is_a_block_like_any_other(bench, file):
    invite(bench, file, 1)
    bench.store.close()
    bench.restart()
    assert settle(bench) == 0
    assert bench.resident(file) == [1]
