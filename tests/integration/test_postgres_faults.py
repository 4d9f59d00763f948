"""The store on PostgreSQL is killed and stopped: reads go on, questions end in time, all comes back."""

import random
import signal

import pytest

from cachefs.errors import CacheFSError
from tests.integration.databases import Postgres, find_postgres
from tests.integration.systems import RUNTIME, Readers, System, wait_for

BLOCK = 64 * 1024
CONTENT = random.Random(1).randbytes(50 * BLOCK)
DEADLINE_SECONDS = 8.0

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


@pytest.fixture(scope="module")
def postgres():
    with Postgres(find_postgres()) as server:
        yield server


@pytest.fixture(scope="module")
def system(tmp_path_factory, postgres):
    folder = tmp_path_factory.mktemp("faults")
    data = folder / "data"
    data.mkdir()
    (data / "weights.bin").write_bytes(CONTENT)
    with System(folder, block_size=BLOCK, store_url=postgres.make_database("faults")) as system:
        system.start_coordinator()
        for name in ("w1", "w2"):
            system.start_worker(name)
        system.settle("w1", "w2")
        system.add("model", f"file://{data}")
        assert system.wait_for_job(system.warm("model"))["state"] == "done"
        yield system


def reading(system):
    dataset = system.open("model", local=False, deadline_seconds=DEADLINE_SECONDS)
    return Readers(
        dataset, "weights.bin", CONTENT, span=2 * BLOCK, deadline_seconds=DEADLINE_SECONDS
    )


def is_served(system):
    try:
        return bool(system.api.get("/v1/datasets"))
    except CacheFSError:
        return False


def test_a_database_that_is_killed_costs_no_read_and_comes_back(system, postgres):
    with reading(system) as readers:
        postgres.kill()
        with pytest.raises(CacheFSError) as failed:
            system.api.get("/v1/datasets", timeout_seconds=30.0)
        assert "bug" not in str(failed.value)
        RUNTIME.sleep(2 * system.cluster.lease_seconds)
        readers.wait_for_more()
        postgres.start()
        wait_for(lambda: is_served(system))
        system.wait_for_members("w1", "w2")
        readers.wait_for_more()
    readers.check()
    assert readers.errors == []
    assert system.wait_for_job(system.warm("model"))["state"] == "done"


def test_a_database_that_stands_still_keeps_nobody_who_needs_only_the_view(system, postgres):
    with reading(system) as readers:
        postgres.send(signal.SIGSTOP)
        try:
            for _ in range(5):
                began = RUNTIME.monotonic()
                assert system.members()
                assert RUNTIME.monotonic() - began < 2.0
                RUNTIME.sleep(0.5)
            readers.wait_for_more()
        finally:
            postgres.send(signal.SIGCONT)
        wait_for(lambda: is_served(system))
        system.wait_for_members("w1", "w2")
    readers.check()
    assert readers.errors == []
