"""A crowd at workers that are real processes, each at an address of its own, as if behind its own link."""

import random
import threading

import pytest

from cachefs.config.schema import HeatConfig
from tests.integration.systems import RUNTIME, PacedOrigin, System, wait_for

BLOCK = 1024 * 1024
HOT = random.Random(44).randbytes(BLOCK)
NAMES = ("w1", "w2", "w3")
READERS = 8
HEAT = HeatConfig(askers_limit=1, idle_seconds=1.0)
CONFIG = {
    "local": False,
    "connections_limit": READERS,
    "block_cache_bytes": 0,
    "readahead_bytes": 0,
    # A busy machine makes owners slow; that readers then turn to others is not what is tested here.
    "hedge_seconds_min": 20.0,
    "stall_seconds": 20.0,
}


@pytest.fixture
def origin(tmp_path):
    folder = tmp_path / "bucket"
    folder.mkdir()
    (folder / "hot.bin").write_bytes(HOT)
    with PacedOrigin(folder) as origin:
        yield origin


@pytest.fixture
def start(tmp_path, origin):
    """Return what makes a system of three workers that know a file."""
    with System(tmp_path, block_size=BLOCK) as system:

        def make(heat):
            system.start_coordinator()
            for number, name in enumerate(NAMES, 1):
                system.start_worker(name, host=f"127.0.0.{number}", heat=heat)
            system.settle(*NAMES)
            system.add("m", f"{origin.url}/hot.bin")
            return system

        yield make


class Crowd:
    """Readers that read the same block again and again, until told to end."""

    def __init__(self, dataset):
        self.wrong = []
        self._dataset = dataset
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(READERS)]

    def _read(self):
        with self._dataset.open("hot.bin") as file:
            while not self._ended.is_set():
                file.seek(0)
                if file.read() != HOT:
                    self.wrong.append("other bytes")

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()


def statistics(system, key):
    members = system.api.get("/v1/members")["members"]
    return {each["worker"]: each["statistics"].get(key) for each in members}


def holders(system):
    [block] = system.api.get("/v1/explain?dataset=m&path=hot.bin")["blocks"]
    return {each["worker"] for each in block["holders"]}, set(block["owners"])


def served(system):
    return {
        name: sum((each or {}).values())
        for name, each in statistics(system, "served_bytes").items()
    }


@pytest.mark.slow
def test_a_crowd_is_served_by_all_workers_costs_the_origin_once_and_leaves_no_copy(start, origin):
    system = start(HEAT)
    with system.open("m", **CONFIG) as dataset:
        with Crowd(dataset) as crowd:
            wait_for(
                lambda: min(served(system).values()) > 4 * BLOCK,
                seconds=30,
                what=lambda: f"served: {served(system)}",
            )
            assert holders(system)[0] == set(NAMES)
        assert crowd.wrong == []
    assert origin.bytes_asked == len(HOT)
    assert sum(statistics(system, "referred").values()) > 0
    wait_for(lambda: holders(system)[0] == holders(system)[1], what="the copies stay")
    assert len(holders(system)[1]) == 1
    wait_for(lambda: sum(statistics(system, "guest_blocks").values()) == 0)
    with system.open("m", **CONFIG) as dataset:
        assert dataset.read("hot.bin") == HOT
    assert origin.bytes_asked == len(HOT)


@pytest.mark.slow
def test_a_crowd_outlives_the_death_of_the_owner_and_the_origin_pays_nothing(start, origin):
    system = start(HEAT)
    with system.open("m", **CONFIG | {"stall_seconds": 1.0}) as dataset:
        with Crowd(dataset) as crowd:
            wait_for(lambda: holders(system)[0] == set(NAMES), what="no copies")
            [owner] = holders(system)[1]
            system.kill(owner)
            system.wait_for_members(*set(NAMES) - {owner})
            RUNTIME.sleep(0.5)
        assert crowd.wrong == []
    assert origin.bytes_asked == len(HOT)


@pytest.mark.slow
def test_workers_at_one_address_make_no_copies_for_each_other(tmp_path, origin):
    with System(tmp_path, block_size=BLOCK) as system:
        system.start_coordinator()
        for name in NAMES:
            system.start_worker(name, heat=HEAT)
        system.settle(*NAMES)
        system.add("m", f"{origin.url}/hot.bin")
        with system.open("m", **CONFIG) as dataset, Crowd(dataset):
            wait_for(lambda: max(served(system).values()) > 20 * BLOCK)
        assert sum(statistics(system, "referred").values()) == 0
        assert len(holders(system)[0]) == 1
