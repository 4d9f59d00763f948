"""Eviction under a mount: what the kernel passes through, or has mapped, keeps its bytes."""

import hashlib
import mmap
import os

import pytest

from tests.fuse.mounting import FILES, LARGE, MIB, Mounts, content, write_files
from tests.integration.systems import System, wait_for

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

OTHERS = {f"other-{number}": content(f"other-{number}", MIB) for number in range(12)}


@pytest.fixture
def small_system(tmp_path):
    """A worker that holds the dataset ``model``, all of it, and has room for little else."""
    with System(tmp_path, block_size=64 * 1024) as system:
        system.start_coordinator()
        system.start_worker("worker-1", capacity=8 * MIB)
        system.wait_for_members("worker-1")
        system.add("model", write_files(tmp_path / "origin", FILES))
        system.add("others", write_files(tmp_path / "others", OTHERS))
        assert system.wait_for_job(system.warm("model"))["state"] == "done"
        yield system


@pytest.fixture
def small_mounts(small_system, tmp_path):
    made = Mounts(small_system.folder, tmp_path / "mounts")
    made.folder.mkdir()
    try:
        yield made
    finally:
        made.close()


def read_others(system):
    """Bring more into the cluster than the worker has room for."""
    with system.open("others") as dataset:
        for name, data in OTHERS.items():
            assert dataset.read(name) == data


def resident(system, dataset, path):
    """Return how many blocks of a file the worker holds, as the coordinator knows."""
    answer = system.api.get(f"/v1/explain?dataset=default/{dataset}&path={path}")
    return sum("worker-1" in str(block["holders"]) for block in answer["blocks"])


def drop_pages(file):
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("dies", ["mount", "mount and worker"])
def test_what_is_passed_through_keeps_its_bytes_when_its_lease_is_over(
    small_system, small_mounts, dies
):
    place = small_mounts.mount("model", "--engine", "native", "--no-recovery")
    right = FILES[LARGE]
    whole = resident(small_system, "model", LARGE)
    with (place / LARGE).open("rb") as file:
        assert file.read(10) == right[:10]
        view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        for pid in small_mounts.processes():
            os.kill(pid, 9)
        wait_for(lambda: not small_mounts.processes(), what="the mount's process does not end")
        if dies != "mount":
            small_system.kill("worker-1")
            small_system.restart("worker-1")
            small_system.wait_for_members("worker-1")
        read_others(small_system)
        drop_pages(file)
        view.madvise(mmap.MADV_DONTNEED)
        assert hashlib.sha256(view).digest() == hashlib.sha256(right).digest()
        assert os.pread(file.fileno(), len(right), 0) == right, "only the kernel can read it now"
        assert resident(small_system, "model", LARGE) == whole
        view.close()
    small_mounts.cachefs("umount", place)
    wait_for(
        lambda: read_others(small_system) or resident(small_system, "model", LARGE) < whole,
        what="what nobody has open any more is not evicted",
    )
