"""Policies under ``cachefs up``: with the real processes, a paced origin, and readers that come and go."""

import random
import signal
import threading
from contextlib import suppress

import pytest

from cachefs.config.schema import ReaderConfig
from cachefs.errors import CacheFSError
from cachefs.sdk import open_dataset
from tests.integration.local_systems import LocalSystem
from tests.integration.systems import wait_for

pytestmark = pytest.mark.slow
CONTENT = random.Random(53).randbytes(60 * 64 * 1024 + 5)
READERS = 5
"""Each fetches four blocks at once, and a worker fills eight: the others wait in its queue."""
NETWORK = ReaderConfig(local=False, block_cache_bytes=0, readahead_bytes=0)
IDLE = """
pools:
  default:
    least: 0
    most: 2
    cooldown: 1s
    rules:
      - idle: 3s
"""
QUEUE = """
pools:
  default:
    most: 2
    cooldown: 1s
    rules:
      - target: {queued_fills: 2}
"""
DATASETS = """
datasets:
  "*": {demote_after: 1s, evict_after: 6s}
  kept: {}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with LocalSystem(tmp_path_factory.mktemp("policies") / "state") as system:
        system.up("--workers", "1", "--memory", "64MiB")
        yield system


@pytest.fixture
def system(running):
    """Return a system of one worker, with memory, on which nothing is set."""
    running.have(workers=1)
    return running


def set_policies(system, tmp_path, text):
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    return system.do("policy", "set", str(path))


def read(system, name, path=None):
    """Read a file whole, over the network, as a process would that comes for it alone."""
    with open_dataset(name, state=system.folder.path, config=NETWORK) as dataset:
        return dataset.read(path or f"{name}.bin")


def told(system, kind="pool-changed"):
    events = system.api.get("/v1/events?limit=1000")["events"]
    return [one["message"] for one in events if one["kind"] == kind]


def test_an_idle_pool_goes_to_zero_and_a_reader_wakes_it(system, origin, name, tmp_path):
    system.do("dataset", "add", name, f"{origin.url}/{name}.bin")
    assert read(system, name) == CONTENT
    set_policies(system, tmp_path, IDLE)
    wait_for(lambda: not system.workers(), seconds=30)
    assert read(system, name) == CONTENT
    zero, one = told(system)[-2:]
    assert "0 workers, by policy, because nothing was read for" in zero
    assert "1 worker, by policy, because somebody reads" in one


def test_a_reader_that_has_a_dataset_open_wakes_its_pool(system, origin, name, tmp_path):
    system.do("dataset", "add", name, f"{origin.url}/{name}.bin")
    with (
        open_dataset(name, state=system.folder.path, config=NETWORK) as dataset,
        dataset.open(f"{name}.bin") as file,
    ):
        assert file.read_at(0, 1000) == CONTENT[:1000]
        set_policies(system, tmp_path, IDLE)
        wait_for(lambda: not system.workers(), seconds=30)
        assert file.read_at(200_000, 1000) == CONTENT[200_000:201_000]
    assert told(system)[-1] == "0 → 1 worker, by policy, because somebody reads"


def test_a_queue_of_fills_grows_the_pool_and_the_policy_outlives_the_coordinator(
    system, origin, name, tmp_path
):
    many = origin.folder / "many"
    many.mkdir()
    for number in range(READERS):
        (many / f"{number}.bin").write_bytes(CONTENT)
    system.do("dataset", "add", name, f"{origin.url}/many/")
    set_policies(system, tmp_path, QUEUE)
    killed = system.processes()["coordinator"]
    killed.send(signal.SIGKILL)
    wait_for(lambda: system.processes().get("coordinator", killed) != killed)
    wait_for(lambda: system.run("policy", "list").returncode == 0)
    assert system.ask("policy", "list")["pools"]["default"]["most"] == 2
    origin.pause_seconds = 1.0
    copies = {}

    def copy(number):
        copies[number] = read(system, name, f"{number}.bin")

    readers = [threading.Thread(target=copy, args=(number,)) for number in range(READERS)]
    for reader in readers:
        reader.start()
    wait_for(lambda: len(system.workers()) == 2, seconds=30)
    origin.pause_seconds = 0.0
    for reader in readers:
        reader.join(60)
    assert copies == dict.fromkeys(range(READERS), CONTENT)
    why = told(system)[-1]
    assert why.startswith("1 → 2 workers, by policy, because")
    assert "fills are queued a worker, 2 are aimed at" in why


def test_idle_datasets_leave_memory_then_the_cache_and_others_stay(system, origin, name, tmp_path):
    (origin.folder / "other.bin").write_bytes(CONTENT[:200_000])
    for dataset, file in ((name, f"{name}.bin"), ("kept", "other.bin")):
        system.do("dataset", "add", dataset, f"{origin.url}/{file}")
        system.do("warm", dataset)
    asked = origin.bytes_asked

    def tiers(dataset):
        with suppress(CacheFSError):
            shares = system.api.get(f"/v1/residency/default/{dataset}")["shares"]
            return {share["tier"] for share in shares if share["bytes"]}
        return {"unknown"}

    assert tiers(name) == tiers("kept") == {"memory"}
    set_policies(system, tmp_path, DATASETS)
    wait_for(lambda: tiers(name) == {"disk"})
    wait_for(lambda: tiers(name) == set(), seconds=30)
    assert tiers("kept") == {"memory"}
    assert origin.bytes_asked == asked, "the origin paid for nothing of this"
