"""What tests of whole systems share: an origin that they pace, and systems that they may break.

Processes are expensive to start. Those of a module are started once, by the first test that needs them;
before every test they are all brought back, and the origin is as fast as it can be and has counted
nothing. So each test has a dataset of its own, called ``name``, of one file with the module's
``CONTENT``: whatever others did, nothing of it is resident.
"""

import re

import pytest

from tests.integration.local_systems import LocalSystem
from tests.integration.systems import PacedOrigin, System

WORKERS = ("w1", "w2", "w3")


@pytest.fixture(scope="module")
def shared_origin(tmp_path_factory):
    with PacedOrigin(tmp_path_factory.mktemp("bucket")) as origin:
        yield origin


@pytest.fixture
def origin(shared_origin):
    """Return an origin over a folder, which serves without a pause and has counted nothing."""
    shared_origin.begin_anew()
    return shared_origin


@pytest.fixture
def name(request, origin):
    """Return the name of a dataset to be, whose one file, ``name`` with ``.bin``, is at the origin."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name).strip("-")[-40:].strip("-")
    (origin.folder / f"{name}.bin").write_bytes(request.module.CONTENT)
    return name


@pytest.fixture(scope="module")
def shared_system(tmp_path_factory):
    with System(tmp_path_factory.mktemp("shared"), block_size=64 * 1024) as system:
        system.start_coordinator()
        for worker in WORKERS:
            system.start_worker(worker)
        yield system


@pytest.fixture
def system(shared_system):
    """Return a coordinator and three workers, whose clocks are right and who know each other."""
    shared_system.mend(*WORKERS)
    return shared_system


@pytest.fixture
def local_system(tmp_path):
    """Return ``cachefs up`` on a folder of its own, not started yet; nothing of it is left."""
    with LocalSystem(tmp_path / "state") as system:
        yield system
