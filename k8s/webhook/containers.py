"""Containers that are injected: how each is run, what it may, where it finds what.

Those that need no privilege meet Pod Security's level ``restricted``. The reading token is a file of a
secret of the pod's namespace, seen by our containers only, and never part of the pod's specification.

A pod whose containers all have limits that equal their requests (quality of service ``Guaranteed``) stays
so: what we add has such limits, too.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachefs.core.names import DatasetName
from cachefs.gateway.credentials import HUB_FILE, REGION, S3_FILE
from cachefs.hints.consumers.fields import field, texts
from cachefs.k8s.webhook.volumes import CONTAINERS, Shown

Document = dict[str, Any]

PREFIX = "cachefs"
"""What the names of containers and volumes that are injected begin with."""
OURS = re.compile(r"cachefs-(copy|endpoint|token|run|mount-\d+|data-\d+)", re.ASCII)
"""Those names."""
TOKEN_FOLDER = "/run/secrets/cachefs"  # noqa: S105 - a folder's name
DATA_FOLDER = "/cachefs"
"""Below which our containers see the pod's volumes."""
KEYS_FOLDER = "/run/cachefs-endpoint"
READY_FILE = "ready"
"""In the folder of keys: the endpoint serves."""
RUN_FOLDER = "/run/cachefs"
S3_PORT, HUB_PORT = 17070, 17071
"""Of the endpoints, at the pod's loopback address: beside those of the coordinator, so that nobody else's are."""

_TOKEN_VOLUME = f"{PREFIX}-token"
_KEYS_VOLUME = f"{PREFIX}-endpoint"
_RUN_VOLUME = f"{PREFIX}-run"
_USER = 65532
_START_SECONDS = 600
"""How long a sidecar may take until it serves; then it is begun anew."""
_PROBE_SECONDS = 2
_SMALL = {"cpu": "100m", "memory": "256Mi"}
_LIMIT = {"memory": "1Gi"}
_WHOLE = {"cpu": "1", "memory": "1Gi"}
"""Where there are limits of everything. Copying has 16 blocks of 4 MiB in flight and four buffers of 32 MiB."""

