"""What runs on each node: the CSI driver, and the mount that its volumes are parts of.

Both are privileged, for a mount that others shall see cannot be made otherwise; they are in a namespace of
their own, on read-only root file systems, and have no right in the cluster but to read whom a dataset is
shared with. But both have the cluster's token, which opens all of the coordinator's API, and so have the workers
of pools that are on each node. A part of them that speaks with the kubelet is our own: there are no images of
others.
"""

from collections.abc import Mapping

from cachefs.k8s.csi import places
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import (
    TEMPORARY,
    TEMPORARY_MOUNT,
    TOKEN_FOLDER,
    TOKEN_MOUNT,
    TOKEN_SECRET,
    Document,
    fields,
    headed,
    labels,
    ports,
    values,
)
from cachefs.k8s.names import DRIVER

_GRACE_SECONDS = 180
_PROFILE = "security.openshift.io/csi-ephemeral-volume-profile"
"""On OpenShift, what a namespace must be allowed to for its pods to have inline volumes of a driver."""
_CRITICAL = "system-node-critical"
_PODS_MAX = "100k"
_ROLLING: Mapping[str, Document] = {
    # There is one socket that the kubelet calls.
    "csi": {"maxUnavailable": 1},
    # The new pod makes ready, asks the old one to leave, and takes over what it holds.
    "mounts": {"maxSurge": 1, "maxUnavailable": 0},
}


def documents(wanted: Installation) -> list[Document]:
    """Return the driver, the daemon sets, and what lets these be as important as they are."""
    driver = headed("storage.k8s.io/v1", "CSIDriver", DRIVER, "csi", None)
    driver["metadata"]["labels"][_PROFILE] = "restricted"
    driver["spec"] = {
        "attachRequired": False,
        # Whose datasets a pod may have is decided on its namespace, which the kubelet says.
        "podInfoOnMount": True,
        "volumeLifecycleModes": ["Persistent", "Ephemeral"],
        "fsGroupPolicy": "None",
        "requiresRepublish": False,
        "storageCapacity": False,
        "seLinuxMount": False,
    }
    return [driver, _quota(wanted), _driver(wanted), _mounts(wanted)]


def _quota(wanted: Installation) -> Document:
    """Return what some clusters want before they let pods be critical outside of ``kube-system``."""
    scope = {"scopeName": "PriorityClass", "operator": "In", "values": [_CRITICAL]}
    head = headed("v1", "ResourceQuota", "cachefs-critical-pods", "csi", wanted.node_namespace)
    return {
        **head,
        "spec": {
            "hard": {"pods": _PODS_MAX},
            "scopeSelector": {"matchExpressions": [scope]},
        },
    }


def _driver(wanted: Installation) -> Document:
    kubelet = wanted.kubelet_folder
    http = {"port": "health"}
    container: Document = {
        "command": [
            "python",
            "-m",
            "cachefs.k8s.csi",
            f"--kubelet={kubelet}",
            f"--system-namespace={wanted.namespace}",
        ],
        "ports": ports({"health": places.HEALTH_PORT}),
        "livenessProbe": {
            "httpGet": {"path": "/healthz", **http},
            "timeoutSeconds": 5,
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", **http},
            "timeoutSeconds": 5,
            "periodSeconds": 5,
        },
        "startupProbe": {
            "httpGet": {"path": "/healthz", **http},
            "timeoutSeconds": 5,
            "periodSeconds": 2,
            "failureThreshold": 60,
        },
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [
            _at("pods", f"{kubelet}/pods", "Bidirectional"),
            _at("plugin", f"{kubelet}/plugins/{DRIVER}", "HostToContainer"),
            _at("registry", f"{kubelet}/plugins_registry"),
            _at("state", places.RUN_FOLDER),
            TOKEN_MOUNT,
            TEMPORARY_MOUNT,
        ],
    }
    volumes = [
        _of_host("pods", f"{kubelet}/pods", "Directory"),
        _of_host("plugin", f"{kubelet}/plugins/{DRIVER}", "DirectoryOrCreate"),
        _of_host("registry", f"{kubelet}/plugins_registry", "Directory"),
        _of_host("state", places.RUN_FOLDER, "DirectoryOrCreate"),
    ]
    return _daemon_set("csi", "driver", wanted, container, volumes)


