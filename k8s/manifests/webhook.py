"""The webhook: sidecars and affinity for pods that ask for them, and the scheduler's extender.

What it needs to be believed, the operator makes and renews: a certificate in the secret that is rendered
empty here, and the bundle of authorities in the configuration. Neither is part of what is rendered, so that
applying it again takes nothing away.

It fails open: a pod that it cannot answer about is made as it was written.
"""

from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import (
    Document,
    budget,
    fields,
    headed,
    labels,
    named,
    ports,
    probes,
    process,
    service,
    spread,
    template,
)
from cachefs.k8s.names import HINTED, INJECT

WEBHOOK_HTTPS = 9443
WEBHOOK_HTTP = 9080
SECRET = "cachefs-webhook"  # noqa: S105 - a secret's name
AUTHORITY = "cachefs-webhook-ca"
_FOLDER = "/etc/cachefs-webhook"
_TIMEOUT_SECONDS = 3
_SYSTEM = ("kube-system", "kube-public", "kube-node-lease")
_PORTS = {"https": WEBHOOK_HTTPS, "http": WEBHOOK_HTTP}


def documents(wanted: Installation) -> list[Document]:
    """Return the webhook's objects."""
    head = named("v1", "Service", "webhook", wanted)
    found = service(head, labels("webhook"), _PORTS)
    found["spec"]["ports"][0]["port"] = 443
    return [
        *_filled_by_the_operator(wanted),
        found,
        budget(head, labels("webhook")),
        _deployment(wanted),
        _configuration(wanted),
    ]


def _filled_by_the_operator(wanted: Installation) -> list[Document]:
    """Return what the operator may change and need not make: that right cannot be limited to names."""

    def empty(kind: str, name: str) -> Document:
        return headed("v1", kind, name, "webhook", wanted.namespace)

    secrets = ({**empty("Secret", name), "type": "Opaque"} for name in (SECRET, AUTHORITY))
    return [empty("ConfigMap", AUTHORITY), *secrets]


def _deployment(wanted: Installation) -> Document:
    command = [
        "python",
        "-m",
        "cachefs.k8s.webhook",
        "--host=$(POD_IP)",
        f"--port={WEBHOOK_HTTPS}",
        f"--http-port={WEBHOOK_HTTP}",
        f"--serving-folder={_FOLDER}",
        f"--coordinator={wanted.api}",
        f"--image={wanted.image}",
        f"--default-mode={'csi' if wanted.csi else 'files'}",
        "--log-json",
    ]
    resources = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    container = process("webhook", wanted, command, resources=resources)
    container |= {
        "env": fields(POD_NAME="metadata.name", POD_IP="status.podIP"),
        "ports": ports(_PORTS),
        **probes("http", ready="/readyz"),
        "volumeMounts": [{"name": "serving", "mountPath": _FOLDER, "readOnly": True}],
    }
    secret = {"secretName": SECRET, "optional": True, "defaultMode": 0o440}
    pod = template(
        "webhook", wanted, container, [{"name": "serving", "secret": secret}], grace_seconds=30
    )
    pod["spec"]["topologySpreadConstraints"] = spread(labels("webhook"), "kubernetes.io/hostname")
    return {
        **named("apps/v1", "Deployment", "webhook", wanted),
        "spec": {
            "replicas": 2,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "selector": {"matchLabels": labels("webhook")},
            "template": pod,
        },
    }


def _configuration(wanted: Installation) -> Document:
    """Return two entries that never meet in one pod: what is asked for costs one call."""
    asks = {"key": INJECT, "operator": "Exists"}
    no_hint = {"key": HINTED, "operator": "NotIn", "values": ["true"]}
    head = named(
        "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "webhook", wanted
    )
    return {
        **head,
        "metadata": {"name": "cachefs", "labels": head["metadata"]["labels"]},
        "webhooks": [
            _entry("hints.cachefs.io", wanted, {"matchLabels": {HINTED: "true"}}),
            _entry("inject.cachefs.io", wanted, {"matchExpressions": [asks, no_hint]}),
        ],
    }


def _entry(name: str, wanted: Installation, selector: Document) -> Document:
    others = [*_SYSTEM, wanted.namespace, wanted.node_namespace]
    return {
        "name": name,
        "clientConfig": {
            "service": {
                "namespace": wanted.namespace,
                "name": "cachefs-webhook",
                "path": "/mutate",
                "port": 443,
            }
        },
        "rules": [
            {
                "operations": ["CREATE"],
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }
        ],
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": _TIMEOUT_SECONDS,
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "NoneOnDryRun",
        "admissionReviewVersions": ["v1"],
        "objectSelector": selector,
        "namespaceSelector": {
            "matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": others}
            ]
        },
    }
