"""A dataset of 100,000 files is listed whole, found by name, and read."""

import os
import random

import pytest

from tests.integration.systems import RUNTIME, System

COUNT = 100_000
FOLDERS = 100

pytestmark = pytest.mark.slow


def name(number):
    return f"part-{number % FOLDERS:03}/sample-{number:06}"


def content(number):
    """Return what a file holds: the same as all others of its folder, of which it is a link."""
    return f"sample of folder {number % FOLDERS}".encode()


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    for number in range(FOLDERS):
        (folder / f"part-{number:03}").mkdir(parents=True)
        (folder / name(number)).write_bytes(content(number))
    for number in range(FOLDERS, COUNT):
        os.link(folder / name(number % FOLDERS), f"{folder}/{name(number)}")
    return folder


def test_100_000_files_are_listed_opened_and_read(tmp_path, data):
    with System(tmp_path) as system:
        system.start_coordinator()
        system.start_worker("w1")
        system.wait_for_members("w1")
        began = RUNTIME.monotonic()
        system.add("many", f"file://{data}")
        with system.open("many") as dataset:
            assert RUNTIME.monotonic() - began < 60.0
            assert len(dataset.files) == COUNT
            assert {entry.path for entry in dataset.files} == {name(at) for at in range(COUNT)}
            for number in random.Random(5).sample(range(COUNT), 100):
                assert dataset.read(name(number)) == content(number)
        system.kill("coordinator")
        system.restart("coordinator")
        with system.open("many") as dataset:
            assert len(dataset.files) == COUNT
