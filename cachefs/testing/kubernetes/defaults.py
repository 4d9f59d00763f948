"""What Kubernetes fills in on its own kinds; clients see it, and server-side apply has to live with it."""

import base64
from collections.abc import Callable
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.kinds import Resource


def default(document: Document, resource: Resource) -> Document:
    """Return an object with its kind's defaults (custom ones have theirs in their schema)."""
    filled = _FILLED.get((resource.group, resource.plural))
    if filled is None:
        return document
    document = dict(document)
    filled(document)
    return document


def _spec(document: Document, **values: object) -> Document:
    spec = {**(document.get("spec") or {})}
    for name, value in values.items():
        spec.setdefault(name, value)
    document["spec"] = spec
    return spec


def _status(document: Document, **values: object) -> None:
    document["status"] = {**values, **(document.get("status") or {})}


def _pod(document: Document) -> None:
    spec = {
        "enableServiceLinks": True,
        "serviceAccountName": "default",
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
    }
    document["spec"] = _pod_spec({**spec, **(document.get("spec") or {})})
    _status(document, phase="Pending", qosClass=_quality(document["spec"]))


def _quality(spec: Document) -> str:
    resources = [each.get("resources") or {} for each in spec.get("containers") or ()]
    if not any(each.get("limits") or each.get("requests") for each in resources):
        return "BestEffort"
    sure = all(
        {"cpu", "memory"} <= set(each.get("limits") or {})
        and (each.get("requests") or each["limits"]) == each["limits"]
        for each in resources
    )
    return "Guaranteed" if sure else "Burstable"


def _pod_spec(spec: Document) -> Document:
    spec = {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "securityContext": {},
        **spec,
    }
    for name in ("containers", "initContainers"):
        if spec.get(name):
            spec[name] = [_container(each) for each in spec[name]]
    if spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    return spec


def _container(container: Document) -> Document:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    policy = "Always" if tag in ("", "latest") and "@" not in image else "IfNotPresent"
    filled = {
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": policy,
        "resources": {},
        **container,
    }
    if filled.get("ports"):
        filled["ports"] = [{"protocol": "TCP", **port} for port in filled["ports"]]
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if filled.get(name):
            filled[name] = _probe(filled[name])
    return filled


def _probe(probe: Document) -> Document:
    filled = {
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
        **probe,
    }
    if filled.get("httpGet"):
        filled["httpGet"] = {"path": "/", "scheme": "HTTP", **filled["httpGet"]}
    return filled


def _template(spec: Document) -> None:
    template = spec.get("template")
    if template:
        spec["template"] = {**template, "spec": _pod_spec(template.get("spec") or {})}


def _deployment(document: Document) -> None:
    rolling = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    spec = _spec(
        document,
        replicas=1,
        strategy=rolling,
        revisionHistoryLimit=10,
        progressDeadlineSeconds=600,
    )
    _template(spec)
    document.setdefault("status", {})


def _replica_set(document: Document) -> None:
    _template(_spec(document, replicas=1))
    _status(document, replicas=0)


def _stateful_set(document: Document) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    spec = _spec(
        document,
        replicas=1,
        podManagementPolicy="OrderedReady",
        updateStrategy=rolling,
        revisionHistoryLimit=10,
        persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"},
    )
    _template(spec)
    claims = spec.get("volumeClaimTemplates")
    if claims:
        spec["volumeClaimTemplates"] = [_claim_template(claim) for claim in claims]
    _status(document, replicas=0, availableReplicas=0)


def _claim_template(claim: Document) -> Document:
    head = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    spec = {"volumeMode": "Filesystem", **(claim.get("spec") or {})}
    return {**head, **claim, "spec": spec, "status": {"phase": "Pending"}}


def _daemon_set(document: Document) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    _template(_spec(document, updateStrategy=rolling, revisionHistoryLimit=10))
    _status(
        document,
        currentNumberScheduled=0,
        numberMisscheduled=0,
        desiredNumberScheduled=0,
        numberReady=0,
    )


def _job(document: Document) -> None:
    spec = _spec(
        document,
        parallelism=1,
        completions=1,
        backoffLimit=6,
        suspend=False,
        completionMode="NonIndexed",
        manualSelector=False,
        podReplacementPolicy="TerminatingOrFailed",
    )
    _template(spec)
    uid = document["metadata"].get("uid", "")
    if uid and not spec["manualSelector"] and "selector" not in spec:
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        name = document["metadata"].get("name", "")
        template = spec.setdefault("template", {})
        metadata = dict(template.get("metadata") or {})
        own = {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
        }
        metadata["labels"] = {**(metadata.get("labels") or {}), **own}
        spec["template"] = {**template, "metadata": metadata}
    document.setdefault("status", {})


