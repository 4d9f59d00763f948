"""The default pool, as an object of which the operator makes workers."""

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import Document, headed, quantity
from cachefs.k8s.manifests.workers import DEFAULT_POOL
from cachefs.k8s.names import API_VERSION


def documents(wanted: Installation) -> list[Document]:
    """Return the pool."""
    disk: Document = {"medium": "disk", "size": quantity(wanted.disk_bytes)}
    if wanted.storage_class is not None:
        disk["storageClassName"] = wanted.storage_class
    tiers: list[Document] = [disk]
    if wanted.memory_bytes:
        tiers.insert(0, {"medium": "memory", "size": quantity(wanted.memory_bytes)})
    spec: Document = {"mode": "Workers", "workers": wanted.workers, "tiers": tiers}
    if wanted.zones:
        spec["zones"] = list(wanted.zones)
    if wanted.node_selector:
        spec["nodeSelector"] = dict(wanted.node_selector)
    if wanted.tolerations:
        spec["tolerations"] = [dict(each) for each in wanted.tolerations]
    head = headed(API_VERSION, "CachePool", DEFAULT_POOL, "worker", wanted.namespace)
    return [{**head, "spec": spec}]
