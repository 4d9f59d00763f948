"""Joins of workers that are real processes: they get what is theirs from others, not from the origin."""

import random

import pytest

from tests.integration.systems import Readers, System, wait_for
from tests.integration.workers.conftest import BLOCK

COUNT = 60
CONTENT = random.Random(43).randbytes((COUNT - 1) * BLOCK + 99)
DEADLINE_SECONDS = 8.0
CONFIG = {
    "local": False,
    "block_cache_bytes": 0,
    "readahead_bytes": 0,
    # A busy machine makes owners slow; that readers then turn to others is not what is tested here.
    "hedge_seconds_min": DEADLINE_SECONDS,
    "stall_seconds": DEADLINE_SECONDS,
}


@pytest.fixture
def grow(tmp_path, origin):
    """Return what makes a system of some workers, each of which holds what it owns of one file."""
    (origin.folder / "weights.bin").write_bytes(CONTENT)
    with System(tmp_path, block_size=BLOCK) as system:

        def make(*names, **options):
            system.start_coordinator()
            for name in names:
                system.start_worker(name, move_delay_seconds=0.5, **options)
            system.settle(*names)
            system.add("m", f"{origin.url}/weights.bin")
            assert system.wait_for_job(system.warm("m"))["state"] == "done"
            assert origin.bytes_asked == len(CONTENT)
            return system

        yield make


def blocks(system):
    return system.api.get("/v1/explain?dataset=m&path=weights.bin")["blocks"]


def owned_by(system, name):
    return {block["index"] for block in blocks(system) if name in block["owners"]}


def held_by(system, name):
    return {
        block["index"]
        for block in blocks(system)
        if name in {each["worker"] for each in block["holders"]}
    }


def lacking(system, *names):
    return {name: owned_by(system, name) - held_by(system, name) for name in names}


def wait_until_moved(system, *names):
    wait_for(
        lambda: not any(lacking(system, *names).values()),
        seconds=30,
        what=lambda: f"lacking: {lacking(system, *names)}",
    )


def taken(system, name):
    """Return the bytes that a worker has taken from others."""
    members = system.api.get("/v1/members")["members"]
    own = next(each for each in members if each["worker"] == name)
    return own["statistics"]["filled_bytes"]["peer"]


def size_of(indexes):
    return sum(len(CONTENT[index * BLOCK : (index + 1) * BLOCK]) for index in indexes)


@pytest.mark.slow
def test_a_newcomer_gets_its_share_from_peers_and_nothing_else_moves(grow, origin):
    system = grow("w1", "w2", "w3")
    dataset = system.open("m", deadline_seconds=DEADLINE_SECONDS, **CONFIG)
    with Readers(
        dataset, "weights.bin", CONTENT, span=BLOCK, deadline_seconds=DEADLINE_SECONDS
    ) as readers:
        system.start_worker("w4", move_delay_seconds=0.5)
        system.wait_for_members("w1", "w2", "w3", "w4")
        wait_until_moved(system, "w1", "w2", "w3", "w4")
        readers.wait_for_more()
    readers.check()
    assert readers.errors == []
    assert origin.bytes_asked == len(CONTENT)
    mine = owned_by(system, "w4")
    assert 0.1 < len(mine) / COUNT < 0.4
    wait_for(lambda: taken(system, "w4") >= size_of(mine))
    assert taken(system, "w4") <= 1.1 * size_of(mine)
    # Former owners keep what they have until room is needed.
    held = [held_by(system, name) for name in ("w1", "w2", "w3")]
    assert set().union(*held) == set(range(COUNT))


@pytest.mark.slow
def test_when_five_join_one_at_once_reads_cost_the_origin_nothing(grow, origin):
    system = grow("w1")
    # Nothing moves in the background: all that is read comes through the newcomers.
    names = [f"w{number}" for number in range(2, 7)]
    system.kill("w1")
    system.restart("w1")
    for name in names:
        system.start_worker(name, move_delay_seconds=600.0)
    system.settle("w1", *names)
    with system.open("m", deadline_seconds=DEADLINE_SECONDS, **CONFIG) as dataset:
        assert dataset.read("weights.bin") == CONTENT
    assert origin.bytes_asked == len(CONTENT)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["w1", "w3"])
def test_whoever_is_killed_in_the_middle_of_a_join_it_goes_on(grow, origin, victim):
    """The giver or the newcomer: both begin again where the blocks are."""
    slow = {"move_bytes_rate": 6.0 * BLOCK}
    system = grow("w1", "w2", **slow)
    system.start_worker("w3", move_delay_seconds=0.5, **slow)
    system.wait_for_members("w1", "w2", "w3")
    wait_for(lambda: held_by(system, "w3"), what="nothing moves")
    assert lacking(system, "w3")["w3"], "it was over before anybody was killed"
    system.kill(victim)
    system.restart(victim)
    system.wait_for_members("w1", "w2", "w3")
    wait_until_moved(system, "w1", "w2", "w3")
    assert origin.bytes_asked == len(CONTENT)
    with system.open("m", deadline_seconds=DEADLINE_SECONDS, **CONFIG) as dataset:
        assert dataset.read("weights.bin") == CONTENT
    assert origin.bytes_asked == len(CONTENT)


@pytest.mark.slow
def test_what_moves_is_throttled_and_reads_are_not(grow, origin):
    system = grow("w1", move_bytes_rate=2.0 * BLOCK)
    system.start_worker("w2", move_delay_seconds=0.5)
    system.settle("w1", "w2")
    wait_for(lambda: held_by(system, "w2"), what="nothing moves")
    with system.open("m", deadline_seconds=DEADLINE_SECONDS, **CONFIG) as dataset:
        assert dataset.read("weights.bin") == CONTENT
    # Two blocks a second: at that pace what was read would have taken a quarter of a minute.
    assert origin.bytes_asked == len(CONTENT)
    wait_until_moved(system, "w2")
