"""Engines for the tests of flows."""

import pytest

from tests.integration.databases import Postgres, find_postgres
from tests.integration.flows.engines import Effects, Kit


@pytest.fixture
def effects(tmp_path):
    return Effects(tmp_path / "effects.db")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def kit(url, effects):
    with Kit(url, effects) as made:
        yield made


@pytest.fixture(scope="session")
def postgres():
    with Postgres(find_postgres()) as server:
        yield server


@pytest.fixture
def postgres_url(postgres, request):
    return postgres.make_database(f"test_{abs(hash(request.node.nodeid)):x}")
