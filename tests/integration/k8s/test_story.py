"""The whole way: installed by our command, declared as an object, published to a pod, read.

What others' tests look at one by one is here in one piece: the operator and the driver are real processes that
have the roles that the installation gave them and no more, and the kubelet's calls carry what the
operator wrote into the volume.
"""

import hashlib

import grpc
import pytest

from cachefs.k8s.kinds import NAMESPACES, VOLUME_CLAIMS, VOLUMES
from cachefs.k8s.names import DATASETS
from cachefs.testing.kubernetes import ApiServer
from tests.fuse.mounting import FILES, LARGE, why_no_mounts, write_files
from tests.integration.k8s.nodes import SECONDS, Node
from tests.integration.k8s.operators import Objects, Operator, namespace, resource
from tests.integration.k8s.sites import INSTALL, Site
from tests.integration.systems import System, wait_for

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_mounts()), reason=why_no_mounts() or "mounts are possible"),
]


@pytest.fixture
def system(tmp_path):
    with System(tmp_path, duties=True) as made:
        made.start_coordinator()
        made.start_worker("worker-1")
        made.wait_for_members("worker-1")
        yield made


def of_pod(namespace, attributes):
    """Return a volume's attributes as the kubelet completes them for a pod."""
    told = {"pod.namespace": namespace, "ephemeral": "false", "pod.name": "serve"}
    return attributes | {f"csi.storage.k8s.io/{name}": text for name, text in told.items()}


def test_an_object_becomes_a_volume_that_only_those_read_who_may(tmp_path, system):
    origin = write_files(tmp_path / "origin", FILES)
    with ApiServer(authorizing=True, tls=True) as server:
        site = Site(server, tmp_path)
        site.run(*INSTALL)
        objects = Objects(tmp_path, server)
        for name in ("team", "guests"):
            if site.cluster.get(NAMESPACES, name) is None:
                objects.create(namespace(name))
        token = server.account("cachefs", "cachefs-operator")
        driver = server.kubeconfig(
            tmp_path / "driver", token=server.account("cachefs-node", "cachefs-csi")
        )
        with (
            Operator(tmp_path, server, system, token=token) as operator,
            Node(system, KUBECONFIG=str(driver)) as node,
        ):
            made = objects.create(resource("Dataset", "model", "team", url=origin, warm={}))
            claim = wait_for(
                lambda: site.cluster.get(VOLUME_CLAIMS, "model", "team"), SECONDS, what=operator.log
            )
            wait_for(
                lambda: objects.status(DATASETS, "model", "team").get("cachedPercent") == 100,
                SECONDS,
                what=operator.log,
            )
            volume = site.cluster.get(VOLUMES, claim["spec"]["volumeName"])["spec"]["csi"]
            assert volume["driver"] == "cachefs.io"
            handle, attributes = volume["volumeHandle"], volume["volumeAttributes"]

            node.start_driver(cluster=True)
            node.wait_for_driver()
            node.start_mounts()
            node.wait_until_serving()
            mine = node.target("pod-of-team")
            node.publish(handle, mine, of_pod("team", attributes))
            read = hashlib.sha256(node.seen(mine / LARGE).read_bytes())
            assert read.hexdigest() == hashlib.sha256(FILES[LARGE]).hexdigest()

            theirs = node.target("pod-of-guests")
            with pytest.raises(grpc.RpcError) as refused:
                node.publish(handle, theirs, of_pod("guests", attributes))
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
            objects.change(made, sharedWith=["guests"])

            def shared():
                try:
                    node.publish(handle, theirs, of_pod("guests", attributes))
                except grpc.RpcError:
                    return False
                return True

            wait_for(shared, SECONDS, what=node.log)
            assert node.seen(theirs / LARGE).read_bytes() == FILES[LARGE]
            for target in (mine, theirs):
                node.unpublish(handle, target)
                assert node.mounted(target) == []
