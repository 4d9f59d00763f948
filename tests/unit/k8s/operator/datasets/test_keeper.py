"""Looking at datasets on an API server of the tests: what is asked, and what is left of what is gone."""

import pytest

from cachefs.errors import ConfigError, NotKnownError, OriginDeniedError
from cachefs.k8s import crds
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.kinds import CONFIG_MAPS, EVENTS, VOLUME_CLAIMS, VOLUMES
from cachefs.k8s.names import CACHE_POOLS, DATASETS
from cachefs.k8s.operator.actions import Note
from cachefs.k8s.operator.carrying import Carrier
from cachefs.k8s.operator.datasets.keeper import AGAIN_SECONDS, SOON_SECONDS, DatasetKeeper
from cachefs.k8s.operator.datasets.ledger import LEDGER, Ledger
from cachefs.k8s.operator.datasets.volumes import volume_name
from cachefs.testing.kubernetes import ApiServer
from cachefs.transport.runtime import ThreadRuntime
from tests.unit.k8s.operator.worlds import World

FULL = "team/llama"


class FakeApi:
    """The coordinator, as far as datasets go."""

    def __init__(self):
        self.world = World()
        self.failure = None
        self.pools = [{"name": "default", "live": 1, "wanted": None, "draining": []}]

    def get(self, path):
        if path == "/v1/pools":
            return {"pools": self.pools}
        declared = self.world.datasets.get(FULL)
        if declared is None:
            raise NotKnownError("no such dataset")
        if path.endswith("/versions"):
            return {"versions": self.world.versions[FULL]}
        if path.startswith("/v1/residency/"):
            return {"bytes_total": 200, "bytes_resident": 50}
        return declared

    def fetch(self, method, path, body=None, *, timeout_seconds):
        if self.failure is not None:
            raise self.failure
        if method == "PUT":
            self.world._declare(FULL, body)
        else:
            assert method == "DELETE"
            self.world.datasets.pop(FULL)
        return b""


