"""Policies under ``cachefs up``: with the real processes, a paced origin, and readers that come and go."""

import json
import os
import random
import signal
import threading
from contextlib import suppress

import pytest

from cachefs.cli.session import Session
from cachefs.cli.system.statefolder import StateFolder
from cachefs.config.schema import ReaderConfig
from cachefs.errors import CacheFSError
from cachefs.sdk import open_dataset
from tests.integration.systems import PacedOrigin
from tests.integration.test_up_down import System, until

pytestmark = pytest.mark.slow
CONTENT = random.Random(53).randbytes(60 * 64 * 1024 + 5)
READERS = 5
"""Each fetches four blocks at once, and a worker fills eight: the others wait in its queue."""
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
  "*": {demote_after: 1s, evict_after: 15s}
  kept: {}
"""


@pytest.fixture
def origin(tmp_path):
    folder = tmp_path / "bucket"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(CONTENT)
    with PacedOrigin(folder) as origin:
        yield origin


@pytest.fixture
def system(tmp_path):
    made = System(StateFolder(tmp_path / "state"))
    yield made
    records = list(made.processes().values()) if made.folder.processes.exists() else []
    made.run("down")
    assert not [record.name for record in records if record.alive]


def run(system, *words):
    done = system.run(*words)
    assert done.returncode == 0, done.stderr
    return done


def ask(system, *words):
    return json.loads(run(system, *words, "--json").stdout)


def set_policies(system, tmp_path, text, *words):
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    return run(system, "policy", "set", str(path), *words)


def workers(system):
    return {name for name in system.processes() if name.startswith("worker")}


def events(system, kind):
    api = Session(system.folder.path).api
    return [one["message"] for one in api.get("/v1/events")["events"] if one["kind"] == kind]


def test_an_idle_pool_goes_to_zero_and_a_reader_wakes_it(system, origin, tmp_path):
    system.up("--workers", "1")
    run(system, "dataset", "add", "m", f"{origin.url}/weights.bin")
    run(system, "cp", "m/weights.bin", str(tmp_path / "first"))
    set_policies(system, tmp_path, IDLE)
    until(lambda: not workers(system), seconds=30)
    run(system, "cp", "m/weights.bin", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == CONTENT
    told = events(system, "pool-changed")
    assert "0 workers, by policy, because nothing was read for" in told[-2]
    assert "1 worker, by policy, because somebody reads" in told[-1]


def test_a_reader_that_has_a_dataset_open_wakes_its_pool(system, origin):
    system.up("--workers", "1")
    run(system, "dataset", "add", "m", f"{origin.url}/weights.bin")
    path = system.folder.path.parent / "policies.yaml"
    config = ReaderConfig(local=False, block_cache_bytes=0, readahead_bytes=0)
    with (
        open_dataset("m", state=system.folder.path, config=config) as dataset,
        dataset.open("weights.bin") as file,
    ):
        assert file.read_at(0, 1000) == CONTENT[:1000]
        path.write_text(IDLE)
        run(system, "policy", "set", str(path))
        until(lambda: not workers(system), seconds=30)
        assert file.read_at(200_000, 1000) == CONTENT[200_000:201_000]
    assert events(system, "pool-changed")[-1] == "0 → 1 worker, by policy, because somebody reads"


def test_a_queue_of_fills_grows_the_pool_and_the_policy_outlives_the_coordinator(
    system, origin, tmp_path
):
    system.up("--workers", "1")
    many = origin.folder / "many"
    many.mkdir()
    for number in range(READERS):
        (many / f"{number}.bin").write_bytes(CONTENT)
    run(system, "dataset", "add", "m", f"{origin.url}/many/")
    set_policies(system, tmp_path, QUEUE)
    killed = system.processes()["coordinator"].pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: getattr(system.processes().get("coordinator"), "pid", killed) != killed)
    until(lambda: system.run("policy", "list").returncode == 0)
    assert ask(system, "policy", "list")["pools"]["default"]["most"] == 2
    origin.pause_seconds = 1.0
    copies = [
        threading.Thread(target=system.run, args=("cp", f"m/{n}.bin", str(tmp_path / f"{n}")))
        for n in range(READERS)
    ]
    for copy in copies:
        copy.start()
    until(lambda: len(workers(system)) == 2, seconds=30)
    origin.pause_seconds = 0.0
    for copy in copies:
        copy.join()
    assert {(tmp_path / f"{n}").read_bytes() == CONTENT for n in range(READERS)} == {True}
    told = events(system, "pool-changed")[-1]
    assert told.startswith("1 → 2 workers, by policy, because")
    assert "fills are queued a worker, 2 are aimed at" in told


def test_idle_datasets_leave_memory_then_the_cache_and_others_stay(system, origin, tmp_path):
    system.up("--workers", "1", "--memory", "64MiB")
    (origin.folder / "other.bin").write_bytes(CONTENT[:200_000])
    for name, file in (("m", "weights.bin"), ("kept", "other.bin")):
        run(system, "dataset", "add", name, f"{origin.url}/{file}")
        run(system, "warm", name)
    asked = origin.bytes_asked
    api = Session(system.folder.path).api

    def tiers(name):
        with suppress(CacheFSError):
            shares = api.get(f"/v1/residency/default/{name}")["shares"]
            return {share["tier"] for share in shares if share["bytes"]}
        return {"unknown"}

    assert tiers("m") == tiers("kept") == {"memory"}
    set_policies(system, tmp_path, DATASETS)
    until(lambda: tiers("m") == {"disk"})
    until(lambda: tiers("m") == set(), seconds=30)
    assert tiers("kept") == {"memory"}
    assert origin.bytes_asked == asked, "the origin paid for nothing of this"