def _service(document: Document) -> None:
    spec = _spec(document, type="ClusterIP", sessionAffinity="None")
    uid = document["metadata"].get("uid", "")
    if uid and spec["type"] != "ExternalName":
        number = int(uid[:4], 16)
        spec.setdefault("clusterIP", f"10.96.{number >> 8}.{number & 255}")
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec.get("ports"):
        spec["ports"] = [
            {"protocol": "TCP", "targetPort": port.get("port"), **port} for port in spec["ports"]
        ]
    _status(document, loadBalancer={})


def _claim(document: Document) -> None:
    _spec(document, volumeMode="Filesystem")
    _status(document, phase="Pending")


def _volume(document: Document) -> None:
    _spec(document, volumeMode="Filesystem", persistentVolumeReclaimPolicy="Retain")
    _status(document, phase="Pending")


def _secret(document: Document) -> None:
    document.setdefault("type", "Opaque")
    written = document.pop("stringData", None)
    if written:
        coded = {name: base64.b64encode(text.encode()).decode() for name, text in written.items()}
        document["data"] = {**(document.get("data") or {}), **coded}


def _namespace(document: Document) -> None:
    _spec(document, finalizers=["kubernetes"])
    _status(document, phase="Active")
    name = document["metadata"].get("name", "")
    labels = {**(document["metadata"].get("labels") or {}), "kubernetes.io/metadata.name": name}
    document["metadata"] = {**document["metadata"], "labels": labels}


def _driver(document: Document) -> None:
    _spec(
        document,
        attachRequired=True,
        podInfoOnMount=False,
        volumeLifecycleModes=["Persistent"],
        storageCapacity=False,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        requiresRepublish=False,
        seLinuxMount=False,
    )


def _webhooks(document: Document) -> None:
    hooks = []
    for hook in document.get("webhooks") or ():
        filled = {
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "timeoutSeconds": 10,
            **hook,
        }
        filled["rules"] = [{"scope": "*", **rule} for rule in filled.get("rules") or ()]
        client = dict(filled.get("clientConfig") or {})
        if client.get("service"):
            client["service"] = {"port": 443, **client["service"]}
        filled["clientConfig"] = client
        if document.get("kind") == "MutatingWebhookConfiguration":
            filled.setdefault("reinvocationPolicy", "Never")
        hooks.append(filled)
    if hooks:
        document["webhooks"] = hooks


def _storage_class(document: Document) -> None:
    document.setdefault("reclaimPolicy", "Delete")
    document.setdefault("volumeBindingMode", "Immediate")


def _budget(document: Document) -> None:
    _status(document, currentHealthy=0, desiredHealthy=0, disruptionsAllowed=0, expectedPods=0)


def _binding(document: Document) -> None:
    role = document.get("roleRef") or {}
    document["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", **role}
    subjects = []
    for subject in document.get("subjects") or ():
        is_account = subject.get("kind") == "ServiceAccount"
        more = {} if is_account else {"apiGroup": "rbac.authorization.k8s.io"}
        subjects.append({**more, **subject})
    if subjects:
        document["subjects"] = subjects


_RBAC: Final = "rbac.authorization.k8s.io"
_FILLED: Final[dict[tuple[str, str], Callable[[Document], None]]] = {
    ("", "pods"): _pod,
    ("", "services"): _service,
    ("", "secrets"): _secret,
    ("", "namespaces"): _namespace,
    ("", "persistentvolumes"): _volume,
    ("", "persistentvolumeclaims"): _claim,
    ("", "replicationcontrollers"): _replica_set,
    ("apps", "deployments"): _deployment,
    ("apps", "replicasets"): _replica_set,
    ("apps", "statefulsets"): _stateful_set,
    ("apps", "daemonsets"): _daemon_set,
    ("batch", "jobs"): _job,
    ("policy", "poddisruptionbudgets"): _budget,
    ("storage.k8s.io", "csidrivers"): _driver,
    ("storage.k8s.io", "storageclasses"): _storage_class,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): _webhooks,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): _webhooks,
    (_RBAC, "rolebindings"): _binding,
    (_RBAC, "clusterrolebindings"): _binding,
}
