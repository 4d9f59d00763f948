"""The coordinator: one with SQLite on a volume, or two on one PostgreSQL."""

from typing import Any

from cachefs.config.schema import GIB
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import (
    CONFIG_FOLDER,
    COORDINATOR_CONTROL,
    COORDINATOR_HTTP,
    RUN_FOLDER,
    RUN_VOLUME,
    STATE_FOLDER,
    TOKEN_MOUNT,
    TOKEN_VOLUME,
    Document,
    budget,
    claim_spec,
    config_map,
    fields,
    labels,
    named,
    ports,
    probes,
    process,
    service,
    template,
)

_STORE_BYTES = 10 * GIB
_PORTS = {"http": COORDINATOR_HTTP, "control": COORDINATOR_CONTROL}


def documents(wanted: Installation) -> list[Document]:
    """Return the coordinator's objects."""
    shared = wanted.store_secret is not None
    config: dict[str, Any] = {
        "store_url": "" if shared else f"sqlite:///{STATE_FOLDER}/coordinator.db",
        "http_port": COORDINATOR_HTTP,
        "control_port": COORDINATOR_CONTROL,
        # What a pod has of its own, such as the token, is nobody's dataset.
        "origin": {"file_roots": []},
        # Whoever may submit a flow would else run programs in the coordinator's pod. The operator runs them as
        # jobs; without one they are refused.
        "flows": {"handed_out": True} if wanted.has_programs else {"processes": False},
        # The operator takes gates away, too.
        **({} if wanted.plain else {"hints": {"gates": True}}),
    }
    head = named("v1", "Service", "coordinator", wanted)
    own = config_map("cachefs-coordinator", head, "coordinator", config)
    found = [
        own,
        service(head, labels("coordinator"), _PORTS),
        _deployment(wanted, own, shared=shared),
    ]
    if shared:
        found.insert(2, budget(head, labels("coordinator")))
    else:
        claim = named("v1", "PersistentVolumeClaim", "coordinator", wanted)
        spec = claim_spec(_STORE_BYTES, wanted.storage_class)
        found.insert(0, {**claim, "spec": spec})
    return found


def _deployment(wanted: Installation, config: Document, *, shared: bool) -> Document:
    state: Document = {"name": "state", "emptyDir": {}}
    environment = fields(
        POD_NAME="metadata.name",
        POD_NAMESPACE="metadata.namespace",
        POD_IP="status.podIP",
        NODE_NAME="spec.nodeName",
    )
    if not wanted.plain:
        environment.append({"name": "CACHEFS_SOURCES", "value": wanted.sources})
        if wanted.destinations:
            environment.append({"name": "CACHEFS_DESTINATIONS", "value": wanted.destinations})
        if wanted.trusted is not None:
            environment.append({"name": "CACHEFS_TRUSTED", "value": wanted.trusted})
    if shared:
        reference = {"name": wanted.store_secret, "key": "url"}
        environment.append({"name": "CACHEFS_STORE_URL", "valueFrom": {"secretKeyRef": reference}})
    else:
        state = {"name": "state", "persistentVolumeClaim": {"claimName": "cachefs-coordinator"}}
    container = process(
        "coordinator",
        wanted,
        ["python", "-m", "cachefs.k8s.starting", "coordinator"],
        resources={
            "requests": {"cpu": "500m", "memory": "512Mi"},
            "limits": {"memory": "2Gi"},
        },
    )
    container |= {
        "env": environment,
        "ports": ports(_PORTS),
        **probes("http"),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            TOKEN_MOUNT,
            {"name": "run", "mountPath": RUN_FOLDER},
            {"name": "state", "mountPath": STATE_FOLDER},
        ],
    }
    if wanted.origins_secret is not None:
        container["envFrom"] = [{"secretRef": {"name": wanted.origins_secret}}]
    volumes = [
        {"name": "config", "configMap": {"name": "cachefs-coordinator"}},
        TOKEN_VOLUME,
        RUN_VOLUME,
        state,
    ]
    return {
        **named("apps/v1", "Deployment", "coordinator", wanted),
        "spec": {
            "replicas": 2 if shared else 1,
            # SQLite has one process: the old one ends before the new one begins.
            "strategy": {"type": "RollingUpdate" if shared else "Recreate"},
            "selector": {"matchLabels": labels("coordinator")},
            "template": template("coordinator", wanted, container, volumes, config=config),
        },
    }
