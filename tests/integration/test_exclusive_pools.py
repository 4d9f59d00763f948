"""Exclusive pools: another namespace's bytes and bandwidth stay out of them."""

import random

import pytest

from cachefs.errors import ConflictError
from tests.integration.systems import RUNTIME, PacedOrigin, System, wait_for

pytestmark = pytest.mark.slow
CONTENT = random.Random(59).randbytes(20 * 64 * 1024 + 5)


def busy(system, worker):
    """What a worker holds, has filled and has served."""
    members = {
        each["worker"]: each["statistics"] for each in system.api.get("/v1/members")["members"]
    }
    said = members[worker]
    return {
        "blocks": sum(tier["blocks"] for tier in said["tiers"]),
        "filled": sum(said["filled_bytes"].values()),
        "served": sum(said["served_bytes"].values()),
    }


def test_reads_and_warm_ups_of_another_namespace_do_not_touch_an_exclusive_pool(tmp_path):
    folder = tmp_path / "bucket"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(CONTENT)
    with PacedOrigin(folder) as origin, System(tmp_path) as system:
        system.start_coordinator()
        system.start_worker("theirs", pool="gpu")
        system.start_worker("ours")
        system.settle("theirs", "ours")
        change = {"exclusive": "team", "by": "test", "reason": ""}
        system.api.fetch("PUT", "/v1/pools/gpu", change)
        with pytest.raises(ConflictError, match="exclusive to the namespace team"):
            system.add("other/m", f"{origin.url}/", pool="gpu")
        system.add("other/m", f"{origin.url}/")
        with pytest.raises(ConflictError):
            system.api.fetch("PATCH", "/v1/datasets/other/m", {"pool": "gpu"})
        job = system.wait_for_job(system.warm("other/m"))
        assert job["state"] == "done"
        with system.open("other/m", local=False) as dataset, dataset.open("weights.bin") as file:
            assert file.read() == CONTENT
        wait_for(lambda: busy(system, "ours")["served"] >= len(CONTENT))
        RUNTIME.sleep(1.0)  # another renewal of both
        assert busy(system, "theirs") == {"blocks": 0, "filled": 0, "served": 0}
        # That it could have been seen: the pool's own namespace does touch it.
        system.add("team/m", f"{origin.url}/", pool="gpu")
        assert system.wait_for_job(system.warm("team/m"))["state"] == "done"
        wait_for(lambda: busy(system, "theirs")["blocks"] == 21)
