"""The kinds of objects that we speak of: our own, and those of Kubernetes.

An object says its kind; where the API server keeps objects of that kind, it does not say. A client could ask
(discovery); with a table it need not, and it reads no kind that this project did not mean to.
"""

from collections.abc import Mapping
from typing import Any

from cachefs.errors import ConfigError
from cachefs.k8s.names import CACHE_POOLS, DATASETS, FLOW_RUNS, FLOWS, Kind

NAMESPACES = Kind("Namespace", "namespaces", "v1", namespaced=False)
NODES = Kind("Node", "nodes", "v1", namespaced=False)
PODS = Kind("Pod", "pods", "v1")
SERVICES = Kind("Service", "services", "v1")
CONFIG_MAPS = Kind("ConfigMap", "configmaps", "v1")
SECRETS = Kind("Secret", "secrets", "v1")
SERVICE_ACCOUNTS = Kind("ServiceAccount", "serviceaccounts", "v1")
EVENTS = Kind("Event", "events", "v1")
VOLUME_CLAIMS = Kind("PersistentVolumeClaim", "persistentvolumeclaims", "v1")
VOLUMES = Kind("PersistentVolume", "persistentvolumes", "v1", namespaced=False)
STATEFUL_SETS = Kind("StatefulSet", "statefulsets", "apps/v1")
DAEMON_SETS = Kind("DaemonSet", "daemonsets", "apps/v1")
DEPLOYMENTS = Kind("Deployment", "deployments", "apps/v1")
REPLICA_SETS = Kind("ReplicaSet", "replicasets", "apps/v1")
JOBS = Kind("Job", "jobs", "batch/v1")
LEASES = Kind("Lease", "leases", "coordination.k8s.io/v1")
DISRUPTION_BUDGETS = Kind("PodDisruptionBudget", "poddisruptionbudgets", "policy/v1")
AUTOSCALERS = Kind("HorizontalPodAutoscaler", "horizontalpodautoscalers", "autoscaling/v2")
NETWORK_POLICIES = Kind("NetworkPolicy", "networkpolicies", "networking.k8s.io/v1")
ROLES = Kind("Role", "roles", "rbac.authorization.k8s.io/v1")
ROLE_BINDINGS = Kind("RoleBinding", "rolebindings", "rbac.authorization.k8s.io/v1")
CLUSTER_ROLES = Kind(
    "ClusterRole", "clusterroles", "rbac.authorization.k8s.io/v1", namespaced=False
)
CLUSTER_ROLE_BINDINGS = Kind(
    "ClusterRoleBinding", "clusterrolebindings", "rbac.authorization.k8s.io/v1", namespaced=False
)
RESOURCE_QUOTAS = Kind("ResourceQuota", "resourcequotas", "v1")
CSI_NODES = Kind("CSINode", "csinodes", "storage.k8s.io/v1", namespaced=False)
CSI_DRIVERS = Kind("CSIDriver", "csidrivers", "storage.k8s.io/v1", namespaced=False)
STORAGE_CLASSES = Kind("StorageClass", "storageclasses", "storage.k8s.io/v1", namespaced=False)
PRIORITY_CLASSES = Kind(
    "PriorityClass", "priorityclasses", "scheduling.k8s.io/v1", namespaced=False
)
CUSTOM_RESOURCES = Kind(
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "apiextensions.k8s.io/v1",
    namespaced=False,
)
MUTATING_WEBHOOKS = Kind(
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    "admissionregistration.k8s.io/v1",
    namespaced=False,
)
VALIDATING_WEBHOOKS = Kind(
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    "admissionregistration.k8s.io/v1",
    namespaced=False,
)
WORKLOADS = Kind("Workload", "workloads", "kueue.x-k8s.io/v1beta1")
"""Kueue's: what is to be admitted."""
ADMISSION_CHECKS = Kind(
    "AdmissionCheck", "admissionchecks", "kueue.x-k8s.io/v1beta1", namespaced=False
)
"""Kueue's: what has a say in that."""
SERVICE_MONITORS = Kind("ServiceMonitor", "servicemonitors", "monitoring.coreos.com/v1")
POD_MONITORS = Kind("PodMonitor", "podmonitors", "monitoring.coreos.com/v1")
PROMETHEUS_RULES = Kind("PrometheusRule", "prometheusrules", "monitoring.coreos.com/v1")

_EVERY: tuple[Kind, ...] = (
    DATASETS,
    CACHE_POOLS,
    FLOWS,
    FLOW_RUNS,
    *(value for value in tuple(globals().values()) if isinstance(value, Kind)),
)
_BY_NAME: Mapping[tuple[str, str], Kind] = {(one.api_version, one.kind): one for one in _EVERY}


def of(document: Mapping[str, Any]) -> Kind:
    """Return the kind of an object.

    Raises:
        ConfigError: It is none that we speak of.
    """
    version, kind = str(document.get("apiVersion", "")), str(document.get("kind", ""))
    found = _BY_NAME.get((version, kind))
    if found is None:
        raise ConfigError("not a kind of object that we know", subject=f"{version} {kind}")
    return found
