"""Fixtures for real mounts. Nothing that a test mounts or starts may outlive it."""

import pytest

from tests.fuse.mounting import (
    FILES,
    Mounts,
    mounts_below,
    processes_below,
    why_no_mounts,
    write_files,
)
from tests.fuse.shown import write_origin
from tests.integration.systems import System

ENGINES = ["native", "libfuse"]


def pytest_runtest_setup(item):
    if item.get_closest_marker("fuse") is not None and (reason := why_no_mounts()):
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def nothing_left(tmp_path_factory):
    """Fail the session if a mount or a process of it is left."""
    base = tmp_path_factory.getbasetemp()
    yield
    left = [str(entry.mountpoint) for entry in mounts_below(base)]
    assert left == [], "mounts are left behind"
    assert processes_below(base) == [], "processes of mounts are left behind"


@pytest.fixture(scope="session")
def shared_system(tmp_path_factory):
    """A coordinator and a worker, with the dataset ``model``; not to be broken."""
    folder = tmp_path_factory.mktemp("shared")
    with System(folder) as system:
        system.start_coordinator()
        system.start_worker("worker-1")
        system.wait_for_members("worker-1")
        system.add("model", write_files(folder / "origin", FILES))
        yield system


@pytest.fixture
def mounts(shared_system, tmp_path):
    """Mounts of the shared system, all ended after the test."""
    made = Mounts(shared_system.folder, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def mounted(mounts):
    """Mount and return where: ``mounted("model", "--uid", 7)``; see :class:`Mounts`."""
    return mounts.mount


@pytest.fixture
def own_system(tmp_path):
    """A coordinator and two workers that the test may break, with the dataset ``model``."""
    with System(tmp_path, block_size=64 * 1024) as system:
        system.start_coordinator()
        for name in ("worker-1", "worker-2"):
            system.start_worker(name)
        system.wait_for_members("worker-1", "worker-2")
        system.add("model", write_files(tmp_path / "origin", FILES))
        yield system


@pytest.fixture
def own_mounts(own_system, tmp_path):
    """Mounts of a system that the test may break."""
    made = Mounts(own_system.folder, tmp_path / "mounts")
    made.folder.mkdir()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    """Each engine in turn."""
    return request.param


@pytest.fixture(scope="module")
def shown(shared_system, engine, tmp_path_factory):
    """The dataset of ``tests/fuse/shown.py``, mounted; not to be unmounted."""
    if "shown" not in {each["name"] for each in shared_system.api.get("/v1/datasets")["datasets"]}:
        shared_system.add("shown", write_origin(tmp_path_factory.mktemp("origin")))
    made = Mounts(shared_system.folder, tmp_path_factory.mktemp(f"shown-{engine}"))
    try:
        yield made.mount("shown", "--engine", engine)
    finally:
        made.close()