@pytest.fixture
def server():
    with ApiServer() as server:
        for name in ("cachefs", "team"):
            server.install({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        server.install(*crds.documents())
        yield server


@pytest.fixture
def cluster(server, tmp_path):
    return open_cluster(server.kubeconfig(tmp_path / "config"))


@pytest.fixture
def api():
    return FakeApi()


def keeper_of(cluster, api, *, has_volumes=True):
    ledger = Ledger(cluster, "cachefs")
    carrier = Carrier(cluster, api, ledger)
    return DatasetKeeper(ThreadRuntime(), cluster, api, ledger, carrier, has_volumes=has_volumes)


def create(cluster, name="llama", **spec):
    return cluster.create(
        {
            "apiVersion": "cachefs.io/v1alpha1",
            "kind": "Dataset",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"url": "s3://bucket/llama", **spec},
        }
    )


def test_without_the_driver_volumes_are_neither_made_nor_looked_for(server, cluster, api):
    create(cluster)
    keeper = keeper_of(cluster, api, has_volumes=False)
    assert keeper.keep("team", "llama") == AGAIN_SECONDS
    keeper.sweep()
    status = cluster.get(DATASETS, "llama", "team")["status"]
    assert (status["cachedPercent"], "claim" in status) == (25, False)
    cluster.delete(DATASETS, "llama", "team")
    keeper.keep("team", "llama")
    assert api.world.datasets == {}
    assert [path for _, _, path in server.calls if "persistentvolume" in path] == []


def test_what_is_left_of_a_dataset_that_is_gone_is_swept(server, cluster, api):
    create(cluster)
    keeper = keeper_of(cluster, api)
    keeper.keep("team", "llama")
    cluster.delete(DATASETS, "llama", "team")
    server.settle()
    assert cluster.get(VOLUME_CLAIMS, "llama", "team") is None
    assert keeper.sweep() == (("team", "llama"),)
    assert keeper.keep("team", "llama") is not None
    assert keeper.keep("team", "llama") is None
    assert keeper.sweep() == ()
    assert cluster.get(VOLUMES, volume_name("team", "llama")) is None
    assert not cluster.get(CONFIG_MAPS, LEDGER, "cachefs").get("data")


def test_a_dataset_that_pods_still_use_is_kept(server, cluster, api):
    create(cluster)
    keeper = keeper_of(cluster, api)
    keeper.keep("team", "llama")
    # What Kubernetes does to a claim that pods use.
    hold = {"metadata": {"finalizers": ["kubernetes.io/pvc-protection"]}}
    cluster.patch(VOLUME_CLAIMS, "llama", "team", hold)
    cluster.delete(DATASETS, "llama", "team")
    server.settle()
    assert keeper.keep("team", "llama") is not None
    assert list(api.world.datasets) == [FULL]
    cluster.patch(VOLUME_CLAIMS, "llama", "team", {"metadata": {"finalizers": None}})
    keeper.keep("team", "llama")
    assert api.world.datasets == {}


def test_what_fails_is_on_the_object_and_raised_for_the_desk(cluster, api):
    create(cluster)
    api.failure = OriginDeniedError("no entry")
    with pytest.raises(OriginDeniedError):
        keeper_of(cluster, api).keep("team", "llama")
    status = cluster.get(DATASETS, "llama", "team")["status"]
    assert status["phase"] == "Failed"
    assert {one["reason"] for one in status["conditions"]} == {"OriginDenied"}


def ready(cluster):
    found = cluster.get(DATASETS, "llama", "team")["status"]["conditions"]
    return next(one["reason"] for one in found if one["type"] == "Ready")


def test_another_object_that_fails_the_same_way_is_failed_again_not_listing_for_ever(cluster, api):
    create(cluster)
    api.failure = ConfigError("no such origin")
    keeper = keeper_of(cluster, api)
    for url in ("s4://bucket/1", "s4://bucket/2"):
        cluster.patch(DATASETS, "llama", "team", {"spec": {"url": url}})
        for _ in range(3):
            with pytest.raises(ConfigError):
                keeper.keep("team", "llama")
            status = cluster.get(DATASETS, "llama", "team")["status"]
            assert (status["phase"], ready(cluster)) == ("Failed", "Config")
    told = [one["reason"] for one in cluster.find(EVENTS, "team")]
    assert sorted(told) == ["Config", "Config", "Listing", "Listing"], "once for each object"


def test_a_pool_that_only_datasets_name_is_not_there_and_one_that_is_an_object_is(cluster, api):
    create(cluster, pool="fast")
    api.pools.append({"name": "fast", "live": 0, "wanted": 0, "draining": []})
    assert keeper_of(cluster, api).keep("team", "llama") == SOON_SECONDS, "it may come soon"
    assert ready(cluster) == "PoolNotKnown"
    spec = {"tiers": [{"medium": "memory", "size": "1Gi"}], "workers": 1}
    made = {"apiVersion": "cachefs.io/v1alpha1", "kind": "CachePool", "spec": spec}
    cluster.create({**made, "metadata": {"name": "fast", "namespace": "cachefs"}})
    assert keeper_of(cluster, api).keep("team", "llama") == AGAIN_SECONDS
    assert ready(cluster) == "Served"


def test_a_pool_that_is_refused_is_not_there(cluster, api):
    create(cluster, pool="fast")
    spec = {"tiers": [{"medium": "memory", "size": "1Gi"}], "workers": 1}
    made = {"apiVersion": "cachefs.io/v1alpha1", "kind": "CachePool", "spec": spec}
    cluster.create({**made, "metadata": {"name": "fast", "namespace": "team"}})
    failed = {"status": {"phase": "Failed"}}
    cluster.patch(CACHE_POOLS, "fast", "team", failed, subresource="status")
    keeper_of(cluster, api).keep("team", "llama")
    assert ready(cluster) == "PoolNotKnown"


class LateCluster:
    """A cluster on which somebody else makes the ledger between our look and our making it."""

    def __init__(self, cluster):
        self._cluster = cluster

    def patch(self, *what):
        return self._cluster.patch(*what)

    def create(self, document):
        other = {**document, "data": {"team.other": "Retain"}}
        self._cluster.create(other)
        return self._cluster.create(document)


def test_a_ledger_that_another_thread_makes_first_holds_both_lines(cluster):
    Ledger(LateCluster(cluster), "cachefs").write(Note("team", "llama", "Delete"))
    expected = {("team", "other"): "Retain", ("team", "llama"): "Delete"}
    assert Ledger(cluster, "cachefs").read() == expected


def test_of_many_datasets_each_is_looked_at_less_often(cluster, api):
    keeper = keeper_of(cluster, api, has_volumes=False)
    for number in range(200):
        keeper._ledger.write(Note("team", f"d{number}", "Delete"))
    create(cluster)
    keeper.sweep()
    assert keeper.keep("team", "llama") == pytest.approx(20.1)
