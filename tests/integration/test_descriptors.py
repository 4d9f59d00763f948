"""Descriptors that workers lend: who dies with one in hand, and what happens when there are none left."""

import os
import random
import resource
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from cachefs.errors import CacheFSError
from tests.integration.systems import RUNTIME, System, wait_for

BLOCK = 64 * 1024
CONTENT = random.Random(61).randbytes(20 * BLOCK + 17)
FILES = 160
FEW_DESCRIPTORS = 96
"""Less than the files that are open at once, more than a worker needs to run."""
DEADLINE_SECONDS = 10.0
HOLD = """
import sys
from cachefs.sdk import open_dataset
with open_dataset(sys.argv[1], state=sys.argv[2]) as dataset, dataset.open(sys.argv[3]) as file:
    file.read_at(0, 1)
    print("holds", dataset.statistics().bytes_by_source["local"], flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("descriptors") / "data"
    (folder / "many").mkdir(parents=True)
    (folder / "model.bin").write_bytes(CONTENT)
    for number in range(FILES):
        (folder / "many" / f"{number:03}").write_bytes(small(number))
    return folder


def small(number):
    return random.Random(number).randbytes(1000 + number)


@pytest.fixture(scope="module")
def running(data):
    """Return a system of one worker, which may have few descriptors, and the dataset ``m``."""
    few = ("prlimit", f"--nofile={FEW_DESCRIPTORS}:{FEW_DESCRIPTORS}")
    with System(data.parent, block_size=BLOCK, lease_seconds=4.0) as system:
        system.start_coordinator()
        system.start_worker("w1", prefix=few)
        system.settle("w1")
        system.add("m", f"file://{data}")
        yield system


@pytest.fixture
def system(running):
    """Return the system, whose worker holds the dataset whole."""
    running.mend("w1")
    assert running.wait_for_job(running.warm("m"))["state"] == "done"
    return running


def leases(system):
    (member,) = system.api.get("/v1/members")["members"]
    return member["statistics"]["leases"]


def evict(system):
    return system.api.post("/v1/evict", {"dataset": "m", "paths": ["model.bin"]})


def descriptors_of(pid):
    """Return what a process has open of cache files."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            found.append(str(each.readlink()))
    return [target for target in found if ".data" in target]


def test_who_holds_a_descriptor_reads_on_when_the_worker_is_killed_and_back_again(system):
    with (
        system.open("m", deadline_seconds=DEADLINE_SECONDS, block_cache_bytes=0) as dataset,
        dataset.open("model.bin") as file,
    ):
        assert file.read_at(0, len(CONTENT)) == CONTENT
        system.kill("w1")
        assert file.read_at(BLOCK - 5, 3 * BLOCK) == CONTENT[BLOCK - 5 : 4 * BLOCK - 5]
        assert dataset.statistics().bytes_by_source["local"] == len(CONTENT) + 3 * BLOCK
        system.restart("w1")
        system.settle("w1")
        assert evict(system)["bytes"] == 0, "the kernel knows who has it open, though no lease does"
        assert file.read_at(0, len(CONTENT)) == CONTENT
    assert wait_for(lambda: evict(system)["bytes"]) == len(CONTENT)


def test_a_reader_that_is_killed_with_descriptors_in_hand_keeps_nothing(system):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, "m", str(system.folder), "model.bin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "holds 1\n"
        assert len(descriptors_of(holder.pid)) >= 1
        assert evict(system)["bytes"] == 0
        wait_for(lambda: leases(system) == 1)
        holder.send_signal(signal.SIGSTOP)
        assert evict(system)["bytes"] == 0, "who is only stopped still has it"
    finally:
        holder.kill()
        holder.communicate()
    assert wait_for(lambda: evict(system)["bytes"]) == len(CONTENT)
    wait_for(lambda: leases(system) == 0)


def test_more_files_are_open_than_a_worker_has_descriptors(system):
    worker = system.processes["w1"].pid
    with system.open("m", deadline_seconds=DEADLINE_SECONDS) as dataset, ExitStack() as stack:
        files = [stack.enter_context(dataset.open(f"many/{at:03}")) for at in range(FILES)]
        for _ in range(2):
            for number, file in enumerate(files):
                assert file.read_at(0, 5000) == small(number), number
        assert dataset.statistics().bytes_by_source["origin"] == 0
        assert len(list(Path(f"/proc/{worker}/fd").iterdir())) <= FEW_DESCRIPTORS
        # Others are served meanwhile, and the worker stays a member.
        with system.open("m", local=False, deadline_seconds=DEADLINE_SECONDS) as other:
            assert other.read("model.bin") == CONTENT
        RUNTIME.sleep(system.cluster.lease_seconds / 2)
        assert system.members() == {"w1"}
    wait_for(lambda: leases(system) == 0)
    with system.open("m", deadline_seconds=DEADLINE_SECONDS) as dataset:
        assert dataset.read("model.bin") == CONTENT
        assert dataset.statistics().bytes_by_source["local"] == len(CONTENT)


@contextmanager
def descriptors_left(count):
    """Let this process open so many more, and no others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    gaps = [number for number in range(highest) if not Path(f"/proc/self/fd/{number}").exists()]
    plugs = [os.open("/dev/null", os.O_RDONLY) for _ in gaps]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, *plugs, 0) + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in plugs:
            os.close(each)


def test_a_reader_without_descriptors_left_gets_right_bytes_or_an_error_that_says_why(system):
    with (
        system.open("m", deadline_seconds=1.0, block_cache_bytes=0, readahead_bytes=0) as dataset,
        ExitStack() as stack,
    ):
        assert dataset.read("many/000") == small(0)
        before = len(descriptors_of(os.getpid()))
        outcomes = set()
        with descriptors_left(6):
            for number in range(10):
                began = RUNTIME.monotonic()
                try:
                    file = stack.enter_context(dataset.open(f"many/{number:03}"))
                    got = file.read_at(0, 5000)
                except CacheFSError as error:
                    outcomes.add(str(error))
                else:
                    assert got == small(number)
                    outcomes.add("right")
                assert RUNTIME.monotonic() - began < 3.0
        assert "right" in outcomes
        assert len(outcomes) > 1, "there were enough, and nothing was shown"
        assert all("too many open files" in each.lower() for each in outcomes - {"right"}), outcomes
        for number in range(10):
            assert dataset.read(f"many/{number:03}") == small(number), "all is well again"
        stack.close()
    assert len(descriptors_of(os.getpid())) <= before
