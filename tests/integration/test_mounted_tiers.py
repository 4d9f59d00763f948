"""Tiers on file systems of their own: memory and disks that fill up, turn read-only, and are taken away.

The tests mount file systems of a few MiB, in the mount namespace that they have for themselves.
"""

import ctypes
import os
import random
import subprocess
from contextlib import suppress

import pytest

from cachefs.config.schema import TierConfig
from cachefs.errors import CacheFSError
from tests.integration.systems import MIB, Readers, System, wait_for

BLOCK = 64 * 1024
COUNT = 64
CONTENT = random.Random(81).randbytes(COUNT * BLOCK)
DISK_BYTES = 3 * MIB
DEADLINE_SECONDS = 8.0
CONFIG = {"block_cache_bytes": 0, "readahead_bytes": 0, "deadline_seconds": DEADLINE_SECONDS}
_MS_RDONLY, _MS_REMOUNT, _MNT_DETACH = 1, 32, 2  # <linux/mount.h>, <sys/mount.h>
_LIBC = ctypes.CDLL(None, use_errno=True)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]


def mount(folder, *, size=DISK_BYTES, flags=0):
    """Mount a tmpfs of so many bytes, or change how it is mounted."""
    options = f"size={size},mode=0700".encode()
    if _LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options):
        pytest.skip(f"no tmpfs can be mounted here: {os.strerror(ctypes.get_errno())}")


def unmount(folder):
    _LIBC.umount2(os.fsencode(folder), _MNT_DETACH)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder)
    yield folder
    unmount(folder)


@pytest.fixture
def memory(tmp_path):
    folder = tmp_path / "memory"
    folder.mkdir()
    mount(folder)
    yield folder
    unmount(folder)


@pytest.fixture
def broken_disk(tmp_path):
    """Return an ext4 of 16 MiB, what makes its kernel give up writing, and what mends it."""
    folder, image = tmp_path / "ext4", tmp_path / "image"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 * MIB)

    def mend():
        subprocess.run(["umount", folder], capture_output=True, check=False)
        _run("mount", "-o", "loop,errors=remount-ro", image, folder)
        folder.chmod(0o700)

    try:
        _run("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", image)
        mend()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no ext4 can be mounted here: {error}")
    (folder / "lost+found").rmdir()
    yield folder, lambda: _run("mount", "-o", "remount,abort", folder), mend
    _run("umount", "--lazy", folder)


def _run(*command):
    subprocess.run(command, capture_output=True, check=True)


@pytest.fixture
def files(origin):
    """Return the origin, with two files in a folder of this test alone."""
    folder = origin.folder / f"{len(list(origin.folder.iterdir()))}"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(CONTENT)
    (folder / "part.bin").write_bytes(CONTENT[:MIB])
    return folder


@pytest.fixture(scope="module")
def coordinated(tmp_path_factory):
    with System(tmp_path_factory.mktemp("tiers"), block_size=BLOCK) as system:
        system.start_coordinator()
        yield system


@pytest.fixture
def build(coordinated, origin, files):
    """Return a function that starts a worker on tiers, and declares the dataset ``m``."""

    def start(*tiers, **options):
        coordinated.start_worker("w1", tiers=tiers, **options)
        coordinated.settle("w1")
        coordinated.add("m", f"{origin.url}/{files.name}/")
        return coordinated

    yield start
    if "w1" in coordinated.processes:
        coordinated.processes["w1"].stop()  # so that it leaves
    wait_for(lambda: not coordinated.members())
    coordinated.forget()


def tier(folder, medium="disk", *, capacity=64 * MIB):
    """Return a tier that believes its disk to be larger than it is."""
    return TierConfig(folder=folder, medium=medium, capacity_bytes=capacity)


def read(system, path, content, **config):
    with system.open("m", **CONFIG, **config) as dataset:
        assert dataset.read(path) == content
        return dataset.statistics().bytes_by_source


def used(folder):
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def tiers_of(system):
    (member,) = system.api.get("/v1/members")["members"]
    return member["statistics"]["tiers"]


def test_a_disk_that_is_smaller_than_the_tier_believes_serves_files_larger_than_it(build, disk):
    system = build(tier(disk))
    for local in (True, False):
        read(system, "weights.bin", CONTENT, local=local)
    assert used(disk) <= DISK_BYTES
    assert system.is_running("w1")
    assert system.members() == {"w1"}


