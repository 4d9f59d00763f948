"""The operator as a process: real watches, a real coordinator, held to the roles that it is installed with."""

import os
import signal

import pytest

from cachefs.k8s import crds
from cachefs.k8s.kinds import EVENTS, LEASES, NAMESPACES, VOLUME_CLAIMS, VOLUMES
from cachefs.k8s.manifests import permissions
from cachefs.k8s.names import DATASETS
from cachefs.k8s.operator.datasets.volumes import volume_name
from cachefs.testing.kubernetes import ApiServer
from cachefs.testing.kubernetes.faults import Fault
from tests.integration.k8s.operators import (
    INSTALLATION,
    Objects,
    Operator,
    namespace,
    resource,
)
from tests.integration.systems import System, wait_for

pytestmark = pytest.mark.slow
BLOCK = 64 * 1024


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with System(tmp_path_factory.mktemp("operator"), block_size=BLOCK, duties=True) as system:
        system.start_coordinator()
        system.start_worker("w1")
        system.wait_for_members("w1")
        yield system


def a_server():
    server = ApiServer(authorizing=True, tls=True)
    server.install(
        *(namespace(name) for name in ("cachefs", "cachefs-node", "team")),
        *crds.documents(),
        *(one for one in permissions.documents(INSTALLATION) if "rules" in one),
        *(one for one in permissions.documents(INSTALLATION) if "roleRef" in one),
    )
    return server


def token_of(server):
    return server.account("cachefs", "cachefs-operator")


@pytest.fixture(scope="module")
def place(tmp_path_factory, system):
    """Return a server, what is in it, and the operator that looks after that."""
    folder = tmp_path_factory.mktemp("place")
    with a_server() as server, Operator(folder, server, system, token=token_of(server)) as operator:
        wait_for(lambda: operator.leads, what=operator.log)
        yield server, Objects(folder, server), operator


@pytest.fixture
def server(place):
    yield place[0]
    place[0].heal()


@pytest.fixture
def objects(place):
    return place[1]


@pytest.fixture
def operator(place):
    return place[2]


@pytest.fixture
def own(tmp_path):
    """Return a server for operators of a test's own, and what is in it."""
    with a_server() as server:
        yield server, Objects(tmp_path, server)


@pytest.fixture
def origin(request, tmp_path):
    folder = tmp_path / "origin"
    folder.mkdir()
    (folder / "model.bin").write_bytes(os.urandom(3 * BLOCK))
    return folder


def declared(system, name):
    found = system.api.get("/v1/datasets")["datasets"]
    return next((one for one in found if one["name"] == f"team/{name}"), None)


def cached(objects, name):
    return objects.status(DATASETS, name, "team").get("cachedPercent")


def test_a_dataset_is_declared_warmed_shown_changed_and_forgotten(
    operator, objects, system, origin
):
    spec = {"url": f"file://{origin}", "warm": {}}
    document = objects.create(resource("Dataset", "llama", "team", **spec))
    wait_for(lambda: cached(objects, "llama") == 100, 30, what=operator.log)
    status = objects.status(DATASETS, "llama", "team")
    assert (status["phase"], status["files"], status["bytes"]) == ("Cached", 1, 3 * BLOCK)
    claim = objects.cluster.get(VOLUME_CLAIMS, "llama", "team")
    volume = objects.cluster.get(VOLUMES, volume_name("team", "llama"))
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert volume["spec"]["csi"]["volumeHandle"] == "team/llama"
    assert 'cachefs_operator_looks_total{keeper="datasets"}' in operator.ask("/metrics")
    assert operator.ask("/healthz") == "ok\n"
    told = {one["reason"] for one in objects.cluster.find(EVENTS, "team")}
    assert "Served" in told

    objects.change(document, replicas=2, url=f"file://{origin}/")
    wait_for(lambda: declared(system, "llama")["replicas"] == 2, what=operator.log)
    assert "finalizers" not in objects.cluster.get(DATASETS, "llama", "team")["metadata"]

    objects.cluster.delete(DATASETS, "llama", "team")
    wait_for(lambda: declared(system, "llama") is None, 30, what=operator.log)
    wait_for(
        lambda: objects.cluster.get(VOLUMES, volume["metadata"]["name"]) is None, what=operator.log
    )


def test_dropped_watches_and_versions_that_aged_away_hide_nothing(
    operator, objects, server, system, origin
):
    objects.create(resource("Dataset", "before", "team", url=f"file://{origin}"))
    wait_for(lambda: cached(objects, "before") == 0, what=operator.log)
    server.compact()
    server.drop_watches()
    objects.create(resource("Dataset", "after", "team", url=f"file://{origin}"))
    wait_for(lambda: cached(objects, "after") == 0, what=operator.log)
    for name in ("before", "after"):
        objects.cluster.delete(DATASETS, name, "team")
        wait_for(lambda name=name: declared(system, name) is None, 30, what=operator.log)