def _mounts(wanted: Installation) -> Document:
    kubelet = wanted.kubelet_folder
    well = ["python", "-m", "cachefs.k8s.csi.well", "mounts"]
    often = {"periodSeconds": 10, "timeoutSeconds": 5}
    container: Document = {
        "command": ["python", "-m", "cachefs.k8s.csi.mounts", f"--kubelet={kubelet}"],
        "livenessProbe": {"exec": {"command": well}, **often, "failureThreshold": 3},
        "readinessProbe": {"exec": {"command": [*well, "--serving"]}, **often},
        "startupProbe": {"exec": {"command": well}, **often, "failureThreshold": 30},
        # No limit of memory: to be killed for it would stop every reader on the node for a while.
        "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}},
        "volumeMounts": [
            _at("plugin", f"{kubelet}/plugins/{DRIVER}", "Bidirectional"),
            _at("state", places.RUN_FOLDER),
            _at("sockets", places.WORKER_SOCKETS_FOLDER),
            _at("fuse", "/dev/fuse"),
            TOKEN_MOUNT,
            TEMPORARY_MOUNT,
        ],
    }
    volumes = [
        _of_host("plugin", f"{kubelet}/plugins/{DRIVER}", "DirectoryOrCreate"),
        _of_host("state", places.RUN_FOLDER, "DirectoryOrCreate"),
        _of_host("sockets", f"{places.RUN_FOLDER}/sockets", "DirectoryOrCreate"),
        _of_host("fuse", "/dev/fuse", "CharDevice"),
    ]
    return _daemon_set("mounts", "mounts", wanted, container, volumes)


def _daemon_set(
    component: str, program: str, wanted: Installation, container: Document, volumes: list[Document]
) -> Document:
    """Return a daemon set; each of its pods is on every node, whatever the node keeps others off for."""
    whole = {
        "name": program,
        "image": wanted.image,
        **container,
        "env": [
            *fields(POD_NAME="metadata.name", POD_IP="status.podIP", NODE_NAME="spec.nodeName"),
            *values(CACHEFS_COORDINATOR=wanted.api, CACHEFS_TOKEN_FILE=f"{TOKEN_FOLDER}/token"),
        ],
        "lifecycle": {
            "preStop": {"exec": {"command": ["python", "-m", "cachefs.k8s.csi.leaving", program]}}
        },
        "securityContext": {
            "privileged": True,
            "readOnlyRootFilesystem": True,
            "runAsUser": 0,
            "runAsGroup": 0,
        },
    }
    secret = {"secretName": TOKEN_SECRET, "defaultMode": 0o400}
    spec: Document = {
        "serviceAccountName": f"cachefs-{component}",
        "automountServiceAccountToken": component == "csi",
        "enableServiceLinks": False,
        "priorityClassName": _CRITICAL,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [whole],
        "volumes": [*volumes, {"name": "token", "secret": secret}, TEMPORARY],
    }
    if wanted.image_pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": wanted.image_pull_secret}]
    head = headed("apps/v1", "DaemonSet", f"cachefs-{component}", component, wanted.node_namespace)
    return {
        **head,
        "spec": {
            "selector": {"matchLabels": labels(component)},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": _ROLLING[component]},
            "template": {"metadata": {"labels": labels(component)}, "spec": spec},
        },
    }


def _at(name: str, path: str, propagation: str = "") -> Document:
    found: Document = {"name": name, "mountPath": path}
    if propagation:
        found["mountPropagation"] = propagation
    return found


def _of_host(name: str, path: str, kind: str) -> Document:
    return {"name": name, "hostPath": {"path": path, "type": kind}}