def test_a_disk_that_others_fill_up_costs_no_read_and_is_used_again_when_it_empties(
    build, disk, origin
):
    system = build(tier(disk, capacity=2 * MIB))
    read(system, "part.bin", CONTENT[:MIB])
    hog = disk / "hog"
    with suppress(OSError), hog.open("wb") as file:
        while True:
            file.write(bytes(BLOCK))
            file.flush()
    dataset = system.open("m", local=False, **CONFIG)
    with Readers(
        dataset, "weights.bin", CONTENT, span=2 * BLOCK, deadline_seconds=DEADLINE_SECONDS
    ) as readers:
        readers.wait_for_more(30)
        hog.unlink()
        readers.wait_for_more(30)
    readers.check()
    assert readers.errors == []

    def is_kept():
        asked = origin.bytes_asked
        read(system, "part.bin", CONTENT[:MIB])
        return origin.bytes_asked == asked

    wait_for(is_kept, what="what is read is not kept any more")


def test_a_disk_that_turns_read_only_is_read_and_no_more(build, broken_disk, origin):
    folder, turn_read_only, mend = broken_disk
    system = build(tier(folder))
    read(system, "part.bin", CONTENT[:MIB])
    asked = origin.bytes_asked
    _run("sync", "--file-system", folder)  # what is not written now is lost
    turn_read_only()
    for local in (True, False):
        read(system, "part.bin", CONTENT[:MIB], local=local)
    assert origin.bytes_asked == asked, "what is there is served"
    read(system, "weights.bin", CONTENT, local=False)
    assert system.is_running("w1")
    assert system.members() == {"w1"}
    system.kill("w1")
    mend()
    system.restart("w1")
    system.settle("w1")
    asked = origin.bytes_asked
    read(system, "part.bin", CONTENT[:MIB])
    assert origin.bytes_asked == asked, "and is still there"


def test_a_disk_that_is_taken_away_costs_fills_and_no_wrong_byte(build, disk, origin):
    system = build(tier(disk))
    read(system, "part.bin", CONTENT[:MIB])
    with system.open("m", **CONFIG) as dataset, dataset.open("part.bin") as held:
        assert held.read_at(0, MIB) == CONTENT[:MIB]
        unmount(disk)
        assert held.read_at(0, MIB) == CONTENT[:MIB], "who has it open still has it"
        read(system, "part.bin", CONTENT[:MIB], local=False)
        read(system, "weights.bin", CONTENT, local=False)
    assert system.is_running("w1")
    system.kill("w1")
    mount(disk)
    system.restart("w1")
    system.settle("w1")
    assert tiers_of(system)[0]["used_bytes"] == 0, "the new disk is empty, and it knows"
    read(system, "part.bin", CONTENT[:MIB])


def test_a_worker_that_starts_on_a_disk_that_is_full_serves_and_says_so(build, disk, origin):
    (disk / "hog").write_bytes(bytes(DISK_BYTES - 8 * BLOCK))
    system = build(tier(disk))
    read(system, "weights.bin", CONTENT)
    wait_for(lambda: tiers_of(system)[0]["lacking_bytes"] > 0)


def test_memory_and_disk_together_hold_what_neither_holds_alone(build, disk, memory, origin, files):
    system = build(
        tier(memory, "memory", capacity=DISK_BYTES), tier(disk, capacity=DISK_BYTES - 4 * BLOCK)
    )
    half = CONTENT[: 2 * MIB]
    for name in ("one.bin", "two.bin"):
        (files / name).write_bytes(half)
    system.api.post("/v1/datasets/default/m/update")
    for name in ("one.bin", "two.bin"):
        job = system.api.post("/v1/warm", {"dataset": "m", "paths": [name]})["id"]
        assert system.wait_for_job(job)["state"] == "done"
    asked = origin.bytes_asked
    for name in ("one.bin", "two.bin"):
        assert set(read(system, name, half)) >= {"local"}
    assert origin.bytes_asked == asked, "both are here"
    assert used(memory) >= 2 * MIB
    assert used(disk) >= 2 * MIB
    system.kill("w1")
    unmount(memory)  # the machine was switched off
    mount(memory)
    system.restart("w1")
    system.settle("w1")
    for name in ("one.bin", "two.bin"):
        read(system, name, half)
    assert origin.bytes_asked <= asked + len(half), "what was on the disk is still there"


def test_a_folder_on_a_disk_that_cannot_be_written_at_the_start_is_refused_with_its_name(
    build, disk
):
    mount(disk, flags=_MS_REMOUNT | _MS_RDONLY)
    with pytest.raises(CacheFSError, match=r"disk.*[Rr]ead-only|[Rr]ead-only.*disk"):
        build(tier(disk))