def test_a_coordinator_that_is_away_takes_nothing_away(operator, objects, system, origin):
    document = objects.create(resource("Dataset", "calm", "team", url=f"file://{origin}"))
    ready = lambda: objects.condition(DATASETS, "calm", "team", "Ready")  # noqa: E731
    wait_for(lambda: ready().get("status") == "True", what=operator.log)
    system.kill("coordinator")
    objects.change(document, replicas=2)
    wait_for(lambda: ready()["reason"] == "CoordinatorUnavailable", what=operator.log)
    assert ready()["status"] == "Unknown"
    status = objects.status(DATASETS, "calm", "team")
    assert (status["claim"], status["bytes"]) == ("calm", 3 * BLOCK)
    assert objects.cluster.get(VOLUME_CLAIMS, "calm", "team") is not None
    system.restart("coordinator")
    wait_for(lambda: ready()["status"] == "True", 30, what=operator.log)
    assert declared(system, "calm")["replicas"] == 2
    objects.cluster.delete(DATASETS, "calm", "team")
    wait_for(lambda: declared(system, "calm") is None, 30, what=operator.log)


def test_conflicts_busy_servers_and_lost_answers_are_lived_with(
    operator, objects, server, system, origin
):
    for code in (409, 500, 503):
        server.inject(Fault(verb="patch", resource="datasets/status", code=code))
        server.inject(Fault(verb="create", resource="persistentvolume*", code=code))
    server.inject(Fault(verb="patch", resource="configmaps", drop=True, after=True))
    server.inject(Fault(verb="create", resource="persistentvolume*", drop=True, after=True))
    objects.create(resource("Dataset", "tough", "team", url=f"file://{origin}"))
    wait_for(lambda: cached(objects, "tough") == 0, 40, what=operator.log)
    wait_for(
        lambda: objects.cluster.get(VOLUME_CLAIMS, "tough", "team") is not None, what=operator.log
    )
    assert objects.condition(DATASETS, "tough", "team", "Synced")["status"] == "True"
    objects.cluster.delete(DATASETS, "tough", "team")
    wait_for(lambda: declared(system, "tough") is None, 30, what=operator.log)


def test_a_namespace_goes_at_once_and_its_datasets_with_it(
    operator, objects, server, system, origin
):
    server.install(namespace("short"))
    objects.create(resource("Dataset", "llama", "short", url=f"file://{origin}"))
    short = lambda: [one for one in _datasets(system) if one.startswith("short/")]  # noqa: E731
    wait_for(short, what=operator.log)
    objects.cluster.delete(NAMESPACES, "short")
    wait_for(lambda: objects.cluster.get(NAMESPACES, "short") is None, what=operator.log)
    wait_for(lambda: not short(), 30, what=operator.log)
    name = volume_name("short", "llama")
    wait_for(lambda: objects.cluster.get(VOLUMES, name) is None, what=operator.log)


def _datasets(system):
    return [one["name"] for one in system.api.get("/v1/datasets")["datasets"]]


def test_an_origin_that_is_not_there_is_said_and_a_better_url_tried_at_once(
    operator, objects, system, origin
):
    document = objects.create(resource("Dataset", "lost", "team", url=f"file://{origin}/nothing"))
    reason = lambda: objects.condition(DATASETS, "lost", "team", "Ready").get("reason")  # noqa: E731
    wait_for(lambda: reason() == "OriginNotFound", what=operator.log)
    assert objects.status(DATASETS, "lost", "team")["phase"] == "Failed"
    about = [
        one["reason"]
        for one in objects.cluster.find(EVENTS, "team")
        if one["involvedObject"]["name"] == "lost"
    ]
    assert sorted(about) == ["Listing", "OriginNotFound"], "once each, however often it was tried"
    objects.change(document, url=f"file://{origin}")
    wait_for(lambda: reason() == "Served", what=operator.log)
    objects.cluster.delete(DATASETS, "lost", "team")
    wait_for(lambda: declared(system, "lost") is None, 30, what=operator.log)


def test_one_of_two_acts_and_the_other_takes_over_with_what_nobody_saw(
    tmp_path, own, system, origin
):
    server, objects = own
    token = token_of(server)
    url = f"file://{origin}"
    system.api.post("/v1/datasets", {"name": "team/by-hand", "origin": {"url": url}})
    with (
        Operator(tmp_path, server, system, identity="a", token=token) as one,
        Operator(tmp_path, server, system, identity="b", token=token) as other,
    ):
        first, second = wait_for(
            lambda: (one, other) if one.leads else (other, one) if other.leads else None
        )
        assert not second.leads
        for name in ("gone", "kept"):
            objects.create(resource("Dataset", name, "team", url=url))
            wait_for(lambda name=name: cached(objects, name) == 0, what=first.log)
        # It stands still: it thinks that it leads, and must not act when it goes on.
        os.kill(first.process.pid, signal.SIGSTOP)
        objects.cluster.delete(DATASETS, "gone", "team")
        wait_for(lambda: second.leads, what=second.log)
        wait_for(lambda: declared(system, "gone") is None, 30, what=second.log)
        os.kill(first.process.pid, signal.SIGCONT)
        wait_for(lambda: not first.process.is_running(), what=first.log)
        objects.create(resource("Dataset", "led", "team", url=url))
        wait_for(lambda: cached(objects, "led") == 0, what=second.log)
        assert {"team/kept", "team/by-hand"} < set(_datasets(system))
        second.process.stop()
    lease = objects.cluster.get(LEASES, "cachefs-operator", "cachefs")
    assert "holderIdentity" not in lease["spec"]
    for name in ("kept", "led", "by-hand"):
        system.api.delete(f"/v1/datasets/team/{name}")
