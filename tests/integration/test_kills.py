"""Processes are killed and stopped in the middle of reads: right bytes or an error, never a hang.

One system with three supervised workers; readers read at random all the while, and check each byte.
"""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cachefs.cli.system.statefolder import StateFolder
from cachefs.config.discovery import discover
from cachefs.config.schema import ReaderConfig
from cachefs.errors import CacheFSError, OriginUnavailableError
from cachefs.sdk import open_dataset
from cachefs.testing.faulty_origin import Fault, FaultyOrigin
from cachefs.transport.api import Api
from cachefs.transport.runtime import ThreadRuntime

BLOCK = 64 * 1024
SIZE = 100 * BLOCK + 17
CONTENT = random.Random(7).randbytes(SIZE)
RUNTIME = ThreadRuntime()
DEADLINE_SECONDS = 8.0
GRACE_SECONDS = 2.0
PROCESSES = {"coordinator", "worker-1", "worker-2", "worker-3"}
CONFIG = ReaderConfig(deadline_seconds=DEADLINE_SECONDS, stall_seconds=1.0, block_cache_bytes=0)


@pytest.fixture(scope="module")
def origin():
    with FaultyOrigin({"model/weights.bin": CONTENT}) as server:
        yield server


@pytest.fixture(scope="module")
def state(tmp_path_factory, origin):
    folder = StateFolder(tmp_path_factory.mktemp("kills") / "state")
    clean = {name: value for name, value in os.environ.items() if "CACHEFS" not in name}
    environment = {
        **clean,
        "CACHEFS_STATE": str(folder.path),
        "CACHEFS_CLUSTER__BLOCK_SIZE": str(BLOCK),
        "CACHEFS_CLUSTER__LEASE_SECONDS": "2s",
        "CACHEFS_WORKER__FILL__BACKOFF_SECONDS": "50ms",
    }

    def run(*words):
        command = [sys.executable, "-m", "cachefs.cli", *words]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, timeout=60, text=True
        )

    run("up", "--detach", "--workers", "3", "--disk", "256MiB")
    try:
        run("dataset", "add", "model", f"{origin.url}/model/weights.bin")
        yield folder
    finally:
        run("down")


class Readers:
    """Threads that read at random until they are told to end, and remember what went wrong."""

    def __init__(self, state, *, local):
        self.wrong = []
        self.errors = []
        self.late = []
        self.reads = 0
        self._ended = threading.Event()
        config = ReaderConfig(**{**_values(CONFIG), "local": local})
        self._dataset = open_dataset("model", state=state.path, config=config)
        self._threads = [threading.Thread(target=self._read, args=(seed,)) for seed in range(3)]

    def _read(self, seed):
        draw = random.Random(seed)
        with self._dataset.open("weights.bin") as file:
            while not self._ended.is_set():
                offset = draw.randrange(SIZE)
                buffer = bytearray(draw.randrange(1, 4 * BLOCK))
                began = RUNTIME.monotonic()
                try:
                    count = file.read_into(offset, memoryview(buffer))
                except CacheFSError as error:
                    self.errors.append(error)
                else:
                    if buffer[:count] != CONTENT[offset : offset + len(buffer)]:
                        self.wrong.append(offset)
                    self.reads += 1
                if RUNTIME.monotonic() - began > DEADLINE_SECONDS + GRACE_SECONDS:
                    self.late.append(RUNTIME.monotonic() - began)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS + 2 * GRACE_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads), "a read hangs"
        self._dataset.close()

    def check(self):
        assert self.wrong == []
        assert self.late == []
        assert self.reads > 0


def _values(config):
    return {name: getattr(config, name) for name in ReaderConfig.__dataclass_fields__}


def pids(state) -> dict[str, int]:
    """Return the pid of each process of the system that runs now."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            for word in words:
                if word.startswith(str(state.path)) and word.endswith(".json"):
                    found[Path(word).stem] = int(folder.name)
    return found


def wait_for(condition, seconds=15.0):
    until = RUNTIME.monotonic() + seconds
    while not condition():
        assert RUNTIME.monotonic() < until, "it did not come back"
        RUNTIME.sleep(0.05)


def members(state) -> int:
    endpoint = discover({}, state=state.path)
    try:
        view = Api(endpoint.coordinator, endpoint.token).get("/v1/view")
    except CacheFSError:
        return 0
    return len(view["members"])


def wait_until_whole(state):
    wait_for(lambda: pids(state).keys() >= PROCESSES and members(state) == 3)


@pytest.mark.slow
@pytest.mark.parametrize("local", [True, False], ids=["descriptors", "network"])
@pytest.mark.parametrize("victim", ["coordinator", "worker-1", "worker-2", "worker-3"])
def test_a_process_is_killed_while_reading(state, victim, local):
    wait_until_whole(state)
    with Readers(state, local=local) as readers:
        RUNTIME.sleep(0.3)
        os.kill(pids(state)[victim], signal.SIGKILL)
        RUNTIME.sleep(0.5)
        before = readers.reads
        wait_until_whole(state)
        wait_for(lambda: readers.reads > before)
    readers.check()
    assert readers.errors == [], "another worker could have served it"


@pytest.mark.slow
@pytest.mark.parametrize("local", [True, False], ids=["descriptors", "network"])
def test_a_worker_is_stopped_while_reading(state, local):
    wait_until_whole(state)
    victim = pids(state)["worker-2"]
    with Readers(state, local=local) as readers:
        RUNTIME.sleep(0.3)
        os.kill(victim, signal.SIGSTOP)
        try:
            RUNTIME.sleep(2.0)
            before = readers.reads
            wait_for(lambda: readers.reads > before)
        finally:
            os.kill(victim, signal.SIGCONT)
    readers.check()
    assert readers.errors == [], "another worker could have served it"


@pytest.mark.slow
def test_the_origin_dies_while_reading(state, origin):
    wait_until_whole(state)
    endpoint = discover({}, state=state.path)
    api = Api(endpoint.coordinator, endpoint.token)
    with Readers(state, local=False) as readers:
        RUNTIME.sleep(0.3)
        origin.fail_always("model/weights.bin", Fault("reset"))
        api.post("/v1/evict", {"dataset": "model"})
        wait_for(lambda: any(isinstance(each, OriginUnavailableError) for each in readers.errors))
        origin.heal()
        before = readers.reads
        wait_for(lambda: readers.reads > before + 20)
    readers.check()
    kinds = {type(each) for each in readers.errors}
    assert kinds == {OriginUnavailableError}
