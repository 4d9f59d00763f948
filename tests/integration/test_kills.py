"""Processes are killed and stopped in the middle of reads: right bytes or an error, never a hang.

One system with three supervised workers; readers read at random all the while, and check each byte.
"""

import random
import signal

import pytest

from cachefs.config.schema import ReaderConfig
from cachefs.errors import OriginUnavailableError
from cachefs.sdk import open_dataset
from cachefs.testing.faulty_origin import Fault, FaultyOrigin
from tests.integration.local_systems import LocalSystem
from tests.integration.systems import Readers, wait_for

BLOCK = 64 * 1024
CONTENT = random.Random(7).randbytes(100 * BLOCK + 17)
DEADLINE_SECONDS = 8.0
WORKERS = {"worker-1", "worker-2", "worker-3"}


@pytest.fixture(scope="module")
def origin():
    with FaultyOrigin({"model/weights.bin": CONTENT}) as server:
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory, origin):
    with LocalSystem(tmp_path_factory.mktemp("kills") / "state") as system:
        system.up("--workers", "3")
        system.do("dataset", "add", "model", f"{origin.url}/model/weights.bin")
        yield system


@pytest.fixture
def system(running):
    wait_until_whole(running)
    return running


def wait_until_whole(system):
    wait_for(lambda: system.is_answering() and system.workers() == system.members() == WORKERS)


def reading(system, *, local):
    config = ReaderConfig(
        deadline_seconds=DEADLINE_SECONDS, stall_seconds=1.0, block_cache_bytes=0, local=local
    )
    return Readers(
        open_dataset("model", state=system.folder.path, config=config),
        "weights.bin",
        CONTENT,
        span=4 * BLOCK,
        deadline_seconds=DEADLINE_SECONDS,
    )


@pytest.mark.slow
@pytest.mark.parametrize("local", [True, False], ids=["descriptors", "network"])
@pytest.mark.parametrize("victim", ["coordinator", *sorted(WORKERS)])
def test_a_process_is_killed_while_reading(system, victim, local):
    with reading(system, local=local) as readers:
        readers.wait_for_more()
        killed = system.processes()[victim]
        assert killed.send(signal.SIGKILL)
        wait_for(lambda: system.processes().get(victim, killed) != killed)
        wait_until_whole(system)
        readers.wait_for_more()
    readers.check()
    assert readers.errors == [], "another worker could have served it"


@pytest.mark.slow
@pytest.mark.parametrize("local", [True, False], ids=["descriptors", "network"])
def test_a_worker_is_stopped_while_reading(system, local):
    victim = system.processes()["worker-2"]
    with reading(system, local=local) as readers:
        readers.wait_for_more()
        victim.send(signal.SIGSTOP)
        try:
            wait_for(lambda: "worker-2" not in system.members())
            readers.wait_for_more()
        finally:
            victim.send(signal.SIGCONT)
    readers.check()
    assert readers.errors == [], "another worker could have served it"


@pytest.mark.slow
def test_the_origin_dies_while_reading(system, origin):
    with reading(system, local=False) as readers:
        readers.wait_for_more()
        origin.fail_always("model/weights.bin", Fault("reset"))
        system.api.post("/v1/evict", {"dataset": "model"})
        wait_for(lambda: any(isinstance(each, OriginUnavailableError) for each in readers.errors))
        origin.heal()
        readers.wait_for_more()
    readers.check()
    kinds = {type(each) for each in readers.errors}
    assert kinds == {OriginUnavailableError}
