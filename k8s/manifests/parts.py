"""What several manifests have in common."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cachefs.config.files import to_document
from cachefs.config.schema import GIB, MIB, ClusterConfig
from cachefs.k8s.installation import Installation
from cachefs.k8s.names import MANAGED_BY

Document = dict[str, Any]

COORDINATOR_HTTP = 7070
COORDINATOR_CONTROL = 7071
WORKER_DATA = 7080
WORKER_CONTROL = 7081

USER = 65532
"""Whom the processes run as; the number that images without users have come to use."""
CONFIG_FOLDER = "/etc/cachefs"
TOKEN_FOLDER = "/etc/cachefs-token"  # noqa: S105 - a folder's name
RUN_FOLDER = "/run/cachefs"
STATE_FOLDER = "/var/lib/cachefs"
TOKEN_SECRET = "cachefs-token"  # noqa: S105 - a secret's name
"""With the key ``token``, in both namespaces. Whoever installs makes it beforehand."""

NOBODY_IN_PARTICULAR: Document = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
NO_PRIVILEGE: Document = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
RUN_VOLUME: Document = {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
TEMPORARY: Document = {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
TEMPORARY_MOUNT: Document = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - the pod's own
TOKEN_VOLUME: Document = {"name": "token", "secret": {"secretName": TOKEN_SECRET}}
TOKEN_MOUNT: Document = {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True}


def labels(component: str) -> dict[str, str]:
    """Return the labels of a component's objects, by which its pods are selected."""
    return {
        "app.kubernetes.io/name": "cachefs",
        "app.kubernetes.io/component": f"cachefs-{component}",
    }


def named(api: str, kind: str, component: str, wanted: Installation) -> Document:
    """Return the head of a component's object."""
    return headed(api, kind, f"cachefs-{component}", component, wanted.namespace)


def headed(api: str, kind: str, name: str, component: str, namespace: str | None) -> Document:
    """Return the head of an object that is not called as its component is."""
    metadata: Document = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata["labels"] = {**labels(component), MANAGED_BY: "cachefs"}
    return {"apiVersion": api, "kind": kind, "metadata": metadata}


def config_map(name: str, head: Document, component: str, config: Mapping[str, Any]) -> Document:
    """Return the configuration of a component's processes, but for what each pod knows of itself.

    Args:
        name: Of the config map.
        head: Of any object of the component.
        component: ``coordinator`` or ``worker``.
        config: The component's section.
    """
    document = {"cluster": to_document(ClusterConfig()), component: dict(config)}
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    metadata = {**head["metadata"], "name": name}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {f"{component}.json": text},
    }


def quantity(size: int) -> str:
    """Return bytes as Kubernetes writes them: ``100Gi``."""
    for unit, name in ((GIB, "Gi"), (MIB, "Mi")):
        if size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def process(
    name: str, wanted: Installation, command: Sequence[str], *, resources: Document
) -> Document:
    """Return a container without privilege; the caller adds ports, probes and mounts."""
    return {
        "name": name,
        "image": wanted.image,
        "command": list(command),
        "resources": resources,
        "securityContext": dict(NO_PRIVILEGE),
    }


def probes(port: str, *, ready: str = "/healthz") -> Document:
    """Return the three probes of a process that answers on a port.

    It may take five minutes to start (a worker looks through its disk), is out of the services within six
    seconds of not answering, and is started anew after a minute of it.
    """
    well = {"httpGet": {"path": "/healthz", "port": port}, "timeoutSeconds": 2}
    return {
        "readinessProbe": {
            **well,
            "httpGet": {"path": ready, "port": port},
            "periodSeconds": 2,
        },
        "livenessProbe": {**well, "periodSeconds": 10, "failureThreshold": 6},
        "startupProbe": {**well, "periodSeconds": 2, "failureThreshold": 150},
    }


def ports(numbers: Mapping[str, int]) -> list[Document]:
    """Return a container's ports."""
    return [
        {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in numbers.items()
    ]


def service(head: Document, selector: Mapping[str, str], numbers: Mapping[str, int]) -> Document:
    """Return a service whose ports are called as the pods' are."""
    return {
        **head,
        "spec": {
            "selector": dict(selector),
            "ports": [
                {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
                for name, port in numbers.items()
            ],
        },
    }


def template(
    component: str,
    wanted: Installation,
    container: Document,
    volumes: Sequence[Document],
    *,
    own_labels: Mapping[str, str] | None = None,
    config: Document | None = None,
    speaks_with_api: bool = False,
    grace_seconds: int = 60,
) -> Document:
    """Return a pod's template.

    Args:
        component: Whose service account it has, too.
        wanted: The installation.
        container: The one container.
        volumes: All of them.
        own_labels: Further labels.
        config: The config map that it reads. Pods are made anew when it changes.
        speaks_with_api: Whether the service account's token is there.
        grace_seconds: How long it may take to end.
    """
    metadata: Document = {"labels": {**labels(component), **(own_labels or {})}}
    if config is not None:
        metadata["annotations"] = {"cachefs.io/config": _digest(config)}
    spec: Document = {
        "serviceAccountName": f"cachefs-{component}",
        "automountServiceAccountToken": speaks_with_api,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": dict(NOBODY_IN_PARTICULAR),
        "containers": [container],
        "volumes": list(volumes),
    }
    if wanted.image_pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": wanted.image_pull_secret}]
    return {"metadata": metadata, "spec": spec}


def spread(selector: Mapping[str, str], *keys: str) -> list[Document]:
    """Return the wish that pods be spread over nodes, zones, ….: a wish, for nodes may be few."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(selector)},
        }
        for key in keys
    ]


def claim_spec(size: int, storage_class: str | None) -> Document:
    """Return what a volume claim wants, for a template or for its own."""
    spec: Document = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": quantity(size)}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return spec


def budget(head: Document, selector: Mapping[str, str]) -> Document:
    """Return what keeps the cluster from draining more than one pod at a time."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": dict(selector)}}
    return {**head, "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": spec}


def fields(**paths: str) -> list[Document]:
    """Return environment variables with what a pod knows of itself."""
    return [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in paths.items()
    ]


def values(**texts: str) -> list[Document]:
    """Return environment variables with values."""
    return [{"name": name, "value": text} for name, text in texts.items()]


def _digest(config: Document) -> str:
    text = json.dumps(config["data"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
