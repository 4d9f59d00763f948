"""Half-open connections: the other side is gone, and no FIN or RST ever says so.

One worker is on a machine of its own, a network namespace. To cut it off, its answers are swallowed: what
is sent to it is never acknowledged, and when it dies meanwhile nobody is told. Connections that were
open stay open for whoever had them.
"""

import contextlib
import os
import random
import shutil
import subprocess

import pytest

from tests.integration.systems import RUNTIME, Readers, System, wait_for

BLOCK = 64 * 1024
COUNT = 40
CONTENT = random.Random(71).randbytes(COUNT * BLOCK)
DEADLINE_SECONDS = 8.0
STALL_SECONDS = 1.0
CONFIG = {
    "local": False,
    "block_cache_bytes": 0,
    "readahead_bytes": 0,
    "deadline_seconds": DEADLINE_SECONDS,
    "stall_seconds": STALL_SECONDS,
}
NAME = f"half-{os.getpid()}"
SUBNET = f"10.{200 + os.getpid() // 250 % 50}.{os.getpid() % 250}"
HERE, THERE = f"{SUBNET}.1", f"{SUBNET}.2"

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None,
        reason="network namespaces need root and iproute2",
    ),
]


class OtherMachine:
    """A network namespace that can be cut off without a word."""

    prefix = ("ip", "netns", "exec", NAME)

    def __enter__(self):
        near, far = f"h{os.getpid()}a", f"h{os.getpid()}b"
        _run("ip", "netns", "add", NAME)
        _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", NAME)
        _run("ip", "address", "add", f"{HERE}/24", "dev", near)
        _run("ip", "link", "set", near, "up")
        _run("ip", "-n", NAME, "address", "add", f"{THERE}/24", "dev", far)
        _run("ip", "-n", NAME, "link", "set", far, "up")
        _run("ip", "-n", NAME, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "delete", NAME], capture_output=True, check=False)

    @contextlib.contextmanager
    def cut_off(self):
        """Swallow what it sends here, until the context is left."""
        _run("ip", "-n", NAME, "route", "add", "blackhole", f"{HERE}/32")
        try:
            yield
        finally:
            _run("ip", "-n", NAME, "route", "delete", "blackhole", f"{HERE}/32")


def _run(*command):
    subprocess.run(command, capture_output=True, check=True)


@pytest.fixture(scope="module")
def machine():
    try:
        made = OtherMachine().__enter__()
    except subprocess.CalledProcessError as error:
        OtherMachine().__exit__()
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    yield made
    made.__exit__()


@pytest.fixture(scope="module")
def shared(machine, tmp_path_factory):
    """Return a system whose second worker is elsewhere."""
    folder = tmp_path_factory.mktemp("half-open")
    with System(folder, block_size=BLOCK, host=HERE) as system:
        system.start_coordinator()
        system.start_worker("w1")
        system.start_worker("w2", prefix=machine.prefix, host=THERE)
        yield system


@pytest.fixture
def system(shared):
    shared.settle("w1", "w2")
    return shared


@pytest.fixture
def name(system, request):
    """Return a dataset of one file, of which each worker holds its part."""
    name = request.node.name.replace("_", "-")[:40].strip("-")
    path = system.folder.parent / "weights.bin"
    path.unlink(missing_ok=True)
    path.write_bytes(CONTENT)
    system.add(name, f"file://{path}")
    assert system.wait_for_job(system.warm(name))["state"] == "done"
    return name


def there(system, name):
    """Return a block that only the other machine's worker holds."""
    blocks = system.api.get(f"/v1/explain?dataset={name}&path=weights.bin")["blocks"]
    holders = [{one["worker"] for one in block["holders"]} for block in blocks]
    assert {"w2"} in holders, holders
    return holders.index({"w2"})


def read_block(file, index):
    began = RUNTIME.monotonic()
    assert file.read_at(index * BLOCK, BLOCK) == CONTENT[index * BLOCK : (index + 1) * BLOCK]
    return RUNTIME.monotonic() - began


def test_a_read_on_a_connection_that_is_dead_unawares_ends_in_time_with_right_bytes(
    system, machine, name
):
    index = there(system, name)
    with system.open(name, **CONFIG) as dataset, dataset.open("weights.bin") as file:
        assert read_block(file, index) < DEADLINE_SECONDS
        with machine.cut_off():
            seconds = read_block(file, index)
            assert seconds < DEADLINE_SECONDS
            assert seconds > STALL_SECONDS / 2, "nobody was cut off"
            assert read_block(file, index) < seconds, "who was silent is not waited for anew"
            wait_for(lambda: system.members() == {"w1"})


def test_readers_notice_a_cut_and_its_end_by_nothing_but_a_pause(system, machine, name):
    dataset = system.open(name, **CONFIG)
    with Readers(
        dataset, "weights.bin", CONTENT, span=2 * BLOCK, deadline_seconds=DEADLINE_SECONDS
    ) as readers:
        readers.wait_for_more()
        with machine.cut_off():
            readers.wait_for_more(50)
            wait_for(lambda: system.members() == {"w1"})
            readers.wait_for_more(50)
        system.settle("w1", "w2")
        readers.wait_for_more(50)
    readers.check()
    assert readers.errors == []


def test_a_worker_that_dies_while_it_is_cut_off_is_missed_by_nobody(system, machine, name):
    index = there(system, name)
    with system.open(name, **CONFIG) as dataset, dataset.open("weights.bin") as file:
        read_block(file, index)
        with machine.cut_off():
            system.kill("w2")  # its kernel says so, and nobody hears it
            assert read_block(file, index) < DEADLINE_SECONDS
            wait_for(lambda: system.members() == {"w1"})
            assert read_block(file, index) < DEADLINE_SECONDS
        system.restart("w2")
        system.settle("w1", "w2")
        assert read_block(file, index) < DEADLINE_SECONDS
