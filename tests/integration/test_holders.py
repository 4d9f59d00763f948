"""Holders: workers that have what others are asked for, and die, come back or freeze while they are asked.

What counts is what the origin pays. While members stay, nothing is read from it twice; a holder that
does not answer costs its own blocks once more at most, and with a replica nothing at all.
"""

import random
import signal

import pytest

from tests.integration.conftest import WORKERS
from tests.integration.systems import RUNTIME, Readers, wait_for

BLOCK = 64 * 1024
COUNT = 40
CONTENT = random.Random(31).randbytes((COUNT - 1) * BLOCK + 321)
DEADLINE_SECONDS = 8.0
CONFIG = {
    "local": False,
    "block_cache_bytes": 0,
    "readahead_bytes": 0,
    "deadline_seconds": DEADLINE_SECONDS,
    "stall_seconds": 1.0,
}

pytestmark = pytest.mark.slow


@pytest.fixture
def warmed(system, origin, name):
    """Return a function that makes a dataset of which every owner holds its blocks."""

    def make(replicas=1):
        system.add(name, f"{origin.url}/{name}.bin", replicas=replicas)
        job = system.wait_for_job(system.warm(name))
        assert job["state"] == "done", job
        assert origin.bytes_asked == len(CONTENT)
        return name

    return make


def explained(system, name):
    return system.api.get(f"/v1/explain?dataset={name}&path={name}.bin")["blocks"]


def holders(system, name):
    """Return who holds each block, as the coordinator knows it."""
    return [{one["worker"] for one in block["holders"]} for block in explained(system, name)]


def read_all(system, name, **config):
    with system.open(name, **{**CONFIG, **config}) as dataset:
        assert dataset.read(f"{name}.bin") == CONTENT
        return dataset.statistics()


def readers(system, name):
    return Readers(
        system.open(name, **CONFIG),
        f"{name}.bin",
        CONTENT,
        span=2 * BLOCK,
        deadline_seconds=DEADLINE_SECONDS,
    )


def asked_twice(origin):
    return {first // BLOCK for (_, first, _), times in origin.asked.items() if times > 1}


def test_whoever_is_asked_first_everything_is_filled_once(system, origin, name):
    system.add(name, f"{origin.url}/{name}.bin", replicas=2)
    for _ in range(3):
        read_all(system, name)
    assert origin.bytes_asked == len(CONTENT)


def test_a_worker_that_joins_takes_from_holders_what_it_owns_now(system, origin, warmed):
    name = warmed()
    system.start_worker("w4")
    try:
        system.settle(*WORKERS, "w4")
        wait_for(
            lambda: "w4" in {each for one in explained(system, name) for each in one["owners"]}
        )
        for _ in range(2):
            read_all(system, name)
        wait_for(lambda: any("w4" in each for each in holders(system, name)))
        assert origin.bytes_asked == len(CONTENT)
    finally:
        system.send("w4", signal.SIGTERM)
        system.settle(*WORKERS)


def test_a_holder_that_dies_while_it_is_asked_costs_its_own_blocks_once_more(
    system, origin, warmed
):
    name = warmed()
    lost = {at for at, each in enumerate(holders(system, name)) if each == {"w2"}}
    assert 0 < len(lost) < COUNT
    with readers(system, name) as reading:
        reading.wait_for_more()
        system.kill("w2")
        reading.wait_for_more(100)
        wait_for(lambda: system.members() == {"w1", "w3"})
        read_all(system, name)
        after = origin.bytes_asked
        assert asked_twice(origin) <= lost
        assert max(origin.asked.values()) <= 2
        system.restart("w2")
        system.settle(*WORKERS)
        reading.wait_for_more(100)
    reading.check()
    assert reading.errors == [], "the next in placement could have served it"
    read_all(system, name)
    assert origin.bytes_asked == after, "who came back has its blocks again"


def test_a_holder_that_dies_costs_the_origin_nothing_when_there_is_a_replica(
    system, origin, warmed
):
    name = warmed(replicas=2)
    assert all(len(each) == 2 for each in holders(system, name))
    with readers(system, name) as reading:
        reading.wait_for_more()
        system.kill("w1")
        reading.wait_for_more(100)
        wait_for(lambda: system.members() == {"w2", "w3"})
        read_all(system, name)
        system.restart("w1")
        system.settle(*WORKERS)
        reading.wait_for_more(50)
    reading.check()
    assert reading.errors == []
    assert origin.bytes_asked == len(CONTENT)


def test_a_holder_that_is_restarted_before_anybody_asks_costs_nothing(system, origin, warmed):
    name = warmed()
    for victim in WORKERS:
        system.kill(victim)
        system.restart(victim)
    system.settle(*WORKERS)
    statistics = read_all(system, name)
    assert origin.bytes_asked == len(CONTENT)
    assert statistics.bytes_by_source["origin"] == 0


def test_a_holder_that_freezes_while_it_is_asked_is_passed_over_in_time(system, origin, warmed):
    name = warmed()
    frozen = {at for at, each in enumerate(holders(system, name)) if each == {"w3"}}
    with readers(system, name) as reading:
        reading.wait_for_more()
        system.send("w3", signal.SIGSTOP)
        try:
            began = RUNTIME.monotonic()
            with system.open(name, **CONFIG) as dataset, dataset.open(f"{name}.bin") as file:
                index = min(frozen)
                wanted = CONTENT[index * BLOCK : (index + 1) * BLOCK]
                assert file.read_at(index * BLOCK, BLOCK) == wanted
            assert RUNTIME.monotonic() - began < DEADLINE_SECONDS
            wait_for(lambda: system.members() == {"w1", "w2"})
            reading.wait_for_more(50)
        finally:
            system.send("w3", signal.SIGCONT)
        system.settle(*WORKERS)
        reading.wait_for_more(50)
    reading.check()
    assert reading.errors == []
    assert asked_twice(origin) <= frozen
    assert max(origin.asked.values()) <= 2, "however many read it, the origin pays once more"


def test_a_holder_that_others_ask_and_that_freezes_holds_up_no_fill_for_long(
    system, origin, warmed
):
    """The owner of a block is new, and asks the frozen one first, because that is who held it."""
    name = warmed()
    system.start_worker("w4")
    try:
        system.settle(*WORKERS, "w4")
        held = {at for at, each in enumerate(holders(system, name)) if "w1" in each}
        system.send("w1", signal.SIGSTOP)
        began = RUNTIME.monotonic()
        read_all(system, name)
        assert RUNTIME.monotonic() - began < DEADLINE_SECONDS
        assert asked_twice(origin) <= held
    finally:
        system.send("w1", signal.SIGCONT)
        system.send("w4", signal.SIGTERM)
        system.settle(*WORKERS)
