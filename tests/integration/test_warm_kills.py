"""Warm-ups, also while processes are killed and stopped: each block is asked of the origin once, or the end is clear.

The origin is slow, so that each of these happens in the middle.
"""

import random
import signal

import pytest

from cachefs.errors import CacheFSError
from tests.integration.conftest import WORKERS
from tests.integration.systems import RUNTIME, Readers, wait_for

BLOCK = 64 * 1024
COUNT = 60
CONTENT = random.Random(11).randbytes(COUNT * BLOCK)
DEADLINE_SECONDS = 8.0

pytestmark = pytest.mark.slow


def begin(system, origin, name):
    """Start a warm-up of which some is done, and most is to come; return its id."""
    origin.pause_seconds = 0.3
    system.add(name, f"{origin.url}/{name}.bin")
    job = system.warm(name)
    wait_for(lambda: len(times_asked(origin, name)) >= 5)
    assert len(times_asked(origin, name)) < COUNT
    return job


def times_asked(origin, name):
    return origin.times_asked(f"{name}.bin", BLOCK)


def _resident(system, name):
    blocks = system.api.get(f"/v1/explain?dataset={name}&path={name}.bin")["blocks"]
    return [index for index, block in enumerate(blocks) if block["holders"]]


def test_a_warm_up_outlives_its_coordinator_and_asks_for_no_block_twice(system, origin, name):
    job = begin(system, origin, name)
    system.kill("coordinator")
    RUNTIME.sleep(0.5)
    system.restart("coordinator")
    assert system.wait_for_job(job)["state"] == "done"
    asked = times_asked(origin, name)
    assert sorted(asked) == list(range(COUNT))
    assert set(asked.values()) == {1}


def test_a_killed_worker_costs_the_warm_up_and_its_readers_nothing_but_its_own_blocks(
    system, origin, name
):
    job = begin(system, origin, name)
    dataset = system.open(name, local=False, deadline_seconds=DEADLINE_SECONDS)
    with Readers(
        dataset, f"{name}.bin", CONTENT, span=2 * BLOCK, deadline_seconds=DEADLINE_SECONDS
    ) as readers:
        system.kill("w2")
        system.restart("w2")
        assert system.wait_for_job(job)["state"] == "done"
        readers.wait_for_more()
    readers.check()
    assert readers.errors == []
    asked = times_asked(origin, name)
    # The others fill for the killed one, each at its readers' wish; all else is asked for once.
    assert max(asked.values()) <= 4
    assert sum(times == 1 for times in asked.values()) >= COUNT // 2


def test_a_stopped_worker_is_left_out_until_it_goes_on(system, origin, name):
    job = begin(system, origin, name)
    system.send("w2", signal.SIGSTOP)
    wait_for(lambda: system.members() == {"w1", "w3"})
    assert system.wait_for_job(job)["state"] == "done"
    system.send("w2", signal.SIGCONT)
    system.wait_for_members(*WORKERS)
    with system.open(name) as dataset:
        assert dataset.read(f"{name}.bin") == CONTENT


def test_a_warm_up_of_an_object_that_is_replaced_fails_and_nothing_is_mixed(
    system, origin, name, tmp_path
):
    job = begin(system, origin, name)
    other = random.Random(12).randbytes(len(CONTENT))
    (tmp_path / "new").write_bytes(other)
    (tmp_path / "new").replace(origin.folder / f"{name}.bin")
    ended = system.wait_for_job(job)
    assert ended["state"] == "failed"
    assert "changed" in ended["failure"]
    with system.open(name, deadline_seconds=3.0) as dataset, dataset.open(f"{name}.bin") as file:
        outcomes = set()
        for index in range(0, COUNT, 6):
            try:
                got = file.read_at(index * BLOCK, BLOCK)
            except CacheFSError:
                outcomes.add("error")
            else:
                assert got == CONTENT[index * BLOCK : (index + 1) * BLOCK]
                outcomes.add("right")
        assert "error" in outcomes


def test_an_origin_that_stands_still_stops_the_warm_up_but_no_read_of_what_is_here(
    system, origin, name
):
    job = begin(system, origin, name)
    origin.gate.clear()
    with (
        system.open(name, local=False, block_cache_bytes=0, readahead_bytes=0) as dataset,
        dataset.open(f"{name}.bin") as file,
    ):
        resident = wait_for(lambda: _resident(system, name))
        for index in resident:
            wanted = CONTENT[index * BLOCK : (index + 1) * BLOCK]
            began = RUNTIME.monotonic()
            assert file.read_at(index * BLOCK, len(wanted)) == wanted
            assert RUNTIME.monotonic() - began < 2.0
    assert system.job(job)["state"] == "running"
    origin.pause_seconds = 0.0
    origin.gate.set()
    assert system.wait_for_job(job)["state"] == "done"


def test_a_warm_up_keeps_its_rate_over_all_workers(system, origin, name):
    system.add(name, f"{origin.url}/{name}.bin")
    body = {"dataset": name, "rate": 20 * BLOCK, "key": "slowly"}
    began = RUNTIME.monotonic()
    job = system.api.post("/v1/warm", body)
    assert system.api.post("/v1/warm", body)["id"] == job["id"]
    assert system.wait_for_job(job["id"])["state"] == "done"
    took = RUNTIME.monotonic() - began
    # Each worker begins with one block at once, and none catches up on what another did not use.
    assert took > (COUNT - len(WORKERS)) / 20 - 0.2, took
    assert origin.bytes_asked == len(CONTENT)


def test_all_end_in_time_when_they_are_told_in_the_middle(system, origin, name):
    begin(system, origin, name)
    origin.gate.clear()
    for each in system.processes:
        system.send(each, signal.SIGTERM)
    for process in system.processes.values():
        wait_for(lambda process=process: not process.is_running(), 10.0, "it hangs")
