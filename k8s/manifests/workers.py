"""The workers: a stateful set, so that each keeps its name and its volume from one pod to the next."""

from typing import Any

from cachefs.config.schema import GIB, MIB
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests import coordinator
from cachefs.k8s.manifests.parts import (
    STATE_FOLDER,
    WORKER_CONTROL,
    WORKER_DATA,
    Document,
    claim,
    config_map,
    labels,
    named,
    pod_template,
    quantity,
)

_MEMORY_FOLDER = "/var/lib/cachefs-memory"
_OWN_MEMORY = GIB
"""What a worker needs beside its memory tier: `make bench` sees 84 MB, and buffers grow with readers."""
_VOLUME_SHARE = 0.95
"""Of a volume that the tier may fill: journals and the file system take the rest."""
_PORTS = {"data": WORKER_DATA, "control": WORKER_CONTROL}


def documents(wanted: Installation) -> list[Document]:
    """Return the workers' objects."""
    service = {
        **named("v1", "Service", "worker", wanted),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": labels("worker"),
            "ports": [
                {"name": name, "port": port, "targetPort": name} for name, port in _PORTS.items()
            ],
        },
    }
    budget = {
        **named("policy/v1", "PodDisruptionBudget", "worker", wanted),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels("worker")}},
    }
    config = config_map("worker", wanted, _config(wanted))
    return [config, service, budget, _stateful_set(wanted, config)]


def _config(wanted: Installation) -> dict[str, Any]:
    tiers = []
    if wanted.memory_bytes:
        tiers.append(
            {
                "folder": f"{_MEMORY_FOLDER}/blocks",
                "medium": "memory",
                "capacity_bytes": wanted.memory_bytes,
            }
        )
    tiers.append(
        {
            "folder": f"{STATE_FOLDER}/blocks",
            "medium": "disk",
            "capacity_bytes": int(wanted.disk_bytes * _VOLUME_SHARE),
        }
    )
    return {
        "state_folder": f"{STATE_FOLDER}/worker",
        "tiers": tiers,
        "coordinator": coordinator.address(wanted),
        "data_port": WORKER_DATA,
        "control_port": WORKER_CONTROL,
    }


def _stateful_set(wanted: Installation, config: Document) -> Document:
    volumes: list[Document] = []
    mounts: list[Document] = [{"name": "state", "mountPath": STATE_FOLDER}]
    if wanted.memory_bytes:
        room = {"medium": "Memory", "sizeLimit": quantity(wanted.memory_bytes + 64 * MIB)}
        volumes.append({"name": "memory", "emptyDir": room})
        mounts.append({"name": "memory", "mountPath": _MEMORY_FOLDER})
    memory = quantity(wanted.memory_bytes + _OWN_MEMORY)
    template = pod_template(
        "worker",
        wanted,
        config=config,
        ports=_PORTS,
        ready="data",
        volumes=volumes,
        mounts=mounts,
        resources={"requests": {"cpu": "1", "memory": memory}, "limits": {"memory": memory}},
    )
    template["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels("worker")},
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]
    if wanted.node_selector:
        template["spec"]["nodeSelector"] = dict(wanted.node_selector)
    return {
        **named("apps/v1", "StatefulSet", "worker", wanted),
        "spec": {
            "serviceName": "cachefs-worker",
            "replicas": wanted.workers,
            # Workers do not wait for one another.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels("worker")},
            "template": template,
            "volumeClaimTemplates": [claim("state", wanted.disk_bytes, wanted)],
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Delete",
                "whenScaled": "Retain",
            },
        },
    }
