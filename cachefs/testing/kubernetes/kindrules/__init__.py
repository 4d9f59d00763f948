"""What Kubernetes' own kinds demand beyond their schemas: the rules that manifests break most often.

:mod:`.pods` has those of pods and of what holds a pod's template, :mod:`.workloads` those of its holders, :mod:`.others` the rest;
:mod:`.security` has the Pod Security Standards, which namespaces ask for by label.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.failures import Cause
from cachefs.testing.kubernetes.kindrules import others, pods, workloads
from cachefs.testing.kubernetes.kinds import Resource

_RULES: Final[Mapping[tuple[str, str], Callable[[Document], Iterator[Cause]]]] = {
    ("", "pods"): lambda pod: pods.faults(pod.get("spec") or {}, "spec"),
    ("", "services"): others.service_faults,
    ("", "configmaps"): others.content_faults,
    ("", "secrets"): others.content_faults,
    ("", "persistentvolumes"): others.volume_faults,
    ("", "persistentvolumeclaims"): others.claim_faults,
    ("apps", "deployments"): workloads.deployment_faults,
    ("apps", "statefulsets"): workloads.stateful_set_faults,
    ("apps", "daemonsets"): workloads.daemon_set_faults,
    ("apps", "replicasets"): workloads.replica_set_faults,
    ("batch", "jobs"): workloads.job_faults,
    ("policy", "poddisruptionbudgets"): others.budget_faults,
    ("autoscaling", "horizontalpodautoscalers"): others.autoscaler_faults,
    ("coordination.k8s.io", "leases"): others.lease_faults,
    ("rbac.authorization.k8s.io", "roles"): others.role_faults,
    ("rbac.authorization.k8s.io", "clusterroles"): others.cluster_role_faults,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): others.webhook_faults,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): others.webhook_faults,
}


def faults_by_kind(document: Document, resource: Resource) -> Iterator[Cause]:
    """Go through what is wrong with an object of Kubernetes' own."""
    rules = _RULES.get(resource.stored)
    if rules is not None:
        yield from rules(document)
