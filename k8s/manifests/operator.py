"""The operator: two pods, of which one leads; the other takes over when it is gone."""

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import (
    RUN_FOLDER,
    RUN_VOLUME,
    TEMPORARY,
    TEMPORARY_MOUNT,
    TOKEN_MOUNT,
    TOKEN_VOLUME,
    Document,
    budget,
    fields,
    labels,
    named,
    ports,
    probes,
    process,
    spread,
    template,
    values,
)

OPERATOR_HTTP = 9090


def documents(wanted: Installation) -> list[Document]:
    """Return the operator's objects, but for its rights."""
    container = process(
        "operator",
        wanted,
        ["python", "-m", "cachefs.k8s.starting", "operator"],
        resources={
            "requests": {"cpu": "100m", "memory": "192Mi"},
            "limits": {"memory": "1Gi"},
        },
    )
    container |= {
        "env": [
            *fields(
                POD_NAME="metadata.name", POD_NAMESPACE="metadata.namespace", POD_IP="status.podIP"
            ),
            *values(
                CACHEFS_COORDINATOR=wanted.api,
                CACHEFS_TOKEN_FILE=f"{RUN_FOLDER}/token",
                **wanted.environment(),
            ),
        ],
        "ports": ports({"http": OPERATOR_HTTP}),
        **probes("http"),
        "volumeMounts": [TOKEN_MOUNT, {"name": "run", "mountPath": RUN_FOLDER}, TEMPORARY_MOUNT],
    }
    volumes = [TOKEN_VOLUME, RUN_VOLUME, TEMPORARY]
    pod = template("operator", wanted, container, volumes, speaks_with_api=True)
    pod["spec"]["topologySpreadConstraints"] = spread(labels("operator"), "kubernetes.io/hostname")
    deployment = {
        **named("apps/v1", "Deployment", "operator", wanted),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels("operator")},
            "template": pod,
        },
    }
    head = named("v1", "Service", "operator", wanted)
    return [budget(head, labels("operator")), deployment]
