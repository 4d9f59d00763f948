"""Whose pods may have which dataset, by the objects of an API server that holds the driver to its rights."""

import grpc
import pytest

from cachefs.k8s import crds
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests import permissions
from cachefs.testing.kubernetes import ApiServer
from tests.fuse.mounting import FILES, why_no_mounts, write_files
from tests.integration.k8s.nodes import Node
from tests.integration.systems import System

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_mounts()), reason=why_no_mounts() or "namespaces are possible"),
]

ALLOWED = grpc.StatusCode.UNAVAILABLE
"""The node has no mount: that is looked for once everything else is right."""
DENIED = grpc.StatusCode.PERMISSION_DENIED


def dataset(name, **spec):
    return {
        "apiVersion": "cachefs.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"url": "s3://bucket/folder", **spec},
    }


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("system")
    with System(folder) as made:
        made.start_coordinator()
        url = write_files(folder / "origin", FILES)
        for name in ("own", "shared", "common"):
            made.add(name, url)
        yield made


def asked(node, name, namespace, volume="csi-" + "ab" * 32):
    attributes = {
        "dataset": f"default/{name}",
        "csi.storage.k8s.io/pod.namespace": namespace,
        "csi.storage.k8s.io/ephemeral": "true",
    }
    with pytest.raises(grpc.RpcError) as caught:
        node.publish(volume, node.target(f"{namespace}-{name}"), attributes)
    return caught.value.code()


def test_a_dataset_is_for_its_own_namespace_and_those_that_it_is_shared_with(system, tmp_path):
    with ApiServer(authorizing=True) as server:
        server.install(*crds.documents())
        for name in ("default", "cachefs", "cachefs-node"):
            if server.store.get(("", "namespaces", "", name)) is None:
                head = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                server.install(head)
        server.install(*permissions.documents(Installation(image="cachefs")))
        server.install(
            dataset("own"),
            dataset("shared", sharedWith=["team"]),
            dataset("common", sharedWith=["*"]),
        )
        token = server.account("cachefs-node", "cachefs-csi")
        config = server.kubeconfig(tmp_path / "config", token=token)
        with Node(system, KUBECONFIG=str(config)) as node:
            node.start_driver(cluster=True)
            node.wait_for_driver()
            table = {
                ("own", "default"): ALLOWED,
                ("own", "team"): DENIED,
                ("shared", "team"): ALLOWED,
                ("shared", "other"): DENIED,
                ("common", "other"): ALLOWED,
                ("nothing", "team"): DENIED,
            }
            assert {row: asked(node, *row) for row in table} == table
            calls = {call for call in server.calls if "cachefs-csi" in call[0]}
            assert {method for _, method, _ in calls} == {"GET"}
            assert {path.rpartition("/")[0] for _, _, path in calls} == {
                "/apis/cachefs.io/v1alpha1/namespaces/default/datasets"
            }
            server.close()
            assert asked(node, "own", "default") is ALLOWED
            assert asked(node, "shared", "team") is ALLOWED  # as it was said before
            assert asked(node, "shared", "other") is DENIED