KEYS_MOUNT: Mapping[str, Any] = {
    "name": _KEYS_VOLUME,
    "mountPath": KEYS_FOLDER,
    "readOnly": True,
}
_S3: Mapping[str, str] = {
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{S3_PORT}",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_SHARED_CREDENTIALS_FILE": f"{KEYS_FOLDER}/{S3_FILE}",
}
_S3_OTHERS = ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONFIG_FILE")
"""Who says one of these speaks with an S3 of their own."""
_HUB: Mapping[str, str] = {
    "HF_ENDPOINT": f"http://127.0.0.1:{HUB_PORT}",
    "HF_HUB_DISABLE_XET": "1",
    "HF_TOKEN_PATH": f"{KEYS_FOLDER}/{HUB_FILE}",
}
_HUB_OTHERS = ("HF_TOKEN", "HF_HUB_OFFLINE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """What is the same for all pods."""

    image: str
    """Of the containers."""
    coordinator: str
    """``host:port`` of its HTTP API, as pods of any namespace find it."""
    secret: str = "cachefs-reader"  # noqa: S105 - a secret's name
    """In the pod's namespace, with the key ``token``: a reading token."""


def copying(settings: Injection, pod: Any, volumes: Mapping[str, Shown]) -> Document:  # Any: JSON
    """Return the container that copies datasets into volumes of these names, and ends."""
    words = [f"{shown.reference}={DATA_FOLDER}/{name}" for name, shown in volumes.items()]
    mounts = [{"name": name, "mountPath": f"{DATA_FOLDER}/{name}"} for name in volumes]
    return {
        **_container(settings, pod, "copy", "copying", words),
        "volumeMounts": [_TOKEN_MOUNT, *mounts],
    }


def endpoint(settings: Injection, pod: Any, datasets: Sequence[DatasetName]) -> Document:
    """Return the sidecar that serves datasets at the pod's loopback address."""
    words = [f"{each.namespace}/{each.name}" for each in datasets]
    return {
        **_container(settings, pod, "endpoint", "endpoint", words),
        "restartPolicy": "Always",
        "startupProbe": _probe("test", "-e", f"{KEYS_FOLDER}/{READY_FILE}"),
        "volumeMounts": [_TOKEN_MOUNT, {**KEYS_MOUNT, "readOnly": False}],
    }


def mounting(
    settings: Injection, pod: Any, index: int, volume: str, shown: Shown
) -> Document:  # Any: JSON
    """Return the sidecar that mounts a dataset on a volume; it is privileged."""
    folder = f"{DATA_FOLDER}/{volume}"
    made = _container(settings, pod, f"mount-{index}", "showing", [shown.reference, folder])
    return {
        **made,
        "restartPolicy": "Always",
        "startupProbe": _probe("python", "-m", "cachefs.k8s.webhook.showing", "--check", folder),
        # Without it neither FUSE nor a mount that others see is possible.
        "securityContext": {
            "privileged": True,
            "runAsUser": 0,
            "runAsNonRoot": False,
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            _TOKEN_MOUNT,
            # Each has a folder of its own there, for what it knows of its mount.
            {"name": _RUN_VOLUME, "mountPath": RUN_FOLDER, "subPath": volume},
            {"name": volume, "mountPath": folder, "mountPropagation": "Bidirectional"},
        ],
    }


def environment(present: Collection[str]) -> list[Document]:
    """Return what a container's environment lacks for the endpoints.

    Of S3's settings, and of the Hub's, it is given all or none: half of them would send somebody's
    credentials to the wrong place.
    """
    wanted: dict[str, str] = {}
    for ours, others in ((_S3, _S3_OTHERS), (_HUB, _HUB_OTHERS)):
        if not any(name in present for name in (*ours, *others)):
            wanted |= ours
    return [{"name": name, "value": value} for name, value in wanted.items()]


def token_volume(settings: Injection) -> Document:
    """Return the volume with the reading token; readable, since only our containers mount it."""
    items = [{"key": "token", "path": "token"}]
    secret = {"secretName": settings.secret, "items": items, "defaultMode": 0o444}
    return {"name": _TOKEN_VOLUME, "secret": secret}


def keys_volume() -> Document:
    """Return the volume with which the endpoint hands its keys to the pod's programs."""
    return {"name": _KEYS_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def run_volume() -> Document:
    """Return the volume with what mounts know of themselves."""
    return {"name": _RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}


_TOKEN_MOUNT: Document = {"name": _TOKEN_VOLUME, "mountPath": TOKEN_FOLDER, "readOnly": True}


def _container(
    settings: Injection, pod: Any, name: str, program: str, words: Sequence[str]
) -> Document:
    # Kubernetes puts values of the environment into words that say $(NAME); two $ are one.
    plain = [word.replace("$", "$$") for word in words]
    return {
        "name": f"{PREFIX}-{name}",
        "image": settings.image,
        "command": ["python", "-m", f"cachefs.k8s.webhook.{program}", *plain],
        "env": [{"name": "CACHEFS_COORDINATOR", "value": settings.coordinator}],
        "resources": _resources(pod),
        "securityContext": _security(pod),
        # The last lines of a failure are then in what `kubectl describe` shows.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _security(pod: Any) -> Document:  # Any: JSON
    """Return what a container may; it runs as the pod's user, if the pod says one that is not root."""
    made: Document = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if not field(pod, "spec", "securityContext", "runAsUser"):
        made["runAsUser"] = _USER
    return made


def _probe(*words: str) -> Document:
    return {
        "exec": {"command": list(words)},
        "periodSeconds": _PROBE_SECONDS,
        "timeoutSeconds": 5,
        "failureThreshold": _START_SECONDS // _PROBE_SECONDS,
    }


def _resources(pod: Any) -> Document:  # Any: JSON
    """Return what a container asks for: limits where all of the pod's own containers have some.

    A quota of the namespace may insist on limits of processors, and then they all have; else none would be slowed
    down by one.
    """
    every = [
        {each: texts(container, "resources", each) for each in ("limits", "requests")}
        for kind in CONTAINERS
        for container in field(pod, "spec", kind) or ()
    ]
    limits = _WHOLE if all("cpu" in each["limits"] for each in every) else _LIMIT
    guaranteed = all(
        name in each["limits"] and each["requests"].get(name) in (None, each["limits"][name])
        for each in every
        for name in ("cpu", "memory")
    )
    return {"requests": dict(_WHOLE if guaranteed else _SMALL), "limits": dict(limits)}
