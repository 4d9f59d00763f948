"""The doctor finds nothing on a cluster that is well, and names what is not."""

import base64
from datetime import UTC, datetime

import pytest

from cachefs.config.secrets import Secret
from cachefs.k8s import kinds
from cachefs.k8s.names import CACHE_POOLS, DATASETS
from cachefs.k8s.operator.leading import LEASE
from cachefs.k8s.webhook.renewing import Renewal
from cachefs.testing.kubernetes import ApiServer
from cachefs.transport.runtime import ThreadRuntime
from tests.integration.k8s.sites import INSTALL, Site


def _lease(seconds_ago=0.0):
    at = datetime.fromtimestamp(datetime.now(UTC).timestamp() - seconds_ago, UTC)
    spec = {"holderIdentity": "cachefs-operator-x", "leaseDurationSeconds": 15}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": "cachefs"},
        "spec": {**spec, "renewTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
    }


def _csi_node(name, *drivers):
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name},
        "spec": {"drivers": [{"name": driver, "nodeID": name} for driver in drivers]},
    }


def _pod(name, component, **changes):
    marks = {
        "app.kubernetes.io/name": "cachefs",
        "app.kubernetes.io/component": f"cachefs-{component}",
    }
    namespace = "cachefs-node" if component == "csi" else "cachefs"
    context = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": marks},
        "spec": {
            "containers": [{"name": "c", "image": "i", "securityContext": context}],
            **changes,
        },
    }


@pytest.fixture
def site(tmp_path):
    with ApiServer() as server:
        yield Site(server, tmp_path)


def _make_well(site):
    """Install, and do what everybody else on a cluster does then."""
    site.run(*INSTALL)
    site.become_ready()
    site.cluster.create(_lease())
    site.cluster.create(_csi_node("n1", "cachefs.io", "example.com"))
    renewal = Renewal(site.cluster, ThreadRuntime(), namespace="cachefs", token=Secret("dummy"))
    renewal.work()


@pytest.mark.slow
def test_nothing_is_found_where_all_is_well(site):
    _make_well(site)
    assert site.findings() == {}
    said = site.run("doctor")
    assert " 1 cachepool\n" in said
    assert "registered on the one node" in said


@pytest.mark.slow
def test_advice_is_a_whole_command_and_no_nodes_are_no_success(site):
    site.run(*INSTALL)
    found = site.findings()
    assert ("CSI driver", "no nodes yet") in found
    unseen = found["pods", "cachefs-node/cachefs-csi: not seen by the cluster yet"]
    assert unseen["advice"] == "kubectl -n cachefs-node describe daemonset cachefs-csi"
    site.cluster.create(_pod("cachefs-webhook-1", "webhook"))
    lacking = site.findings()["pods", "cachefs/cachefs-webhook has 0 of 2 pods ready"]
    marks = "app.kubernetes.io/name=cachefs,app.kubernetes.io/component=cachefs-webhook"
    assert lacking["advice"] == f"kubectl -n cachefs describe pods -l {marks}"


def test_a_cluster_without_an_installation_is_told_how_to_get_one(site):
    ((check, message),) = site.findings()
    assert (check, message) == ("installation", "nothing in cachefs")


def test_no_api_server_is_one_finding(tmp_path):
    with ApiServer() as server:
        site = Site(server, tmp_path)
    ((check, _),) = site.findings()
    assert check == "API server"


def _no_token(site):
    site.cluster.delete(kinds.SECRETS, "cachefs-token", "cachefs-node")


def _other_token(site):
    patch = {"data": {"token": base64.b64encode(b"other").decode()}}
    site.cluster.patch(kinds.SECRETS, "cachefs-token", "cachefs", patch)


def _unready_pods(site):
    status = {"status": {"readyReplicas": 0}}
    name = "cachefs-webhook"
    site.cluster.patch(kinds.DEPLOYMENTS, name, "cachefs", status, subresource="status")
    site.cluster.create(_pod("cachefs-webhook-1", "webhook"))
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    container = {
        "name": "c",
        "image": "i",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": waiting,
    }
    patch = {"status": {"phase": "Pending", "containerStatuses": [container]}}
    site.cluster.patch(kinds.PODS, "cachefs-webhook-1", "cachefs", patch, subresource="status")


