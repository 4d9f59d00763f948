"""Workers that come and go under ``cachefs up``: with the real processes, and an origin that counts."""

import json
import random
import shutil
import signal

import pytest

from cachefs.cli.system.statefolder import SHARED_MEMORY, StateFolder
from tests.integration.systems import PacedOrigin
from tests.integration.test_up_down import System, until

pytestmark = pytest.mark.slow
CONTENT = random.Random(47).randbytes(40 * 64 * 1024 + 5)


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
    assert not made.folder.memory.exists()


def run(system, *words):
    done = system.run(*words)
    assert done.returncode == 0, done.stderr
    return done


def ask(system, *words):
    return json.loads(run(system, *words, "--json").stdout)


def warm(system, origin):
    run(system, "dataset", "add", "m", f"{origin.url}/weights.bin")
    run(system, "warm", "m")
    assert origin.bytes_asked == len(CONTENT)


def read(system, path):
    """Return a file's content, read over the network and by nothing kept."""
    copy = path / "copy"
    run(system, "cp", "m/weights.bin", str(copy))
    content = copy.read_bytes()
    copy.unlink()
    return content


def members(system):
    return {each["worker"] for each in ask(system, "worker", "list")}


def moved(system):
    """Whether every worker holds what it owns."""
    blocks = ask(system, "explain", "m/weights.bin")["blocks"]
    return all(
        set(block["owners"]) <= {each["worker"] for each in block["holders"]} for block in blocks
    )


def test_workers_are_added_and_removed_and_the_origin_pays_once(system, origin, tmp_path):
    system.up("--workers", "1")
    warm(system, origin)
    added = run(system, "worker", "add", "--count", "2", "--wait", "--reason", "the launch")
    assert "pool default: 1 → 3 workers" in added.stderr
    assert members(system) == {"worker-1", "worker-2", "worker-3"}
    until(lambda: moved(system), seconds=30)
    assert read(system, tmp_path) == CONTENT
    plan = ask(system, "worker", "remove", "worker-1", "--dry-run")
    assert plan["leave"] == ["worker-1"]
    drain = ask(system, "worker", "drain", "worker-1", "--dry-run")
    assert {"blocks", "bytes", "seconds"} <= drain.keys()
    run(system, "worker", "remove", "worker-1", "--wait")
    until(lambda: set(system.processes()) >= {"worker-2", "worker-3"})
    until(lambda: "worker-1" not in system.processes())
    until(lambda: not system.folder.worker("worker-1").exists())
    assert read(system, tmp_path) == CONTENT
    assert origin.bytes_asked == len(CONTENT)
    events = ask(system, "pool", "show", "default")
    assert (events["wanted"], events["live"], events["changed_by"]) == (
        2,
        2,
        "cachefs worker remove",
    )


def test_a_pool_goes_to_zero_and_comes_back_with_what_was_resident(system, origin, tmp_path):
    system.up("--workers", "2")
    warm(system, origin)
    plan = ask(system, "scale", "m", "--workers", "0", "--dry-run")
    assert (set(plan["leave"]), plan["lost_bytes"]) == ({"worker-1", "worker-2"}, len(CONTENT))
    gone = run(system, "scale", "m", "--workers", "0", "--save-map", "--wait")
    assert "map" in gone.stderr
    until(lambda: set(system.processes()) == {"supervisor", "coordinator", "gateway"})
    until(lambda: not list(system.folder.path.glob("workers/*")))
    assert [each["name"] for each in ask(system, "dataset", "list")] == ["m"]
    run(system, "down")
    # Who was scaled away does not come back with the next start.
    system.up()
    assert set(system.processes()) == {"supervisor", "coordinator", "gateway"}
    back = ask(system, "scale", "--pool", "default", "--workers", "2", "--wait")
    assert (back["live"], back["settled"]) == (2, True)
    job = ask(system, "warm", "m", "--map", "latest")
    assert (job["state"], job["bytes_total"]) == ("done", len(CONTENT))
    assert read(system, tmp_path) == CONTENT
    assert origin.bytes_asked == 2 * len(CONTENT)


@pytest.mark.parametrize("victim", ["supervisor", "coordinator", "worker-2"])
def test_whoever_is_killed_in_the_middle_of_a_drain_it_ends_well(system, origin, tmp_path, victim):
    system.up("--workers", "2")
    warm(system, origin)
    run(system, "scale", "m", "--workers", "1")
    until(lambda: '"leaving"' in system.folder.roster.read_text())
    processes = system.processes()
    processes[victim].send(signal.SIGKILL)
    until(lambda: not processes[victim].alive)
    if victim == "supervisor":
        until(lambda: not any(record.alive for record in processes.values()))
        system.up()
    until(lambda: "worker-2" not in system.folder.roster.read_text(), seconds=60)
    until(lambda: "worker-2" not in system.processes())
    until(lambda: not system.folder.worker("worker-2").exists())
    assert read(system, tmp_path) == CONTENT
    assert origin.bytes_asked == len(CONTENT)


def test_a_machine_without_room_for_another_worker_says_so(system):
    size = int(shutil.disk_usage(SHARED_MEMORY).free * 0.6) // (1 << 20)
    system.up("--workers", "1", "--memory", f"{size}MiB")
    done = system.run("worker", "add", "--wait")
    assert done.returncode == 8
    assert "the memory cannot hold another worker's" in done.stderr
    pool = ask(system, "pool", "show", "default")
    assert (pool["wanted"], pool["live"]) == (2, 1)
    run(system, "worker", "remove", "--count", "1", "--wait")
    assert ask(system, "pool", "show", "default")["problem"] == ""


def test_zones_get_what_they_shall_have_and_bounds_hold(system, origin):
    system.up("--workers", "1")
    run(system, "worker", "add", "--zone", "b", "--wait")
    assert {each["zone"] for each in ask(system, "worker", "list")} == {"", "b"}
    pool = ask(
        system, "scale", "--pool", "default", "--workers", "2", "--per-zone", "a=1,b=1", "--wait"
    )
    assert pool["live_by_zone"] == {"a": 1, "b": 1}
    bounded = ask(system, "pool", "set", "default", "--most", "2", "--reason", "two are enough")
    assert (bounded["most"], bounded["reason"]) == (2, "two are enough")
    refused = system.run("worker", "add")
    assert refused.returncode == 2
    assert "3 workers are out of the pool's bounds" in refused.stderr
    run(system, "dataset", "add", "d", f"{origin.url}/weights.bin")
    denied = system.run("pool", "set", "default", "--exclusive", "team")
    assert denied.returncode == 10
    assert "datasets of other namespaces are in the pool: default" in denied.stderr
