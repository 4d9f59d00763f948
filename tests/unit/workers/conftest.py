"""Fixtures of the worker's unit tests."""

import pytest

from tests.unit.workers.worlds import World


@pytest.fixture
def make():
    worlds = []

    def build(**options):
        worlds.append(World(**options))
        return worlds[-1]

    yield build
    for world in worlds:
        world.filler.close()
