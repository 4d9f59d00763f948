"""The coordinator: one with SQLite on a volume, or two on one PostgreSQL."""

from typing import Any

from cachefs.config.schema import GIB
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import (
    COORDINATOR_CONTROL,
    COORDINATOR_HTTP,
    STATE_FOLDER,
    Document,
    claim,
    config_map,
    labels,
    named,
    pod_template,
)

_STORE_BYTES = 10 * GIB
_PORTS = {"http": COORDINATOR_HTTP, "control": COORDINATOR_CONTROL}


def address(wanted: Installation) -> str:
    """Return where workers find the coordinator."""
    return f"cachefs-coordinator.{wanted.namespace}:{COORDINATOR_CONTROL}"


def documents(wanted: Installation) -> list[Document]:
    """Return the coordinator's objects."""
    shared = wanted.store_secret is not None
    config: dict[str, Any] = {
        "store_url": "" if shared else f"sqlite:///{STATE_FOLDER}/coordinator.db",
        "http_port": COORDINATOR_HTTP,
        "control_port": COORDINATOR_CONTROL,
        # Whoever may submit a flow would else run programs in the coordinator's pod.
        "flows": {"processes": False},
    }
    service = {
        **named("v1", "Service", "coordinator", wanted),
        "spec": {
            "selector": labels("coordinator"),
            "ports": [
                {"name": name, "port": port, "targetPort": name} for name, port in _PORTS.items()
            ],
        },
    }
    own = config_map("coordinator", wanted, config)
    found = [own, service, _deployment(wanted, own, shared=shared)]
    if not shared:
        head = named("v1", "PersistentVolumeClaim", "coordinator", wanted)
        found.insert(0, {**head, "spec": claim("state", _STORE_BYTES, wanted)["spec"]})
    return found


def _deployment(wanted: Installation, config: Document, *, shared: bool) -> Document:
    volume: Document = {"name": "state", "emptyDir": {}}
    environment: list[Document] = []
    if shared:
        reference = {"name": wanted.store_secret, "key": "url"}
        environment.append({"name": "CACHEFS_STORE_URL", "valueFrom": {"secretKeyRef": reference}})
    else:
        volume = {"name": "state", "persistentVolumeClaim": {"claimName": "cachefs-coordinator"}}
    template = pod_template(
        "coordinator",
        wanted,
        config=config,
        ports=_PORTS,
        ready="http",
        volumes=[volume],
        mounts=[{"name": "state", "mountPath": STATE_FOLDER}],
        environment=environment,
        resources={
            "requests": {"cpu": "500m", "memory": "512Mi"},
            "limits": {"memory": "2Gi"},
        },
    )
    return {
        **named("apps/v1", "Deployment", "coordinator", wanted),
        "spec": {
            "replicas": 2 if shared else 1,
            # SQLite has one process: the old one ends before the new one begins.
            "strategy": {"type": "RollingUpdate" if shared else "Recreate"},
            "selector": {"matchLabels": labels("coordinator")},
            "template": template,
        },
    }
