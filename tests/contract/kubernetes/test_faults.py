"""Faults: what is injected comes to pass, to those requests, that often, and no more."""

import http.client

import pytest

from cachefs.testing.kubernetes import Fault
from tests.contract.kubernetes.clients import MAPS, config_map


def test_a_loaded_server_asks_to_come_again(server, api):
    """API Priority and Fairness: 429 with Retry-After."""
    server.inject(
        Fault(verb="create", resource="configmaps", code=429, retry_after_seconds=2, times=2)
    )
    for _ in range(2):
        refused = api.post(MAPS, config_map("a"))
        assert (refused.code, refused.reason) == (429, "TooManyRequests")
        assert refused.headers["Retry-After"] == "2"
        assert refused["details"]["retryAfterSeconds"] == 2
    assert api.post(MAPS, config_map("a")).code == 201


def test_a_lost_answer_leaves_what_was_done(server, api):
    """api-conventions, "Idempotency": a client that hears nothing does not know."""
    server.inject(Fault(verb="create", drop=True, after=True))
    with pytest.raises(http.client.RemoteDisconnected):
        api.post(MAPS, config_map("a"))
    assert api.post(MAPS, config_map("a")).reason == "AlreadyExists"
    server.inject(Fault(verb="create", drop=True))
    with pytest.raises(http.client.RemoteDisconnected):
        api.post(MAPS, config_map("b"))
    assert api.get(f"{MAPS}/b").code == 404


@pytest.mark.parametrize("code", [500, 503, 504])
def test_a_fault_concerns_only_what_fits_it(server, api, code):
    """Patterns of shells: verb, resource with subresource, name."""
    server.inject(Fault(verb="get", resource="config*", name="a", code=code, times=-1))
    api.post(MAPS, config_map("a"))
    api.post(MAPS, config_map("b"))
    assert [api.get(f"{MAPS}/{name}").code for name in "aba"] == [code, 200, code]
    server.heal()
    assert api.get(f"{MAPS}/a").code == 200


def test_watches_can_be_dropped(server, api):
    """Clients must take a watch that ends for what it is: nothing lost, watch again."""
    version = api.get(MAPS).version
    server.drop_watches()
    assert api.watch(MAPS, resourceVersion=version) == []
    api.post(MAPS, config_map("a"))
    assert len(api.watch(MAPS, resourceVersion=version)) == 1


def test_what_was_asked_can_be_counted(server, api):
    """A test can see how often a client came, and as whom."""
    api.get(f"{MAPS}/a", pretty="true")
    assert ("kubernetes-admin", "GET", f"{MAPS}/a?pretty=true") in server.calls
