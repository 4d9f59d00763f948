"""Network policies: who may speak with whom. A token is needed besides."""

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import (
    COORDINATOR_CONTROL,
    COORDINATOR_HTTP,
    WORKER_CONTROL,
    WORKER_DATA,
    Document,
    labels,
    named,
)


def documents(wanted: Installation) -> list[Document]:
    """Return a policy for each component.

    Any pod may read: from workers, and what it needs to know from the coordinator's HTTP API. Control is
    between the two. Where pods connect to is not limited, for origins are anywhere.
    """
    return [
        _policy("coordinator", wanted, COORDINATOR_HTTP, COORDINATOR_CONTROL, peer="worker"),
        _policy("worker", wanted, WORKER_DATA, WORKER_CONTROL, peer="coordinator"),
    ]


def _policy(
    component: str, wanted: Installation, everyone: int, among_us: int, *, peer: str
) -> Document:
    return {
        **named("networking.k8s.io/v1", "NetworkPolicy", component, wanted),
        "spec": {
            "podSelector": {"matchLabels": labels(component)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"namespaceSelector": {}}],
                    "ports": [{"port": everyone, "protocol": "TCP"}],
                },
                {
                    "from": [{"podSelector": {"matchLabels": labels(peer)}}],
                    "ports": [{"port": among_us, "protocol": "TCP"}],
                },
            ],
        },
    }
