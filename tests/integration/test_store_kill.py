"""kill -9 of a process that fills, evicts and drops: what it left is right, and nearly all there."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cachefs.config.schema import ClusterConfig, TierConfig
from cachefs.core.tiers import PAGE_SIZE
from cachefs.testing.blocks import block_bytes, make_file, read_block
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.storage.store import TieredStore

BLOCK = 16384
FILES = 12
BLOCKS = 10
CAPACITY = FILES * BLOCKS * BLOCK * 3 // 4

CHILD = f"""
import random, sys, threading
from pathlib import Path
from cachefs.config.schema import ClusterConfig, TierConfig
from cachefs.testing.blocks import fill_block, make_file
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.storage.store import TieredStore

tier = TierConfig(folder=Path(sys.argv[1]), medium="disk", capacity_bytes={CAPACITY})
cluster = ClusterConfig(block_size={BLOCK})
store = TieredStore([tier], cluster=cluster, runtime=ThreadRuntime())
store.recover()
files = [make_file(f"f{{number}}", {BLOCKS * BLOCK}) for number in range({FILES})]
out = threading.Lock()

def say(*words):
    with out:
        print(*words, flush=True)

def work(seed):
    chance = random.Random(seed)
    # Each thread has files of its own, so that what it says about them is in order.
    mine = files[seed % 3 :: 3]
    while True:
        number = chance.randrange(len(mine))
        file, index = mine[number], chance.randrange({BLOCKS})
        if chance.random() < 0.02:
            say("gone", file.entry.path)
            store.evict([file.entry.file_version])
        elif not store.holds(file.entry.file_version, index):
            fill_block(store, file, index, {BLOCK})
            say("filled", file.entry.path, index)

seed = int(sys.argv[2])
for thread in range(3):
    threading.Thread(target=work, args=(seed * 3 + thread,), daemon=True).start()
threading.Event().wait()
"""


def open_store(folder) -> TieredStore:
    tier = TierConfig(folder=folder, medium="disk", capacity_bytes=CAPACITY)
    cluster = ClusterConfig(block_size=BLOCK)
    store = TieredStore([tier], cluster=cluster, runtime=ThreadRuntime())
    store.recover()
    return store


def run_and_kill(folder, seed: int, seconds: float) -> list[list[str]]:
    """Let a process work, kill it, and return what it said it had done."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        first = child.stdout.readline()
        ThreadRuntime().sleep(seconds)
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
    whole_lines = (first + rest).split("\n")[:-1]  # the kill may have cut the last one short
    return [line.split() for line in whole_lines]


@pytest.mark.slow
def test_after_a_kill_no_wrong_block_is_served_and_nearly_all_survive(tmp_path):
    chance = random.Random(3)
    folder = tmp_path / "tier"
    files = {f"f{number}": make_file(f"f{number}", BLOCKS * BLOCK) for number in range(FILES)}
    filled_in_all = survived_in_all = 0
    for seed in range(8):
        said = run_and_kill(folder, seed, chance.uniform(0.0, 0.25))
        assert said, "the child did nothing"
        store = open_store(folder)
        resident = {(block.file_version, block.index) for block in store.resident_blocks()}
        for file in files.values():
            for index in range(BLOCKS):
                content = read_block(store, file, index, BLOCK)
                assert content in (None, block_bytes(file, index, BLOCK))
        statistics = store.statistics().tiers[0]
        taken = sum(path.stat().st_blocks * 512 for path in folder.glob("*.data"))
        # A file of many holes takes a page of its own for the list of its parts.
        assert statistics.used_bytes <= taken <= statistics.used_bytes + FILES * PAGE_SIZE
        assert statistics.used_bytes <= CAPACITY
        # What evictions took to make room is not lost; only a whole block that was filled last,
        # and after which nothing can have been evicted, must be there.
        recent = recently_filled(said, files)
        survived = sum(block in resident and store.holds(*block) for block in recent)
        filled_in_all += len(recent)
        survived_in_all += survived
        store.close() if seed % 3 == 2 else abandon(store)
    assert filled_in_all > 50
    assert survived_in_all >= 0.9 * filled_in_all


def recently_filled(said, files) -> set:
    """Return the blocks that cannot have been evicted since: the low mark's worth of the newest."""
    recent: dict = {}
    for what, path, *index in said:
        version = files[path].entry.file_version
        if what == "gone":
            recent = {block: None for block in recent if block[0] != version}
        else:
            recent.pop((version, int(index[0])), None)
            recent[version, int(index[0])] = None
    keep = int(CAPACITY * 0.85) // BLOCK - 6
    return set(list(recent)[-keep:])


def abandon(store: TieredStore) -> None:
    """Let go of the folder and its files without the marks of a clean end."""
    for tier in store._tiers:
        for cached in tier.books.files.values():
            if cached.handle is not None:  # else we have it open, as a stranger would
                cached.handle.close()
        tier._data.disk.close()
