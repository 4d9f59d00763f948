"""What several manifests have in common."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cachefs.config.files import to_document
from cachefs.config.schema import GIB, MIB, ClusterConfig
from cachefs.k8s.installation import Installation

Document = dict[str, Any]

COORDINATOR_HTTP = 7070
COORDINATOR_CONTROL = 7071
WORKER_DATA = 7080
WORKER_CONTROL = 7081

_USER = 65532
"""Whom the processes run as; the number that images without users have come to use."""
CONFIG_FOLDER = "/etc/cachefs"
TOKEN_FOLDER = "/etc/cachefs-token"  # noqa: S105 - a folder's name
RUN_FOLDER = "/run/cachefs"
STATE_FOLDER = "/var/lib/cachefs"
TOKEN_SECRET = "cachefs-token"  # noqa: S105 - a secret's name
"""With the key ``token``. Whoever installs makes it beforehand."""


_NOBODY_IN_PARTICULAR: Document = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "fsGroup": _USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_NO_PRIVILEGE: Document = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def labels(component: str) -> dict[str, str]:
    """Return the labels of a component's objects."""
    return {
        "app.kubernetes.io/name": "cachefs",
        "app.kubernetes.io/component": f"cachefs-{component}",
    }


def named(api: str, kind: str, component: str, wanted: Installation) -> Document:
    """Return the head of a component's object."""
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {
            "name": f"cachefs-{component}",
            "namespace": wanted.namespace,
            "labels": labels(component),
        },
    }


def config_map(component: str, wanted: Installation, config: Mapping[str, Any]) -> Document:
    """Return the configuration of a component's processes, but for what each pod knows of itself."""
    document = {"cluster": to_document(ClusterConfig()), component: dict(config)}
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    return {
        **named("v1", "ConfigMap", component, wanted),
        "data": {f"{component}.json": text},
    }


def quantity(size: int) -> str:
    """Return bytes as Kubernetes writes them: ``100Gi``."""
    for unit, name in ((GIB, "Gi"), (MIB, "Mi")):
        if size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def pod_template(
    component: str,
    wanted: Installation,
    *,
    config: Document,
    ports: Mapping[str, int],
    ready: str,
    volumes: Sequence[Document],
    mounts: Sequence[Document],
    environment: Sequence[Document] = (),
    resources: Document,
) -> Document:
    """Return a pod's template.

    Args:
        component: ``coordinator`` or ``worker``.
        wanted: The installation.
        config: The config map. Pods are made anew when it changes.
        ports: By name.
        ready: The name of the port that answers whether the process is well.
        volumes: Besides those that every pod has.
        mounts: Likewise.
        environment: Likewise.
        resources: What the container asks for, and may have.
    """
    well = {"httpGet": {"path": "/healthz", "port": ready}, "timeoutSeconds": 2}
    container: Document = {
        "name": component,
        "image": wanted.image,
        "command": ["python", "-m", "cachefs.k8s.starting", component],
        "env": [*_environment(), *environment],
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "readinessProbe": {**well, "periodSeconds": 2},
        "livenessProbe": {**well, "periodSeconds": 10, "failureThreshold": 6},
        "startupProbe": {**well, "periodSeconds": 2, "failureThreshold": 150},
        "resources": resources,
        "securityContext": dict(_NO_PRIVILEGE),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "run", "mountPath": RUN_FOLDER},
            *mounts,
        ],
    }
    if wanted.origins_secret is not None:
        container["envFrom"] = [{"secretRef": {"name": wanted.origins_secret}}]
    return {
        "metadata": {
            "labels": labels(component),
            "annotations": {"cachefs.io/config": _digest(config)},
        },
        "spec": {
            "serviceAccountName": f"cachefs-{component}",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 60,
            "securityContext": dict(_NOBODY_IN_PARTICULAR),
            "containers": [container],
            "volumes": [
                {"name": "config", "configMap": {"name": f"cachefs-{component}"}},
                {"name": "token", "secret": {"secretName": TOKEN_SECRET}},
                {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                *volumes,
            ],
        },
    }


def claim(name: str, size: int, wanted: Installation) -> Document:
    """Return a volume claim, for a template or for its own."""
    spec: Document = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": quantity(size)}},
    }
    if wanted.storage_class is not None:
        spec["storageClassName"] = wanted.storage_class
    return {"metadata": {"name": name}, "spec": spec}


def _digest(config: Document) -> str:
    text = json.dumps(config["data"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _environment() -> list[Document]:
    fields = {"POD_NAME": "metadata.name", "POD_IP": "status.podIP", "NODE_NAME": "spec.nodeName"}
    return [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in fields.items()
    ]
