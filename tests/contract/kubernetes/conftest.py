"""A server for each test of this folder."""

import pytest

from cachefs.testing.kubernetes import ApiServer
from tests.contract.kubernetes.clients import THINGS, Client, definition


@pytest.fixture
def server():
    with ApiServer() as running:
        yield running


@pytest.fixture
def api(server):
    return Client(server)


@pytest.fixture
def client_of(server):
    """Make a client of the server that has a token."""
    return lambda token: Client(server, token)


@pytest.fixture
def things(server):
    """Install a kind with a few fields, and say where it is served."""
    server.install(
        definition(
            {
                "size": {"type": "integer", "minimum": 0},
                "color": {"type": "string", "default": "red"},
                "names": {"type": "array", "items": {"type": "string"}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            }
        )
    )
    return THINGS
