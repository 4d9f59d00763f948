"""Drains of workers that are real processes: who leaves has handed over, and the origin pays nothing."""

import random
import threading

import pytest

from cachefs.core.blocks import block_count
from cachefs.errors import CacheFSError, ConflictError
from cachefs.transport.control import worker_channel
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc
from cachefs.workers import handover as handing
from cachefs.workers.control import WorkerControl
from tests.integration.conftest import WORKERS
from tests.integration.systems import Readers, wait_for
from tests.integration.workers.conftest import BLOCK

COUNT = 45
CONTENT = random.Random(41).randbytes((COUNT - 1) * BLOCK + 77)
DEADLINE_SECONDS = 8.0
CONFIG = {"local": False, "block_cache_bytes": 0, "readahead_bytes": 0, "stall_seconds": 1.0}


@pytest.fixture
def warmed(system, origin, name):
    """Have three workers, each of which holds what it owns of one file, and nothing else."""
    system.forget()
    system.add(name, f"{origin.url}/{name}.bin")
    assert system.wait_for_job(system.warm(name))["state"] == "done"
    assert origin.bytes_asked == len(CONTENT)
    return name


def drain(system, name, *, dry_run=False):
    return system.api.post(f"/v1/members/{name}/drain", {"dry_run": dry_run})


def try_drain(system, name):
    """Ask once more how far a drain is, and begin it again if it has failed."""
    try:
        return drain(system, name)["done"]
    except CacheFSError:
        return False


def held_by(system, name, worker):
    """Return the blocks that a worker holds, as the coordinator knows."""
    blocks = system.api.get(f"/v1/explain?dataset={name}&path={name}.bin")["blocks"]
    return {
        block["index"]
        for block in blocks
        if worker in {each["worker"] for each in block["holders"]}
    }


def read_all(system, name):
    with system.open(name, deadline_seconds=DEADLINE_SECONDS, **CONFIG) as dataset:
        assert dataset.read(f"{name}.bin") == CONTENT


@pytest.mark.slow
def test_a_worker_hands_over_what_only_it_holds_and_then_leaves(system, origin, warmed):
    mine = held_by(system, warmed, "w1")
    plan = drain(system, "w1", dry_run=True)
    assert (plan["blocks"], plan["done"]) == (len(mine), False)
    assert not any(each["draining"] for each in system.api.get("/v1/members")["members"])
    dataset = system.open(warmed, deadline_seconds=DEADLINE_SECONDS, **CONFIG)
    with Readers(
        dataset, f"{warmed}.bin", CONTENT, span=2 * BLOCK, deadline_seconds=DEADLINE_SECONDS
    ) as readers:
        began = drain(system, "w1")
        assert not began["done"]
        assert "w1" in system.members(), "it serves until all is handed over"
        wait_for(lambda: drain(system, "w1")["done"])
        wait_for(lambda: held_by(system, warmed, "w2") | held_by(system, warmed, "w3") >= mine)
        wait_for(lambda: system.members() == {"w2", "w3"})
        system.kill("w1")
        readers.wait_for_more(50)
    readers.check()
    assert readers.errors == []
    read_all(system, warmed)
    assert origin.bytes_asked == len(CONTENT), "a drain costs the origin nothing"


@pytest.mark.slow
def test_a_new_owner_that_dies_meanwhile_is_left_out_and_the_rest_is_handed_over(
    system, origin, warmed
):
    mine, lost = held_by(system, warmed, "w1"), held_by(system, warmed, "w2")
    drain(system, "w1")
    system.kill("w2")  # before it was asked for anything: others must hear of the drain first
    wait_for(lambda: system.members() == {"w1", "w3"})
    wait_for(lambda: try_drain(system, "w1"))
    wait_for(lambda: system.members() == {"w3"})
    system.kill("w1")
    read_all(system, warmed)
    again = {first // BLOCK for (_, first, _), times in origin.asked.items() if times > 1}
    assert again == lost, "what died with it, and nothing that was drained"
    assert not again & mine


@pytest.mark.slow
def test_who_is_killed_while_it_drains_comes_back_with_its_blocks(system, origin, warmed):
    mine = held_by(system, warmed, "w1")
    assert not drain(system, "w1")["done"]
    system.kill("w1")
    system.restart("w1")
    system.settle(*WORKERS)
    wait_for(lambda: held_by(system, warmed, "w1") == mine)
    read_all(system, warmed)
    assert origin.bytes_asked == len(CONTENT)


@pytest.mark.slow
def test_two_that_drain_at_once_do_not_hand_over_to_each_other(system, origin, warmed):
    drain(system, "w1")
    drain(system, "w2")
    wait_for(lambda: try_drain(system, "w1") and try_drain(system, "w2"))
    wait_for(lambda: system.members() == {"w3"})
    for name in ("w1", "w2"):
        system.kill(name)
    read_all(system, warmed)
    assert origin.bytes_asked == len(CONTENT)
    with pytest.raises(ConflictError):
        drain(system, "w3", dry_run=True)


def test_the_new_owners_are_asked_at_the_same_time(site, monkeypatch):
    """Each answer is mostly waited for, and a drain that asked in turn would take their sum."""
    together = threading.Barrier(2)
    get_resident = WorkerControl.GetResident

    def answer_with_another(control, request, context):
        together.wait(10)
        return get_resident(control, request, context)

    monkeypatch.setattr(WorkerControl, "GetResident", answer_with_another)
    monkeypatch.setattr(handing, "QUESTION_FILES", 1)
    worker = site.add("w1")
    site.wait_until(lambda: worker.renewal.registered)
    file = site.file("model.bin")
    deadline = site.runtime.monotonic() + 10.0
    for index in range(block_count(file.entry.size, BLOCK)):
        with worker.filler.obtain(file, index, only_cached=False, deadline=deadline):
            pass
    for name in ("w2", "w3"):
        site.add(name)
    site.wait_until(lambda: len(worker.knowledge.view(deadline=0).members) == 3)
    with worker_channel(worker.member.control_address, site.token) as channel:
        stub = rpc.WorkerStub(channel.channel)
        plan = channel.call(stub.Drain, pb.DrainRequest(dry_run=True))
    assert plan.blocks == block_count(file.entry.size, BLOCK)
    assert not together.broken
