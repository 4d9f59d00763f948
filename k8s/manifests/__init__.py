"""Manifests: the objects that make an installation, as plain documents.

Nothing in them is secret, nothing needs a right in the cluster: the pods have service accounts that may
do nothing and that nobody mounts. The token that all processes share is a secret that whoever installs
makes beforehand (:data:`cachefs.k8s.manifests.parts.TOKEN_SECRET`).
"""

from typing import Any

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests import coordinator, network, workers
from cachefs.k8s.manifests.parts import Document, named


def documents(wanted: Installation) -> list[Document]:
    """Return all objects, in the order in which they are to be made."""
    namespace: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": wanted.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    accounts = [
        {
            **named("v1", "ServiceAccount", component, wanted),
            "automountServiceAccountToken": False,
        }
        for component in ("coordinator", "worker")
    ]
    return [
        namespace,
        *accounts,
        *coordinator.documents(wanted),
        *workers.documents(wanted),
        *network.documents(wanted),
    ]