def _older_definition(site):
    name = "datasets.cachefs.io"
    names = site.cluster.get(kinds.CUSTOM_RESOURCES, name)["spec"]["names"]
    patch = {"spec": {"names": {**names, "shortNames": ["old"]}}}
    site.cluster.patch(kinds.CUSTOM_RESOURCES, name, "", patch)


def _no_leader(site):
    site.cluster.delete(kinds.LEASES, LEASE, "cachefs")


def _silent_leader(site):
    _no_leader(site)
    site.cluster.create(_lease(seconds_ago=900))


def _no_bundle(site):
    configuration = site.cluster.get(kinds.MUTATING_WEBHOOKS, "cachefs")
    for webhook in configuration["webhooks"]:
        webhook["clientConfig"].pop("caBundle")
    site.cluster.replace(configuration)


def _no_certificate(site):
    patch = {"data": {"tls.crt": ""}}
    site.cluster.patch(kinds.SECRETS, "cachefs-webhook", "cachefs", patch)


def _unregistered(site):
    site.cluster.create(_csi_node("n2", "example.com"))
    site.cluster.create(_pod("cachefs-csi-x", "csi", nodeName="n2"))


def _no_driver_there(site):
    site.cluster.create(_csi_node("n3"))


def _unheld_namespace(site):
    label = {"pod-security.kubernetes.io/enforce": None}
    site.cluster.patch(kinds.NAMESPACES, "cachefs-node", "", {"metadata": {"labels": label}})


def _unready_pool(site):
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "ForeignNamespace",
        "message": "not served here",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    patch = {"status": {"conditions": [condition]}}
    site.cluster.patch(CACHE_POOLS, "default", "cachefs", patch, subresource="status")


def _dataset(site, name, *conditions):
    document = {
        "apiVersion": DATASETS.api_version,
        "kind": "Dataset",
        "metadata": {"name": name, "namespace": "cachefs"},
        "spec": {"url": "s3://models/llama"},
    }
    site.cluster.create(document)
    since = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    patch = {"status": {"conditions": [{**since, **one} for one in conditions]}}
    if conditions:
        site.cluster.patch(DATASETS, name, "cachefs", patch, subresource="status")


def _unsynced_dataset(site):
    ready = {"type": "Ready", "status": "True", "reason": "Served", "message": "served"}
    synced = {"type": "Synced", "status": "False", "reason": "VolumeOutdated", "message": "old"}
    _dataset(site, "llama", ready, synced)


def _unseen_dataset(site):
    _dataset(site, "qwen")


def _no_node_for_mounts(site):
    status = {"status": {"desiredNumberScheduled": 0, "numberReady": 0}}
    name = "cachefs-mounts"
    site.cluster.patch(kinds.DAEMON_SETS, name, "cachefs-node", status, subresource="status")


FAULTS = {
    _unsynced_dataset: ("objects", "Dataset cachefs/llama: old"),
    _unseen_dataset: ("objects", "Dataset cachefs/qwen: not seen by the operator yet"),
    _no_node_for_mounts: (
        "pods",
        "cachefs-node/cachefs-mounts: no node takes it (selector, taints?)",
    ),
    _other_token: ("token", "different tokens"),
    _no_token: ("token", "there is no cachefs-node/cachefs-token"),
    _unready_pods: ("pods", "0 of 2 pods ready: ImagePullBackOff (no such image)"),
    _older_definition: ("custom resources", "of another version than this command: datasets"),
    _no_leader: ("leader", "no pod of the operator leads"),
    _no_bundle: ("webhook", "not told to trust"),
    _no_certificate: ("webhook", "it has no certificate"),
    _unregistered: ("CSI driver", "not registered on n2"),
    _no_driver_there: ("CSI driver", "no pod of it on n3"),
    _unheld_namespace: ("namespaces", "cachefs-node is held to nothing"),
    _unready_pool: ("objects", "CachePool cachefs/default: not served here"),
    # The last: what it says changes from second to second.
    _silent_leader: ("leader", "cachefs-operator-x was last heard of 15 min"),
}


@pytest.mark.slow
def test_each_fault_is_found_and_no_other(site):
    """One after the other, on one cluster: each adds one finding, and only its own."""
    _make_well(site)
    before = {}
    for break_it, (check, message) in FAULTS.items():
        break_it(site)
        found = site.findings()
        ((where, said),) = found.keys() - before.keys()
        assert where == check
        assert message in said
        assert found[where, said]["advice"]
        before = found
