"""The workers of a pool: a stateful set for each zone, or a daemon set, and what these need.

Whoever makes workers makes them here: ``cachefs k8s render --plain``, which knows one pool, and the operator,
which knows as many as there are ``CachePool`` objects. So a pool that was rendered can be taken over by the
operator under its name, with its volumes.

A worker keeps its name, and its disk tiers, from one pod to the next: the pod's name in a stateful set, the
node's in a daemon set.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachefs.config.schema import GIB, MIB
from cachefs.k8s.csi.places import RUN_FOLDER as RUN_FOLDER_OF_NODE
from cachefs.k8s.csi.places import WORKER_SOCKETS_FOLDER
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import (
    CONFIG_FOLDER,
    NO_PRIVILEGE,
    RUN_FOLDER,
    RUN_VOLUME,
    STATE_FOLDER,
    TOKEN_MOUNT,
    TOKEN_VOLUME,
    USER,
    WORKER_CONTROL,
    WORKER_DATA,
    Document,
    budget,
    claim_spec,
    config_map,
    fields,
    headed,
    labels,
    ports,
    probes,
    process,
    quantity,
    service,
    spread,
    template,
    values,
)
from cachefs.k8s.names import DRIVER, POOL

ZONE = "cachefs.io/zone"
"""A label of workers' pods: the zone whose set they are of."""
DEFAULT_POOL = "default"
DRAIN_SECONDS = 600.0
_TOPOLOGY_ZONE = "topology.kubernetes.io/zone"
_OWN_MEMORY = GIB
"""What a worker needs beside its memory tiers: `make bench` sees 84 MB, and buffers grow with readers."""
_VOLUME_SHARE = 0.95
"""Of a volume that the tier may fill: journals and the file system take the rest."""
_AFTER_DRAIN_SECONDS = 60
"""For a process to end once it has handed over."""
_SET_NAME_LENGTH_MAX = 52
"""Kubernetes adds a dash and a hash of ten characters, and makes it a label's value, which ends at 63."""
_NOT_IN_NAMES = re.compile(r"[^a-z0-9-]")
_PORTS = {"data": WORKER_DATA, "control": WORKER_CONTROL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One tier of each worker."""

    medium: str
    """``memory`` or ``disk``."""
    size_bytes: int
    """Of the volume; a tier on disk fills 95 % of it."""
    storage_class: str | None = None
    host_path: str | None = None
    """A folder of the node, instead of a volume claim. Its pods need a privileged namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The workers of a pool in one zone, or on each node."""

    pool: str = DEFAULT_POOL
    zone: str = ""
    """The zone that they are kept in; empty for any."""
    namespace: str
    count: int | None
    """``None``: one on each node that fits."""
    tiers: Sequence[Tier]
    """Fastest first; at least one."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    affinity: Mapping[str, Any] | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    """``requests`` and ``limits``, over those that follow from the tiers."""
    priority_class: str | None = None
    drain_seconds: float = DRAIN_SECONDS
    """How long a worker may take to hand over what it holds when it leaves."""

    @property
    def name(self) -> str:
        """What the set is called, and its config map."""
        return set_name(self.pool, self.zone)

    @property
    def selector(self) -> dict[str, str]:
        """The labels by which the set finds its pods."""
        return pool_selector(self.pool) | ({ZONE: self.zone} if self.zone else {})


def pool_name(pool: str) -> str:
    """Return what a pool's service and disruption budget are called."""
    return "cachefs-worker" if pool == DEFAULT_POOL else f"cachefs-worker-{pool}"


def set_name(pool: str, zone: str = "") -> str:
    """Return what the set of a pool in a zone is called.

    Zones have names that objects may not have, and long ones: what has to be changed ends with a digest of
    what it was.
    """
    name = "-".join(part for part in (pool_name(pool), zone) if part)
    fitting = _NOT_IN_NAMES.sub("-", name.lower())
    if fitting == name and len(name) <= _SET_NAME_LENGTH_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{fitting[: _SET_NAME_LENGTH_MAX - len(digest) - 1].rstrip('-')}-{digest}"


def pool_selector(pool: str) -> dict[str, str]:
    """Return the labels of all pods of a pool."""
    return {**labels("worker"), POOL: pool}


def of_installation(wanted: Installation) -> list[Workers]:
    """Return the default pool as the installation describes it: a set for each zone, evenly."""
    tiers = [Tier(medium="disk", size_bytes=wanted.disk_bytes, storage_class=wanted.storage_class)]
    if wanted.memory_bytes:
        tiers.insert(0, Tier(medium="memory", size_bytes=wanted.memory_bytes))
    zones = list(wanted.zones) or [""]
    return [
        Workers(
            namespace=wanted.namespace,
            zone=zone,
            count=(wanted.workers + len(zones) - 1 - at) // len(zones),
            tiers=tiers,
            node_selector=wanted.node_selector,
            tolerations=wanted.tolerations,
        )
        for at, zone in enumerate(zones)
    ]


def documents(wanted: Installation) -> list[Document]:
    """Return the default pool's objects, for an installation without an operator."""
    pool = of_installation(wanted)
    sets = [document for workers in pool for document in set_documents(workers, wanted)]
    return [*pool_documents(DEFAULT_POOL, wanted.namespace), *sets]


def pool_documents(pool: str, namespace: str) -> list[Document]:
    """Return what the sets of a pool have in common: the service of their names, the disruption budget."""
    head = headed("v1", "Service", pool_name(pool), "worker", namespace)
    head["metadata"]["labels"][POOL] = pool
    found = service(head, pool_selector(pool), _PORTS)
    found["spec"] |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return [found, budget(head, pool_selector(pool))]


def set_documents(workers: Workers, wanted: Installation) -> list[Document]:
    """Return a set's configuration, and the set: stateful, or for each node.

    Args:
        workers: What the set is of.
        wanted: Whose image, coordinator, secrets and driver they use.
    """
    head = headed("v1", "ConfigMap", workers.name, "worker", workers.namespace)
    head["metadata"]["labels"] |= workers.selector
    config = config_map(workers.name, head, "worker", _config(workers, wanted))
    pod = _template(workers, wanted, config)
    claims: list[Document] = []
    for at, tier in enumerate(workers.tiers):
        if _is_claimed(workers, tier):
            spec = claim_spec(tier.size_bytes, tier.storage_class)
            claims.append({"metadata": {"name": _volume_name(workers, at)}, "spec": spec})
    selector = {"matchLabels": workers.selector}
    if workers.count is None:
        spec = {
            "selector": selector,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": pod,
        }
        return [config, {**head, "apiVersion": "apps/v1", "kind": "DaemonSet", "spec": spec}]
    spec = {
        "serviceName": pool_name(workers.pool),
        "replicas": workers.count,
        # Workers do not wait for one another.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "selector": selector,
        "template": pod,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
    }
    if claims:
        spec["volumeClaimTemplates"] = claims
    return [config, {**head, "apiVersion": "apps/v1", "kind": "StatefulSet", "spec": spec}]


def _config(workers: Workers, wanted: Installation) -> dict[str, Any]:
    tiers = [
        {
            "folder": f"{_folder(workers, at)}/blocks",
            "medium": tier.medium,
            "capacity_bytes": int(
                tier.size_bytes * (1 if tier.medium == "memory" else _VOLUME_SHARE)
            ),
        }
        for at, tier in enumerate(workers.tiers)
    ]
    config = {
        "state_folder": f"{STATE_FOLDER}/worker",
        "tiers": tiers,
        "coordinator": wanted.control,
        "data_port": WORKER_DATA,
        "control_port": WORKER_CONTROL,
        "pool": workers.pool,
        "zone": workers.zone,
        # What a pod has of its own, such as the token, is nobody's dataset.
        "origin": {"file_roots": []},
    }
    if wanted.has_csi:
        config["socket_folder"] = WORKER_SOCKETS_FOLDER
    return config


def _first_disk(workers: Workers) -> int | None:
    disks = (at for at, tier in enumerate(workers.tiers) if tier.medium == "disk")
    return next(disks, None)


def _volume_name(workers: Workers, at: int) -> str:
    """Return what a tier's volume is called; the first disk's holds the worker's state, too."""
    return "state" if at == _first_disk(workers) else f"{workers.tiers[at].medium}-{at}"


def _folder(workers: Workers, at: int) -> str:
    name = _volume_name(workers, at)
    return STATE_FOLDER if name == "state" else f"{STATE_FOLDER}-{name}"


def _is_claimed(workers: Workers, tier: Tier) -> bool:
    """Say whether a tier is on a volume claim of the stateful set's."""
    return workers.count is not None and tier.medium == "disk" and tier.host_path is None


def _volumes(workers: Workers, wanted: Installation) -> list[Document]:
    found: list[Document] = [
        {"name": "config", "configMap": {"name": workers.name}},
        TOKEN_VOLUME,
        RUN_VOLUME,
    ]
    if _first_disk(workers) is None:
        found.append({"name": "state", "emptyDir": {}})
    for at, tier in enumerate(workers.tiers):
        name = _volume_name(workers, at)
        if tier.medium == "memory":
            room = {"medium": "Memory", "sizeLimit": quantity(tier.size_bytes + 64 * MIB)}
            found.append({"name": name, "emptyDir": room})
        elif tier.host_path is not None:
            place = {"path": tier.host_path, "type": "DirectoryOrCreate"}
            found.append({"name": name, "hostPath": place})
        elif not _is_claimed(workers, tier):
            spec = claim_spec(tier.size_bytes, tier.storage_class)
            found.append({"name": name, "ephemeral": {"volumeClaimTemplate": {"spec": spec}}})
    if wanted.has_csi:
        found.append(_sockets(workers, wanted))
    return found


def _sockets(workers: Workers, wanted: Installation) -> Document:
    """Return the volume with the sockets of a node: by the driver, or as it is where pods may have that."""
    if workers.namespace == wanted.node_namespace:
        place = {"path": f"{RUN_FOLDER_OF_NODE}/sockets", "type": "Directory"}
        return {"name": "sockets", "hostPath": place}
    return {
        "name": "sockets",
        "csi": {"driver": DRIVER, "volumeAttributes": {"use": "sockets"}},
    }


def _mounts(workers: Workers, wanted: Installation) -> list[Document]:
    found = [
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        TOKEN_MOUNT,
        {"name": "run", "mountPath": RUN_FOLDER},
    ]
    if _first_disk(workers) is None:
        found.append({"name": "state", "mountPath": STATE_FOLDER})
    found += [
        {"name": _volume_name(workers, at), "mountPath": _folder(workers, at)}
        for at in range(len(workers.tiers))
    ]
    if wanted.has_csi:
        found.append({"name": "sockets", "mountPath": WORKER_SOCKETS_FOLDER})
    return found


def _template(workers: Workers, wanted: Installation, config: Document) -> Document:
    volumes = _volumes(workers, wanted)
    pod = template(
        "worker",
        wanted,
        _container(workers, wanted),
        volumes,
        own_labels=workers.selector,
        config=config,
        grace_seconds=int(workers.drain_seconds) + _AFTER_DRAIN_SECONDS,
    )
    spec = pod["spec"]
    folders = [at for at, tier in enumerate(workers.tiers) if tier.host_path is not None]
    if folders:
        spec["initContainers"] = [_owning(workers, wanted, folders)]
    if workers.count is not None:
        keys = ("kubernetes.io/hostname", *(() if workers.zone else (_TOPOLOGY_ZONE,)))
        spec["topologySpreadConstraints"] = spread(workers.selector, *keys)
    selector = dict(workers.node_selector) | (
        {_TOPOLOGY_ZONE: workers.zone} if workers.zone else {}
    )
    if selector:
        spec["nodeSelector"] = selector
    if workers.tolerations:
        spec["tolerations"] = [dict(each) for each in workers.tolerations]
    if workers.affinity:
        spec["affinity"] = dict(workers.affinity)
    if workers.priority_class:
        spec["priorityClassName"] = workers.priority_class
    return pod


def _container(workers: Workers, wanted: Installation) -> Document:
    memory = sum(tier.size_bytes for tier in workers.tiers if tier.medium == "memory")
    limit = quantity(memory + _OWN_MEMORY)
    requests, limits = (workers.resources.get(each, {}) for each in ("requests", "limits"))
    # Whoever says one of the two means both: a request above its limit is refused.
    said = limits.get("memory", requests.get("memory", limit))
    resources = {
        "requests": {"cpu": "1", "memory": requests.get("memory", said), **requests},
        "limits": {"memory": said, **limits},
    }
    command = ["python", "-m", "cachefs.k8s.starting", "worker"]
    container = process("worker", wanted, command, resources=resources)
    # A stateful set's pods keep their names; those of a daemon set are called anew each time.
    per_node = values(WORKER_NAME=f"{workers.pool}-$(NODE_NAME)") if workers.count is None else []
    container |= {
        "env": [
            *fields(POD_NAME="metadata.name", POD_IP="status.podIP", NODE_NAME="spec.nodeName"),
            *per_node,
            *values(
                POOL=workers.pool,
                ZONE=workers.zone,
                DRAIN_SECONDS=str(int(workers.drain_seconds)),
                CACHEFS_COORDINATOR=wanted.api,
                CACHEFS_TOKEN_FILE=f"{RUN_FOLDER}/token",
            ),
        ],
        "ports": ports(_PORTS),
        **probes("data"),
        "lifecycle": {"preStop": {"exec": {"command": ["python", "-m", "cachefs.k8s.leaving"]}}},
        "volumeMounts": _mounts(workers, wanted),
    }
    if wanted.origins_secret is not None:
        container["envFrom"] = [{"secretRef": {"name": wanted.origins_secret}}]
    return container


def _owning(workers: Workers, wanted: Installation, tiers: Sequence[int]) -> Document:
    """Return what makes the node's folders the worker's: Kubernetes does that for volumes only."""
    folders = [_folder(workers, at) for at in tiers]
    command = ["python", "-m", "cachefs.k8s.starting", "own", str(USER), *folders]
    resources = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
    return {
        **process("own", wanted, command, resources=resources),
        "securityContext": {
            **NO_PRIVILEGE,
            "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]},
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
        "volumeMounts": [
            {"name": _volume_name(workers, at), "mountPath": _folder(workers, at)} for at in tiers
        ],
    }
