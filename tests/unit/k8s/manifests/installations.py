"""Installations of every shape, and what is in them."""

import pytest

from cachefs.config.schema import GIB
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.whole import documents

PLAIN = Installation(image="example/cachefs@sha256:00", plain=True)
PLAIN_FULL = Installation(
    image="example/cachefs:1",
    plain=True,
    namespace="models",
    workers=5,
    zones=("a", "b"),
    disk_bytes=GIB,
    memory_bytes=2 * GIB,
    storage_class="local-nvme",
    node_selector={"gpu": "h100"},
    tolerations=({"key": "gpu", "operator": "Exists"},),
    store_secret="store",
    origins_secret="buckets",
    image_pull_secret="pull",
)
DEFAULT = Installation(image="example/cachefs:1")
FULL = Installation(
    image="example/cachefs:1",
    namespace="models",
    node_namespace="models-node",
    workers=0,
    zones=("a", "b"),
    memory_bytes=2 * GIB,
    storage_class="local-nvme",
    node_selector={"gpu": "h100"},
    tolerations=({"key": "gpu", "operator": "Exists"},),
    store_secret="store",
    origins_secret="buckets",
    image_pull_secret="pull",
    kubelet_folder="/var/lib/k0s/kubelet",
    observing=True,
    trusted="ops-*,ml",
    sources="team-a=s3://team-a-*,*=hf://*",
    destinations="team-a=s3://team-a-backups/*",
)
BARE = Installation(image="example/cachefs:1", csi=False, webhook=False, programs=False)
EVERY = {
    "plain": PLAIN,
    "plain-full": PLAIN_FULL,
    "default": DEFAULT,
    "full": FULL,
    "bare": BARE,
}
each = pytest.mark.parametrize("wanted", EVERY.values(), ids=EVERY)
each_plain = pytest.mark.parametrize("wanted", [PLAIN, PLAIN_FULL], ids=["plain", "plain-full"])
PRIVILEGED = {"cachefs-csi", "cachefs-mounts"}
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


def workloads(wanted):
    """Yield what makes pods, and the specification of these."""
    for document in documents(wanted):
        if document["kind"] in WORKLOADS:
            yield document, document["spec"]["template"]["spec"]


def found(wanted, kind, name, namespace=None):
    """Return the one object of a kind and a name."""
    (only,) = (
        one
        for one in documents(wanted)
        if (one["kind"], one["metadata"]["name"]) == (kind, name)
        and namespace in (None, one["metadata"].get("namespace"))
    )
    return only


def in_bytes(quantity):
    """Return a quantity as a number."""
    return int(quantity[:-2]) * {"Gi": 1 << 30, "Mi": 1 << 20}[quantity[-2:]]
