"""Calendars that jump by hours under running processes: leases are of seconds, and so nothing happens.

Each process has a wall clock that the test can make wrong (``clocks/sitecustomize.py``). Its monotonic
clock is the system's.
"""

import random

import pytest

from tests.integration.conftest import WORKERS
from tests.integration.systems import RUNTIME, Readers, wait_for

BLOCK = 64 * 1024
COUNT = 40
CONTENT = random.Random(51).randbytes(COUNT * BLOCK)
DEADLINE_SECONDS = 8.0
HOURS = 3600.0
CONFIG = {"local": False, "block_cache_bytes": 0, "readahead_bytes": 0, "stall_seconds": 1.0}

pytestmark = pytest.mark.slow


def gone(system):
    """Return the events that tell of a member that was lost."""
    events = system.api.get("/v1/events?limit=1000")["events"]
    return [each for each in events if each["kind"] in ("worker-gone", "worker-left")]


def test_the_clock_of_a_process_can_be_made_wrong(system, origin, name):
    """Or the tests below would show nothing."""
    before = RUNTIME.wall()
    system.move_clock("coordinator", 7 * HOURS)
    system.add(name, f"{origin.url}/{name}.bin")
    job = system.wait_for_job(system.warm(name))
    assert 7 * HOURS - 5 < job["created_at"] - before < 7 * HOURS + 60


@pytest.mark.parametrize("victim", ["coordinator", "w1"])
def test_members_stay_and_reads_go_on_when_a_clock_jumps_to_and_fro(system, origin, name, victim):
    system.add(name, f"{origin.url}/{name}.bin")
    epoch, lost = system.api.get("/v1/view")["epoch"], len(gone(system))
    dataset = system.open(name, deadline_seconds=DEADLINE_SECONDS, **CONFIG)
    with Readers(
        dataset, f"{name}.bin", CONTENT, span=2 * BLOCK, deadline_seconds=DEADLINE_SECONDS
    ) as readers:
        for seconds in (9 * HOURS, -30 * HOURS, 365 * 24 * HOURS, 0.0):
            system.move_clock(victim, seconds)
            RUNTIME.sleep(0.3)
            readers.wait_for_more(20)
        RUNTIME.sleep(system.cluster.lease_seconds)  # who renewed by the calendar has lost it now
    readers.check()
    assert readers.errors == []
    assert system.api.get("/v1/view")["epoch"] == epoch
    assert len(gone(system)) == lost
    assert origin.bytes_asked == len(CONTENT), "each block was filled once"


@pytest.mark.parametrize("seconds", [8 * HOURS, -8 * HOURS], ids=["forward", "back"])
def test_no_warm_up_is_lost_or_done_twice_when_clocks_jump_in_the_middle(
    system, origin, name, seconds
):
    origin.pause_seconds = 0.15
    system.add(name, f"{origin.url}/{name}.bin")
    job = system.warm(name)
    wait_for(lambda: len(origin.asked) >= 3)
    for process in ("coordinator", *WORKERS):
        system.move_clock(process, seconds)
    assert 0 < len(origin.asked) < COUNT
    ended = system.wait_for_job(job)
    assert (ended["state"], ended["blocks_done"]) == ("done", COUNT)
    assert origin.bytes_asked == len(CONTENT)


def test_a_lease_runs_out_by_seconds_although_the_calendar_stands_years_back(system, origin):
    for name in ("coordinator", *WORKERS):
        system.move_clock(name, -10 * 365 * 24 * HOURS)
    system.kill("w2")
    began = RUNTIME.monotonic()
    wait_for(lambda: system.members() == {"w1", "w3"}, seconds=4 * system.cluster.lease_seconds)
    assert RUNTIME.monotonic() - began > system.cluster.lease_seconds / 4
    system.restart("w2")
    system.settle(*WORKERS)


def test_a_coordinator_that_starts_in_the_past_knows_everything(system, origin, name):
    system.add(name, f"{origin.url}/{name}.bin")
    assert system.wait_for_job(system.warm(name))["state"] == "done"
    system.kill("coordinator")
    system.move_clock("coordinator", -400 * 24 * HOURS)
    system.restart("coordinator")
    system.settle(*WORKERS)
    with system.open(name, **CONFIG) as dataset:
        assert dataset.read(f"{name}.bin") == CONTENT
    assert system.wait_for_job(system.warm(name))["state"] == "done"
    assert origin.bytes_asked == len(CONTENT)


@pytest.mark.parametrize("seconds", [20 * HOURS, -20 * HOURS], ids=["forward", "back"])
def test_a_listing_ages_by_seconds_not_by_the_calendar(system, origin, name, seconds):
    path = origin.folder / f"{name}.bin"
    path.write_bytes(b"first")
    system.add(name, f"{origin.url}/{name}.bin", consistency="max_age=500ms")
    with system.open(name) as dataset:
        assert dataset.read(f"{name}.bin") == b"first"
    system.move_clock("coordinator", seconds)
    path.write_bytes(b"second")

    def sees_the_second():
        with system.open(name) as dataset:
            return dataset.read(f"{name}.bin") == b"second"

    wait_for(sees_the_second, seconds=5.0, what="the listing never ages")
