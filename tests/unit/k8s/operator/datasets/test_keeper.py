"""Looking at datasets on an API server of the tests: what is asked, and what is left of what is gone."""

import pytest

from cachefs.errors import NotKnownError, OriginDeniedError
from cachefs.k8s import crds
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.kinds import CONFIG_MAPS, VOLUME_CLAIMS, VOLUMES
from cachefs.k8s.names import DATASETS
from cachefs.k8s.operator.actions import Note
from cachefs.k8s.operator.carrying import Carrier
from cachefs.k8s.operator.datasets.keeper import AGAIN_SECONDS, DatasetKeeper
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

    def get(self, path):
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


def create(cluster, name="llama"):
    return cluster.create(
        {
            "apiVersion": "cachefs.io/v1alpha1",
            "kind": "Dataset",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"url": "s3://bucket/llama"},
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


def test_of_many_datasets_each_is_looked_at_less_often(cluster, api):
    keeper = keeper_of(cluster, api, has_volumes=False)
    for number in range(200):
        keeper._ledger.write(Note("team", f"d{number}", "Delete"))
    create(cluster)
    keeper.sweep()
    assert keeper.keep("team", "llama") == pytest.approx(20.1)
