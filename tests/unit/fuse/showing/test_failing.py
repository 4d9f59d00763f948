"""Reads that fail after a long time fail again at once, for a moment."""

import errno

import pytest

from cachefs.errors import OriginUnavailableError
from tests.unit.fuse.worlds import BLOCK, number_of, walk

CONTENT = bytes(range(250)) * 16  # four blocks


@pytest.fixture
def opened(cloud):
    cloud.put("model", {"a": CONTENT})
    operations = cloud.show()
    opened = operations.open(walk(operations, "a").node)
    yield opened
    opened.close()


@pytest.fixture
def asked(cloud, monkeypatch):
    """Count fetches, each of which takes as long as ``cloud.slow`` says and then fails."""
    counted = []
    cloud.slow = 5.0

    def fetch(*arguments, **others):
        counted.append(arguments)
        cloud.runtime.ahead += cloud.slow
        raise cloud.failure

    monkeypatch.setattr(cloud, "fetch", fetch)
    cloud.failure = OriginUnavailableError("it is silent")
    return counted


def fails(opened, offset, length):
    with pytest.raises(OSError) as caught, opened.views(offset, length):
        pass
    return caught.value.errno


def test_a_read_that_took_long_to_fail_fails_at_once_for_a_second(cloud, opened, asked):
    assert fails(opened, 0, BLOCK) == errno.EIO
    count = len(asked)
    assert fails(opened, 100, 10) == errno.EIO
    assert number_of(opened.read_into, 5, memoryview(bytearray(10))) == "EIO"
    assert len(asked) == count
    assert fails(opened, 2 * BLOCK, 10) == errno.EIO, "another block"
    assert len(asked) > count
    count = len(asked)
    cloud.runtime.ahead += 1.5
    assert fails(opened, 100, 10) == errno.EIO
    assert len(asked) > count


def test_a_read_of_several_blocks_says_nothing_of_each(opened, asked):
    assert fails(opened, 0, 2 * BLOCK) == errno.EIO
    count = len(asked)
    assert fails(opened, 0, 10) == errno.EIO
    assert len(asked) > count


def test_what_fails_at_once_is_tried_again_at_once(cloud, opened, asked):
    cloud.slow = 0.0
    assert fails(opened, 0, 10) == errno.EIO
    count = len(asked)
    assert fails(opened, 0, 10) == errno.EIO
    assert len(asked) > count
