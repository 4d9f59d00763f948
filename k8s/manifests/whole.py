"""The whole: all objects of an installation, in the order in which they need one another."""

from collections.abc import Iterator

from cachefs.k8s import crds, observing
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests import (
    coordinator,
    network,
    nodes,
    operator,
    permissions,
    pool,
    webhook,
    workers,
)
from cachefs.k8s.manifests.parts import Document, headed, named


def documents(wanted: Installation) -> list[Document]:
    """Return all objects, in the order in which they are to be made."""
    return [*definitions(wanted), *namespaces(wanted), *objects(wanted)]


def definitions(wanted: Installation) -> list[Document]:
    """Return the custom resources' definitions, before which nothing of these kinds can be made."""
    return [] if wanted.plain else crds.documents()


def namespaces(wanted: Installation) -> list[Document]:
    """Return the namespaces: one where nothing is privileged, and another where that cannot be helped."""
    found = [_namespace(wanted.namespace, "restricted")]
    if not wanted.plain:
        found.append(_namespace(wanted.node_namespace, "privileged"))
    return found


def objects(wanted: Installation) -> list[Document]:
    """Return everything else."""
    common = [*_accounts(wanted), *network.documents(wanted), *coordinator.documents(wanted)]
    if wanted.plain:
        return [*common, *workers.documents(wanted)]
    return [
        *common,
        *permissions.documents(wanted),
        *(nodes.documents(wanted) if wanted.csi else ()),
        *(webhook.documents(wanted) if wanted.webhook else ()),
        *operator.documents(wanted),
        *(observing.documents(wanted) if wanted.observing else ()),
        *pool.documents(wanted),
    ]


def _namespace(name: str, level: str) -> Document:
    marks = {"app.kubernetes.io/name": "cachefs", "pod-security.kubernetes.io/enforce": level}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks}}


def _accounts(wanted: Installation) -> Iterator[Document]:
    """Yield the service accounts; a pod that speaks with the API server says so itself."""
    system = ["coordinator", "worker"]
    on_nodes: list[str] = []
    if not wanted.plain:
        system.append("operator")
        on_nodes.append("worker")
        system += ["webhook"] if wanted.webhook else []
        on_nodes += ["csi", "mounts"] if wanted.csi else []
    for component in system:
        head = named("v1", "ServiceAccount", component, wanted)
        yield {**head, "automountServiceAccountToken": False}
    for component in on_nodes:
        head = headed(
            "v1", "ServiceAccount", f"cachefs-{component}", component, wanted.node_namespace
        )
        yield {**head, "automountServiceAccountToken": False}
