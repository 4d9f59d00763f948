"""Workers that come and go under ``cachefs up``: with the real processes, and an origin that counts."""

import random
import shutil
import signal

import pytest

from cachefs.cli.system.statefolder import SHARED_MEMORY
from tests.integration.local_systems import LocalSystem
from tests.integration.systems import wait_for

pytestmark = pytest.mark.slow
CONTENT = random.Random(47).randbytes(40 * 64 * 1024 + 5)
ALWAYS = {"supervisor", "coordinator"}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with LocalSystem(tmp_path_factory.mktemp("scaling") / "state") as system:
        yield system


@pytest.fixture
def system(running):
    """Return a system of two workers, on which nothing is set."""
    running.have(workers=2)
    return running


def warm(system, origin, name):
    system.do("dataset", "add", name, f"{origin.url}/{name}.bin")
    system.do("warm", name)
    assert origin.bytes_asked == len(CONTENT)


def read(system, name, folder):
    """Return a file's content, read over the network and by nothing kept."""
    copy = folder / "copy"
    system.do("cp", f"{name}/{name}.bin", str(copy))
    content = copy.read_bytes()
    copy.unlink()
    return content


def moved(system, name):
    """Whether every worker holds what it owns."""
    blocks = system.ask("explain", f"{name}/{name}.bin")["blocks"]
    return all(
        set(block["owners"]) <= {each["worker"] for each in block["holders"]} for block in blocks
    )


def test_workers_are_added_and_removed_and_the_origin_pays_once(system, origin, name, tmp_path):
    before = system.workers()
    warm(system, origin, name)
    added = system.do("worker", "add", "--count", "1", "--wait", "--reason", "the launch")
    assert "pool default: 2 → 3 workers" in added.stderr
    assert {each["worker"] for each in system.ask("worker", "list")} == system.workers()
    assert len(system.workers()) == 3
    wait_for(lambda: moved(system, name), seconds=30)
    assert read(system, name, tmp_path) == CONTENT
    leaver = min(before)
    plan = system.ask("worker", "remove", leaver, "--dry-run")
    assert plan["leave"] == [leaver]
    drain = system.ask("worker", "drain", leaver, "--dry-run")
    assert {"blocks", "bytes", "seconds"} <= drain.keys()
    stay = system.workers() - {leaver}
    system.do("worker", "remove", leaver, "--wait")
    wait_for(lambda: set(system.processes()) == ALWAYS | stay)
    wait_for(lambda: not system.folder.worker(leaver).exists())
    assert read(system, name, tmp_path) == CONTENT
    assert origin.bytes_asked == len(CONTENT)
    events = system.ask("pool", "show", "default")
    assert (events["wanted"], events["live"], events["changed_by"]) == (
        2,
        2,
        "cachefs worker remove",
    )


def test_a_pool_goes_to_zero_and_comes_back_with_what_was_resident(system, origin, name, tmp_path):
    warm(system, origin, name)
    plan = system.ask("scale", name, "--workers", "0", "--dry-run")
    assert (set(plan["leave"]), plan["lost_bytes"]) == (system.workers(), len(CONTENT))
    gone = system.do("scale", name, "--workers", "0", "--save-map", "--wait")
    assert "map" in gone.stderr
    wait_for(lambda: set(system.processes()) == ALWAYS)
    wait_for(lambda: not list(system.folder.path.glob("workers/*")))
    assert [each["name"] for each in system.ask("dataset", "list")] == [name]
    system.do("down")
    # Who was scaled away does not come back with the next start.
    system.up()
    assert set(system.processes()) == ALWAYS
    back = system.ask("scale", "--pool", "default", "--workers", "2", "--wait")
    assert (back["live"], back["settled"]) == (2, True)
    job = system.ask("warm", name, "--map", "latest")
    assert (job["state"], job["bytes_total"]) == ("done", len(CONTENT))
    assert read(system, name, tmp_path) == CONTENT
    assert origin.bytes_asked == 2 * len(CONTENT)


@pytest.mark.parametrize("victim", ["supervisor", "coordinator", "leaver"])
def test_whoever_is_killed_in_the_middle_of_a_drain_it_ends_well(
    system, origin, name, tmp_path, victim
):
    warm(system, origin, name)
    (leaver,) = system.ask("scale", name, "--workers", "1", "--dry-run")["leave"]
    system.do("scale", name, "--workers", "1")
    wait_for(lambda: '"leaving"' in system.folder.roster.read_text())
    processes = system.processes()
    killed = processes[leaver if victim == "leaver" else victim]
    assert killed.send(signal.SIGKILL)
    wait_for(lambda: not killed.alive)
    if victim == "supervisor":
        wait_for(lambda: not any(record.alive for record in processes.values()))
        system.up()
    wait_for(lambda: leaver not in system.folder.roster.read_text(), seconds=60)
    wait_for(lambda: leaver not in system.processes())
    wait_for(lambda: not system.folder.worker(leaver).exists())
    assert read(system, name, tmp_path) == CONTENT
    assert origin.bytes_asked == len(CONTENT)


def test_zones_get_what_they_shall_have_and_bounds_hold(system, origin, name):
    system.do("worker", "add", "--zone", "b", "--wait")
    assert {each["zone"] for each in system.ask("worker", "list")} == {"", "b"}
    pool = system.ask(
        "scale", "--pool", "default", "--workers", "2", "--per-zone", "a=1,b=1", "--wait"
    )
    assert pool["live_by_zone"] == {"a": 1, "b": 1}
    bounded = system.ask("pool", "set", "default", "--most", "2", "--reason", "two are enough")
    assert (bounded["most"], bounded["reason"]) == (2, "two are enough")
    refused = system.run("worker", "add")
    assert refused.returncode == 2
    assert "3 workers are out of the pool's bounds" in refused.stderr
    system.do("dataset", "add", name, f"{origin.url}/{name}.bin")
    denied = system.run("pool", "set", "default", "--exclusive", "team")
    assert denied.returncode == 10
    assert "datasets of other namespaces are in the pool: default" in denied.stderr


def test_a_machine_without_room_for_another_worker_says_so(local_system):
    size = int(shutil.disk_usage(SHARED_MEMORY).free * 0.6) // (1 << 20)
    local_system.up("--workers", "1", "--memory", f"{size}MiB")
    done = local_system.run("worker", "add", "--wait")
    assert done.returncode == 8
    assert "the memory cannot hold another worker's" in done.stderr
    pool = local_system.ask("pool", "show", "default")
    assert (pool["wanted"], pool["live"]) == (2, 1)
    local_system.do("worker", "remove", "--count", "1", "--wait")
    assert local_system.ask("pool", "show", "default")["problem"] == ""
