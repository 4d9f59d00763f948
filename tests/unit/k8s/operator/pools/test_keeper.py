"""Looking at pools on an API server of the tests: what belongs to whom."""

import pytest

from cachefs.k8s import crds
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.installation import Installation
from cachefs.k8s.kinds import CONFIG_MAPS, SERVICES, STATEFUL_SETS
from cachefs.k8s.names import CACHE_POOLS
from cachefs.k8s.operator.carrying import Carrier
from cachefs.k8s.operator.datasets.ledger import Ledger
from cachefs.k8s.operator.pools.keeper import AGAIN_SECONDS, PoolKeeper
from cachefs.testing.kubernetes import ApiServer
from cachefs.transport.runtime import ThreadRuntime
from tests.unit.k8s.operator.pools.test_pools import a_pool
from tests.unit.k8s.operator.worlds import World

TIERS = [{"medium": "disk", "size": "10Gi"}]


class FakeApi:
    """The coordinator, as far as pools go."""

    def __init__(self):
        self.world = World()
        self.world.pools["default"] = a_pool()

    def get(self, path):
        return {
            "/v1/members": {"members": []},
            "/v1/policies": {"pools": {}},
            "/v1/pools/default": self.world.pools["default"],
        }[path]

    def fetch(self, method, path, body=None, *, timeout_seconds):
        assert (method, path) == ("PUT", "/v1/pools/default")
        kept = {name: value for name, value in body.items() if name in a_pool()}
        self.world.pools["default"] |= kept
        return b""


@pytest.fixture
def cluster(tmp_path):
    with ApiServer() as server:
        for name in ("cachefs", "cachefs-node", "team"):
            server.install({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        server.install(*crds.documents())
        yield open_cluster(server.kubeconfig(tmp_path / "config"))


@pytest.fixture
def api():
    return FakeApi()


@pytest.fixture
def keeper(cluster, api):
    carrier = Carrier(cluster, api, Ledger(cluster, "cachefs"))
    return PoolKeeper(ThreadRuntime(), cluster, api, carrier, Installation(image="cachefs:1"))


def create(cluster, namespace="cachefs", name="default", **spec):
    return cluster.create(
        {
            "apiVersion": "cachefs.io/v1alpha1",
            "kind": "CachePool",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"tiers": TIERS, "workers": 2, **spec},
        }
    )


def ready(cluster, namespace="cachefs", name="default"):
    found = cluster.get(CACHE_POOLS, name, namespace)["status"]["conditions"]
    return next(one for one in found if one["type"] == "Ready")


def test_a_pool_that_is_made_is_left_alone_from_then_on(cluster, keeper):
    create(cluster)
    keeper.keep("cachefs", "default")
    made = cluster.get(STATEFUL_SETS, "cachefs-worker", "cachefs")
    assert made["spec"]["replicas"] == 2
    status = cluster.get(CACHE_POOLS, "default", "cachefs")["status"]
    assert (status["appliedWorkers"], status["wanted"], status["workers"]) == (2, 2, 0)
    keeper.keep("cachefs", "default")
    again = cluster.get(STATEFUL_SETS, "cachefs-worker", "cachefs")
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert keeper.sweep() == (("cachefs", "default"),)


def test_of_two_pools_of_a_name_the_older_one_counts(cluster, keeper, api):
    create(cluster)
    keeper.keep("cachefs", "default")
    create(cluster, "cachefs-node", workers=5)
    assert keeper.keep("cachefs-node", "default") == AGAIN_SECONDS
    assert ready(cluster, "cachefs-node")["reason"] == "NameTaken"
    assert cluster.get(STATEFUL_SETS, "cachefs-worker", "cachefs-node") is None
    # That the second one goes is nothing to the first one's workers.
    cluster.delete(CACHE_POOLS, "default", "cachefs-node")
    assert keeper.keep("cachefs-node", "default") is None
    assert api.world.pools["default"]["wanted"] == 2
    cluster.delete(CACHE_POOLS, "default", "cachefs")
    keeper.keep("cachefs", "default")
    assert api.world.pools["default"]["wanted"] == 0


def test_a_pool_elsewhere_is_refused_and_its_end_changes_nothing(cluster, keeper, api):
    create(cluster, "team")
    keeper.keep("team", "default")
    assert ready(cluster, "team")["reason"] == "ForeignNamespace"
    api.world.pools["default"]["wanted"] = 7
    cluster.delete(CACHE_POOLS, "default", "team")
    assert keeper.keep("team", "default") is None
    assert api.world.pools["default"]["wanted"] == 7


def test_a_service_of_that_name_that_is_somebody_elses_is_not_taken_over(cluster, keeper):
    head = {"name": "cachefs-worker", "namespace": "cachefs"}
    spec = {"ports": [{"port": 1}]}
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": head, "spec": spec})
    create(cluster)
    keeper.keep("cachefs", "default")
    assert ready(cluster)["reason"] == "NameTaken"
    assert cluster.get(SERVICES, "cachefs-worker", "cachefs")["spec"]["ports"][0]["port"] == 1


def test_a_pool_without_an_operator_is_taken_over_with_its_sets(cluster, keeper):
    from cachefs.k8s.manifests import workers  # noqa: PLC0415

    for document in workers.documents(Installation(image="cachefs:0", disk_bytes=10 << 30)):
        cluster.create(document)
    before = cluster.get(STATEFUL_SETS, "cachefs-worker", "cachefs")
    create(cluster)
    keeper.keep("cachefs", "default")
    after = cluster.get(STATEFUL_SETS, "cachefs-worker", "cachefs")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    (container,) = after["spec"]["template"]["spec"]["containers"]
    assert (container["image"], after["spec"]["replicas"]) == ("cachefs:1", 2)
    assert after["metadata"]["ownerReferences"][0]["kind"] == "CachePool"


def test_what_belongs_to_a_zone_goes_with_it(cluster, keeper):
    document = create(cluster, zones=["a", "b"])
    keeper.keep("cachefs", "default")
    head = document["metadata"]
    cluster.patch(CACHE_POOLS, head["name"], head["namespace"], {"spec": {"zones": ["a"]}})
    # Nobody makes pods here: the set of the other zone has none, and may go at once.
    for _ in range(2):
        keeper.keep("cachefs", "default")
    assert cluster.get(STATEFUL_SETS, "cachefs-worker-b", "cachefs") is None
    assert cluster.get(CONFIG_MAPS, "cachefs-worker-b", "cachefs") is None
    assert cluster.get(STATEFUL_SETS, "cachefs-worker-a", "cachefs")["spec"]["replicas"] == 2
