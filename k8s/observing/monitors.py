"""Monitors: which pods Prometheus asks for metrics, and what it knows each by.

They are of pods, not of services: every pod counts for itself, also one that is not ready. The mounts have no port of
their own; the driver beside them, in the same node, says how the node's mount is.
"""

from collections.abc import Iterable

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import Document, headed, labels
from cachefs.k8s.names import POOL
from cachefs.k8s.observing.components import Component
from cachefs.k8s.observing.token import KEY, SECRET

TARGET_LABELS = ("job", "instance", "namespace", "pod", "container", "node", "pool")
"""What Prometheus knows a pod of ours by, besides the labels of the metric itself."""
_INTERVAL = "30s"
_COMPONENT = "app.kubernetes.io/component"


def documents(wanted: Installation, parts: Iterable[Component]) -> list[Document]:
    """Return a monitor for each part, and the secret that holds Prometheus' token."""
    secret = headed("v1", "Secret", SECRET, "observing", wanted.namespace)
    return [{**secret, "type": "Opaque"}, *(_monitor(each, wanted) for each in parts)]


def _monitor(component: Component, wanted: Installation) -> Document:
    endpoint: Document = {
        "port": component.port,
        "path": "/metrics",
        "interval": _INTERVAL,
        "relabelings": [
            {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"},
        ],
    }
    if component.name == "worker":
        pool = f"__meta_kubernetes_pod_label_{_as_prometheus_writes(POOL)}"
        endpoint["relabelings"].append({"sourceLabels": [pool], "targetLabel": "pool"})
    if component.needs_token:
        endpoint["authorization"] = {"type": "Bearer", "credentials": {"name": SECRET, "key": KEY}}
    head = headed(
        "monitoring.coreos.com/v1", "PodMonitor", component.job, component.name, wanted.namespace
    )
    return {
        **head,
        "spec": {
            "jobLabel": _COMPONENT,
            "selector": {"matchLabels": labels(component.name)},
            "namespaceSelector": {"matchNames": list(component.namespaces)},
            "podMetricsEndpoints": [endpoint],
        },
    }


def _as_prometheus_writes(label: str) -> str:
    return "".join(each if each.isalnum() else "_" for each in label)
