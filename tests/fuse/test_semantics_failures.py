"""SEMANTICS.md, "The mount": what a program sees when bytes cannot be had."""

import hashlib
import mmap
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.fuse.mounting import FILES, LARGE, MIB, Mounts, content, write_files
from tests.fuse.shown import fails
from tests.integration.systems import PacedOrigin, System, wait_for

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

DEADLINE_SECONDS = 2.0
"""Of every read in the mounts of these tests."""
ONE, OTHER = content("before", MIB), content("after", MIB)


@pytest.fixture
def dataset(shared_system, request):
    """Make datasets of this test, removed after it: ``dataset(url, **options)`` returns a name."""
    made = []

    def add(url, **options):
        name = f"t{abs(hash((request.node.nodeid, len(made)))) % 10**12}"
        shared_system.add(name, url, **options)
        made.append(name)
        return name

    yield add
    for name in made:
        if any(each["name"] == name for each in shared_system.api.get("/v1/datasets")["datasets"]):
            shared_system.api.delete(f"/v1/datasets/default/{name}")


@pytest.fixture
def mounts(mounts):
    mounts.set(reader__deadline_seconds=f"{DEADLINE_SECONDS}s")
    return mounts


def open_at_random(path):
    """Open a file that the kernel shall not read ahead in."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    return descriptor


def test_a_file_that_changed_at_the_origin_is_estale_and_never_a_mix(
    mounts, dataset, engine, tmp_path, shared_system
):
    url = write_files(tmp_path / "origin", {"a": ONE, "b": ONE})
    name = dataset(url)
    place = mounts.mount(name, "--engine", engine)
    file = open_at_random(place / "a")
    try:
        assert os.pread(file, 1000, 0) == ONE[:1000]
        write_files(tmp_path / "origin", {"a": OTHER})
        assert fails(os.pread, file, 1000, MIB // 2) == "ESTALE"
        assert os.pread(file, 1000, 0) == ONE[:1000], "what was filled stays readable"
        assert fails((place / "a").read_bytes) == "ESTALE"
        assert (place / "b").read_bytes() == ONE
        shared_system.api.post(f"/v1/datasets/default/{name}/update")
        assert fails(os.pread, file, 1000, MIB // 2) == "ESTALE", "it stays at its version"
        other = mounts.mount(name, "--engine", engine, at=mounts.place("other"))
        assert (other / "a").read_bytes() == OTHER
    finally:
        os.close(file)


def test_a_mapping_of_a_file_that_changed_is_sigbus(mounts, dataset, engine, tmp_path):
    place = mounts.mount(dataset(write_files(tmp_path / "origin", {"a": ONE})), "--engine", engine)
    (tmp_path / "origin" / "a").unlink()
    touch = "import mmap, sys; f = open(sys.argv[1], 'rb'); mmap.mmap(f.fileno(), 0, prot=1)[5000]"
    ended = subprocess.run([sys.executable, "-c", touch, place / "a"], check=False)
    assert ended.returncode == -signal.SIGBUS


def test_a_file_that_is_gone_at_the_origin_is_estale(mounts, dataset, engine, tmp_path):
    place = mounts.mount(dataset(write_files(tmp_path / "origin", {"a": ONE})), "--engine", engine)
    (tmp_path / "origin" / "a").unlink()
    assert (place / "a").stat().st_size == MIB, "the version still has it"
    assert fails((place / "a").read_bytes) == "ESTALE"


def test_an_origin_that_is_down_is_eio_and_what_is_resident_is_read(
    mounts, dataset, engine, tmp_path, shared_system
):
    write_files(tmp_path / "origin", {"a": ONE})
    with PacedOrigin(tmp_path / "origin") as origin:
        cold = mounts.mount(dataset(origin.url + "/"), "--engine", engine, at=mounts.place("cold"))
    with PacedOrigin(tmp_path / "origin") as origin:
        name = dataset(origin.url + "/")
        shared_system.wait_for_job(shared_system.warm(name))
    warm = mounts.mount(name, "--engine", engine, at=mounts.place("warm"))
    assert fails((cold / "a").read_bytes) == "EIO"
    assert (warm / "a").read_bytes() == ONE


def test_an_origin_that_hangs_is_eio_at_the_deadline_and_names_are_shown_meanwhile(
    mounts, dataset, engine, tmp_path
):
    waiting = [f"a{number}" for number in range(12)]
    write_files(tmp_path / "origin", dict.fromkeys([*waiting, "b"], ONE))
    with PacedOrigin(tmp_path / "origin") as origin:
        place = mounts.mount(dataset(origin.url + "/"), "--engine", engine)
        origin.gate.clear()
        readers = [
            subprocess.Popen(
                ["cat", place / name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            for name in waiting
        ]
        wait_for(lambda: len({path for path, _, _ in origin.asked}) > 3)
        began = time.monotonic()  # noqa: TID251 - the time that a user waits
        assert (place / "b").stat().st_size == MIB
        assert {path.name for path in place.iterdir()} == {*waiting, "b"}
        assert time.monotonic() - began < DEADLINE_SECONDS / 2  # noqa: TID251 - likewise
        for reader in readers:
            assert b"Input/output error" in reader.communicate(timeout=6 * DEADLINE_SECONDS)[1]
        origin.gate.set()
        wait_for(lambda: (place / "b").read_bytes() == ONE)


def test_a_reader_that_waits_can_be_killed_before_the_deadline_is_over(
    mounts, dataset, engine, tmp_path
):
    write_files(tmp_path / "origin", {"a": ONE})
    with PacedOrigin(tmp_path / "origin") as origin:
        place = mounts.mount(dataset(origin.url + "/"), "--engine", engine)
        origin.gate.clear()
        reader = subprocess.Popen(["cat", place / "a"], stdout=subprocess.DEVNULL)
        wait_for(lambda: origin.asked)
        reader.kill()
        assert reader.wait(DEADLINE_SECONDS + 2) == -signal.SIGKILL
        origin.gate.set()


@pytest.fixture
def frozen(tmp_path, engine):
    """A mount of a file that nobody has, of a system that is stopped as a whole."""
    with System(tmp_path, block_size=MIB) as system:
        system.start_coordinator()
        workers = ("worker-1", "worker-2")
        for name in workers:
            system.start_worker(name)
        system.wait_for_members(*workers)
        system.add("model", write_files(tmp_path / "origin", {"a": ONE, "b": ONE}))
        made = Mounts(system.folder, tmp_path)
        made.set(reader__deadline_seconds=f"{DEADLINE_SECONDS}s")
        try:
            place = made.mount("model", "--engine", engine)
            for name in (*workers, "coordinator"):
                system.send(name, signal.SIGSTOP)
            yield place
        finally:
            made.close()


def test_frozen_workers_cost_a_reader_one_deadline_and_not_several(frozen):
    began = time.monotonic()  # noqa: TID251 - the time that a user waits
    assert fails((frozen / "a").read_bytes) == "EIO"
    # Beside the deadline: 2 s to learn whether it is whole here, 1 s whether it is forgotten.
    assert time.monotonic() - began < DEADLINE_SECONDS + 3.5  # noqa: TID251 - likewise


def test_content_that_is_not_what_its_digest_says_is_eio(mounts, dataset, engine, tmp_path):
    url = write_files(tmp_path / "origin", {"right": ONE, "wrong": OTHER})
    digest = "sha256:" + hashlib.sha256(ONE).hexdigest()
    name = dataset(url, checksums={"right": digest, "wrong": digest})
    place = mounts.mount(name, "--engine", engine)
    assert (place / "right").read_bytes() == ONE
    assert fails((place / "wrong").read_bytes) == "EIO"
    assert os.getxattr(place / "right", "user.cachefs.digest").decode() == digest


def test_a_dataset_that_was_removed_is_estale_where_it_was_not_read(
    mounts, dataset, engine, tmp_path, shared_system
):
    name = dataset(write_files(tmp_path / "origin", {"a": ONE}))
    place = mounts.mount(name, "--engine", engine)
    shared_system.api.delete(f"/v1/datasets/default/{name}")
    assert [path.name for path in place.iterdir()] == ["a"]
    assert fails((place / "a").read_bytes) == "ESTALE"


def test_reads_go_on_without_coordinator_and_fail_and_recover_with_the_workers(
    own_system, own_mounts, engine
):
    own_mounts.set(reader__deadline_seconds=f"{DEADLINE_SECONDS}s")
    own_system.wait_for_job(own_system.warm("model"))
    place = own_mounts.mount("model", "--engine", engine)
    own_system.kill("coordinator")
    file = os.open(place / LARGE, os.O_RDONLY)
    try:
        assert os.pread(file, 4 * MIB, 0) == FILES[LARGE]
        assert (place / "tokenizer/vocab.txt").read_bytes() == FILES["tokenizer/vocab.txt"]
        for worker in ("worker-1", "worker-2"):
            own_system.kill(worker)
        assert os.pread(file, 4 * MIB, 0) == FILES[LARGE], "the kernel has it"
        began = time.monotonic()  # noqa: TID251 - the time that a user waits
        assert fails((place / "model-00002-of-00002.safetensors").read_bytes) == "EIO"
        assert time.monotonic() - began < 4 * DEADLINE_SECONDS  # noqa: TID251 - likewise
        with mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:MIB] == FILES[LARGE][:MIB]
        for process in ("coordinator", "worker-1", "worker-2"):
            own_system.restart(process)
        other = "model-00002-of-00002.safetensors"
        wait_for(lambda: _try_read(place / other) == FILES[other], 30)
    finally:
        os.close(file)


def _try_read(path):
    try:
        return path.read_bytes()
    except OSError:
        return None
