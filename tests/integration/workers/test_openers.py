"""Mappings in other processes: who mapped a cache file keeps its bytes, whoever goes meanwhile."""

import signal
import subprocess
import sys

import pytest

from cachefs.core.blocks import block_count
from tests.integration.workers.conftest import BLOCK

MAP_AND_COMPARE = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
with open(sys.argv[2], "rb") as file:
    right = file.read()
print("mapped", flush=True)
for line in sys.stdin:
    print("right" if mapping[:] == right else "wrong", flush=True)
"""


@pytest.fixture
def whole(site, worker):
    """A file version that the worker holds whole; the path of its cache file."""
    file = site.file("model.bin")
    deadline = site.runtime.monotonic() + 10.0
    for index in range(block_count(file.entry.size, BLOCK)):
        with worker.filler.obtain(file, index, only_cached=False, deadline=deadline):
            pass
    (tier,) = worker._config.tiers
    return file, tier.folder / f"{file.entry.file_version}.data"


class Mapper:
    """A process that has the file mapped and nothing else of it."""

    def __init__(self, path, right):
        self._process = subprocess.Popen(
            [sys.executable, "-c", MAP_AND_COMPARE, path, right],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == "mapped\n"

    def sees(self):
        self._process.stdin.write("look\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


def test_a_mapping_outlives_every_attempt_to_evict_or_drop_the_file(site, worker, whole):
    file, path = whole
    name = file.entry.file_version
    with Mapper(path, site.data / "model.bin") as mapper:
        assert worker.store.evict([name]) == (0, (name,))
        assert mapper.sees() == "right"
        worker.store.drop([name])
        assert not path.exists()
        assert mapper.sees() == "right"


def test_a_mapping_outlives_the_worker_too(site, worker, whole):
    file, path = whole
    with Mapper(path, site.data / "model.bin") as mapper:
        site.workers.pop("w1").close()
        again = site.add("w1")
        name = file.entry.file_version
        assert again.store.evict([name]) == (0, (name,)), "no lease tells of it, the kernel does"
        assert mapper.sees() == "right"
    freed, refused = again.store.evict([name])
    assert (freed, refused) == (file.entry.size, ())
