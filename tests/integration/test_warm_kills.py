"""Warm-ups while processes are killed and stopped: each block is asked of the origin once, or the end is clear.

The origin is slow, so that each of these happens in the middle.
"""

import os
import random
import signal

import pytest

from cachefs.errors import CacheFSError
from tests.integration.systems import RUNTIME, PacedOrigin, Readers, System, wait_for

BLOCK = 64 * 1024
COUNT = 60
CONTENT = random.Random(11).randbytes(COUNT * BLOCK)
DEADLINE_SECONDS = 8.0

pytestmark = pytest.mark.slow


@pytest.fixture
def origin(tmp_path):
    folder = tmp_path / "origin"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(CONTENT)
    with PacedOrigin(folder) as origin:
        yield origin


@pytest.fixture
def system(tmp_path):
    with System(tmp_path, block_size=BLOCK) as system:
        system.start_coordinator()
        for name in ("w1", "w2", "w3"):
            system.start_worker(name)
        system.wait_for_members("w1", "w2", "w3")
        yield system


def begin(system, origin):
    """Start a warm-up of which some is done, and most is to come; return its id."""
    origin.pause_seconds = 0.3
    system.add("model", f"{origin.url}/weights.bin")
    job = system.warm("model")
    wait_for(lambda: len(origin.asked) >= 5)
    assert len(origin.asked) < COUNT
    return job


def asked_of_body(origin):
    """Return how often each block was asked for."""
    asked = {}
    for (_, first, last), times in origin.asked.items():
        for index in range(first // BLOCK, last // BLOCK + 1):
            asked[index] = asked.get(index, 0) + times
    return asked


def _resident(system):
    query = "dataset=model&path=weights.bin"
    blocks = system.api.get(f"/v1/explain?{query}")["blocks"]
    return [index for index, block in enumerate(blocks) if block["holders"]]


def test_a_warm_up_outlives_its_coordinator_and_asks_for_no_block_twice(system, origin):
    job = begin(system, origin)
    system.kill("coordinator")
    RUNTIME.sleep(0.5)
    system.restart("coordinator")
    assert system.wait_for_job(job)["state"] == "done"
    asked = asked_of_body(origin)
    assert sorted(asked) == list(range(COUNT))
    assert set(asked.values()) == {1}


def test_a_killed_worker_costs_the_warm_up_and_its_readers_nothing_but_its_own_blocks(
    system, origin
):
    job = begin(system, origin)
    dataset = system.open("model", local=False, deadline_seconds=DEADLINE_SECONDS)
    with Readers(
        dataset, "weights.bin", CONTENT, span=2 * BLOCK, deadline_seconds=DEADLINE_SECONDS
    ) as readers:
        system.kill("w2")
        system.restart("w2")
        assert system.wait_for_job(job)["state"] == "done"
        readers.wait_for_more()
    readers.check()
    assert readers.errors == []
    asked = asked_of_body(origin)
    # The others fill for the killed one, each at its readers' wish; all else is asked for once.
    assert max(asked.values()) <= 4
    assert sum(times == 1 for times in asked.values()) >= COUNT // 2


def test_a_stopped_worker_is_left_out_until_it_goes_on(system, origin):
    job = begin(system, origin)
    system.send("w2", signal.SIGSTOP)
    wait_for(lambda: system.members() == {"w1", "w3"})
    assert system.wait_for_job(job)["state"] == "done"
    system.send("w2", signal.SIGCONT)
    system.wait_for_members("w1", "w2", "w3")
    with system.open("model") as dataset:
        assert dataset.read("weights.bin") == CONTENT


def test_a_warm_up_of_an_object_that_is_replaced_fails_and_nothing_is_mixed(
    system, origin, tmp_path
):
    job = begin(system, origin)
    other = random.Random(12).randbytes(len(CONTENT))
    (tmp_path / "new").write_bytes(other)
    (tmp_path / "new").replace(origin.folder / "weights.bin")
    ended = system.wait_for_job(job)
    assert ended["state"] == "failed"
    assert "changed" in ended["failure"]
    with system.open("model", deadline_seconds=3.0) as dataset, dataset.open("weights.bin") as file:
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


def test_an_origin_that_stands_still_stops_the_warm_up_but_no_read_of_what_is_here(system, origin):
    job = begin(system, origin)
    origin.gate.clear()
    with (
        system.open("model", local=False, block_cache_bytes=0, readahead_bytes=0) as dataset,
        dataset.open("weights.bin") as file,
    ):
        resident = wait_for(lambda: _resident(system))
        for index in resident:
            wanted = CONTENT[index * BLOCK : (index + 1) * BLOCK]
            began = RUNTIME.monotonic()
            assert file.read_at(index * BLOCK, len(wanted)) == wanted
            assert RUNTIME.monotonic() - began < 2.0
    assert system.job(job)["state"] == "running"
    origin.pause_seconds = 0.0
    origin.gate.set()
    assert system.wait_for_job(job)["state"] == "done"


def test_all_end_in_time_when_they_are_told_in_the_middle(system, origin):
    begin(system, origin)
    origin.gate.clear()
    for name in system.processes:
        system.send(name, signal.SIGTERM)
    for process in system.processes.values():
        wait_for(lambda process=process: _has_ended(process.pid), 10.0, "it hangs")


def _has_ended(pid):
    return os.waitpid(pid, os.WNOHANG)[0] == pid
