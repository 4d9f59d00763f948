"""A cloud for each test that asks for one."""

import pytest

from tests.unit.fuse.worlds import Cloud


@pytest.fixture
def cloud():
    made = Cloud()
    yield made
    made.reader.close()
