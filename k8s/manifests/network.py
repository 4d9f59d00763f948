"""Network policies: who may speak with whom. A token is needed besides.

Nobody may connect to a pod of ours but as is said here. Any pod may read: from workers, and what it needs to
know from the coordinator's HTTP API. Control is between workers and the coordinator. The webhook is asked by
API servers and schedulers, which are no pods that one could name. Probes come from the node, and are let in
by every network.

Where pods connect to is limited for the webhook, which asks the coordinator and nobody else. Others are not
limited: origins are anywhere, and so are the addresses of API servers.
"""

from collections.abc import Mapping, Sequence

from cachefs.k8s.csi.places import HEALTH_PORT
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.operator import OPERATOR_HTTP
from cachefs.k8s.manifests.parts import (
    COORDINATOR_CONTROL,
    COORDINATOR_HTTP,
    WORKER_CONTROL,
    WORKER_DATA,
    Document,
    headed,
    labels,
)
from cachefs.k8s.manifests.webhook import WEBHOOK_HTTP, WEBHOOK_HTTPS

_ANY_POD: Document = {"namespaceSelector": {}}
_NAME = "kubernetes.io/metadata.name"


def documents(wanted: Installation) -> list[Document]:
    """Return a policy for each component, and one for whatever else is in the namespaces."""
    system, nodes = wanted.namespace, wanted.node_namespace
    workers = [_pods("worker", system)] if wanted.plain else [_pods("worker", system, nodes)]
    found = [
        _policy(
            "coordinator",
            system,
            _in(COORDINATOR_HTTP, _ANY_POD),
            _in(COORDINATOR_CONTROL, *workers),
        ),
        _worker(system, system),
    ]
    if wanted.plain:
        return found
    found += [
        _everything_else(system),
        _everything_else(nodes),
        _worker(nodes, system),
        _policy("operator", system, _in(OPERATOR_HTTP, _ANY_POD)),
    ]
    if wanted.webhook:
        found.append(_webhook(system))
    if wanted.csi:
        found.append(_policy("csi", nodes, _in(HEALTH_PORT, _ANY_POD)))
    return found


def _worker(namespace: str, system: str) -> Document:
    return _policy(
        "worker",
        namespace,
        _in(WORKER_DATA, _ANY_POD),
        _in(WORKER_CONTROL, _pods("coordinator", system)),
    )


def _webhook(namespace: str) -> Document:
    policy = _policy("webhook", namespace, _in(WEBHOOK_HTTPS), _in(WEBHOOK_HTTP, _ANY_POD))
    names = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    policy["spec"]["policyTypes"].append("Egress")
    policy["spec"]["egress"] = [
        {"ports": names},
        {
            "to": [_pods("coordinator", namespace)],
            "ports": [{"port": COORDINATOR_HTTP, "protocol": "TCP"}],
        },
    ]
    return policy


def _everything_else(namespace: str) -> Document:
    """Return the policy of pods that have none: nobody may connect to them."""
    head = headed("networking.k8s.io/v1", "NetworkPolicy", "cachefs-default", "default", namespace)
    return {**head, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}


def _policy(component: str, namespace: str, *ingress: Document) -> Document:
    name = f"cachefs-{component}"
    return {
        **headed("networking.k8s.io/v1", "NetworkPolicy", name, component, namespace),
        "spec": {
            "podSelector": {"matchLabels": labels(component)},
            "policyTypes": ["Ingress"],
            "ingress": list(ingress),
        },
    }


def _in(port: int, *peers: Mapping[str, object]) -> Document:
    """Return a rule: from these peers, or from anywhere if none is named."""
    rule: Document = {"ports": [{"port": port, "protocol": "TCP"}]}
    return {"from": [dict(peer) for peer in peers], **rule} if peers else rule


def _pods(component: str, *namespaces: str) -> Document:
    where: Sequence[Document] = [{"key": _NAME, "operator": "In", "values": list(namespaces)}]
    return {
        "namespaceSelector": {"matchExpressions": where},
        "podSelector": {"matchLabels": labels(component)},
    }
