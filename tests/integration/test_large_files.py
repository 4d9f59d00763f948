"""Files of more than 4 GiB: offsets that fit no 32 bits are right everywhere. They are sparse."""

import random

import pytest

from tests.integration.systems import System

GIB = 1024**3
SIZE = 5 * GIB + 12_345
MARK = random.Random(3).randbytes(4096)
PLACES = (0, GIB - 7, 2 * GIB - 2048, 4 * GIB - 2048, 4 * GIB + 12_289, 5 * GIB, SIZE - len(MARK))
"""Around every limit of 31 and 32 bits."""
BLOCK = 4 * 1024 * 1024

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "data"
    folder.mkdir()
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(SIZE)
        for place in PLACES:
            file.seek(place)
            file.write(MARK)
    return folder


@pytest.fixture(scope="module")
def system(tmp_path_factory, data):
    with System(tmp_path_factory.mktemp("system"), block_size=BLOCK) as system:
        system.start_coordinator()
        system.start_worker("w1")
        system.wait_for_members("w1")
        system.add("large", f"file://{data}")
        yield system


@pytest.mark.parametrize("local", [True, False], ids=["descriptors", "network"])
def test_ranges_beyond_the_limits_of_31_and_32_bits_are_right(system, local):
    with system.open("large", local=local) as dataset, dataset.open("weights.bin") as file:
        assert file.size == SIZE
        for place in PLACES:
            assert file.read_at(place, len(MARK)) == MARK, place
            file.seek(place)
            assert file.read(len(MARK)) == MARK, place
        assert file.read_at(3 * GIB, BLOCK) == bytes(BLOCK)
        assert file.read_at(SIZE - 10, 100) == MARK[-10:]
        assert file.read_at(SIZE, 100) == b""


def test_a_warm_up_that_does_not_fit_is_refused_before_it_evicts_itself(system):
    ended = system.wait_for_job(system.warm("large"))
    assert ended["state"] == "failed"
    assert "cannot hold" in ended["failure"]
