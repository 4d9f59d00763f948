"""Which resources are served: Kubernetes' own, and whatever custom ones were installed.

A resource is one plural under one group and version. Versions of a group share what is stored; so do the
two groups that serve events.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.shapes import ANYTHING, Shape, built_in_shape

DEFINITIONS: Final = ("apiextensions.k8s.io", "customresourcedefinitions")
"""Where custom resources are defined: group and plural."""
VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Where a resource keeps what its ``scale`` shows: dotted paths."""

    spec: str = ".spec.replicas"
    status: str = ".status.replicas"
    selector: str = ".status.selector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A plural under a group and version."""

    group: str
    version: str
    plural: str
    kind: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    scaling: Scaling | None = None
    subresources: tuple[str, ...] = ()
    """Those beside ``status`` and ``scale``."""
    shape: Shape = field(default=ANYTHING, compare=False)
    custom: bool = False
    selectable: tuple[str, ...] = ()
    """Fields of a custom resource that lists may be selected by."""
    columns: tuple[Document, ...] = field(default=(), compare=False)
    """``additionalPrinterColumns``."""

    @property
    def api_version(self) -> str:
        """As objects say it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def stored(self) -> tuple[str, str]:
        """Group and plural under which its objects are kept."""
        return ("", "events") if self.plural == "events" else (self.group, self.plural)

    @property
    def counts_generations(self) -> bool:
        """Whether ``metadata.generation`` grows with the spec."""
        return self.custom or self.plural in _GENERATIONS


_GENERATIONS: Final = frozenset(
    [
        "pods",
        "deployments",
        "statefulsets",
        "daemonsets",
        "replicasets",
        "replicationcontrollers",
        "jobs",
        "cronjobs",
        "poddisruptionbudgets",
        "networkpolicies",
        "ingresses",
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "customresourcedefinitions",
        "endpointslices",
        "priorityclasses",
    ]
)

_BUILT_IN: Final = """
v1                               bindings                    Binding                    n  -     -
v1                               configmaps                  ConfigMap                  n  cm    -
v1                               endpoints                   Endpoints                  n  ep    -
v1                               events                      Event                      n  ev    -
v1                               limitranges                 LimitRange                 n  limits -
v1                               namespaces                  Namespace                  c  ns    status,finalize
v1                               nodes                       Node                       c  no    status
v1                               persistentvolumeclaims      PersistentVolumeClaim      n  pvc   status
v1                               persistentvolumes           PersistentVolume           c  pv    status
v1                               pods                        Pod                        n  po    status,eviction,binding,ephemeralcontainers
v1                               podtemplates                PodTemplate                n  -     -
v1                               replicationcontrollers      ReplicationController      n  rc    status,scale
v1                               resourcequotas              ResourceQuota              n  quota status
v1                               secrets                     Secret                     n  -     -
v1                               serviceaccounts             ServiceAccount             n  sa    token
v1                               services                    Service                    n  svc   status
admissionregistration.k8s.io/v1  mutatingwebhookconfigurations   MutatingWebhookConfiguration   c - -
admissionregistration.k8s.io/v1  validatingwebhookconfigurations ValidatingWebhookConfiguration c - -
apiextensions.k8s.io/v1          customresourcedefinitions   CustomResourceDefinition   c  crd,crds status
apps/v1                          controllerrevisions         ControllerRevision         n  -     -
apps/v1                          daemonsets                  DaemonSet                  n  ds    status
apps/v1                          deployments                 Deployment                 n  deploy status,scale
apps/v1                          replicasets                 ReplicaSet                 n  rs    status,scale
apps/v1                          statefulsets                StatefulSet                n  sts   status,scale
autoscaling/v2                   horizontalpodautoscalers    HorizontalPodAutoscaler    n  hpa   status
batch/v1                         cronjobs                    CronJob                    n  cj    status
batch/v1                         jobs                        Job                        n  -     status
coordination.k8s.io/v1           leases                      Lease                      n  -     -
discovery.k8s.io/v1              endpointslices              EndpointSlice              n  -     -
events.k8s.io/v1                 events                      Event                      n  ev    -
networking.k8s.io/v1             ingresses                   Ingress                    n  ing   status
networking.k8s.io/v1             networkpolicies             NetworkPolicy              n  netpol -
node.k8s.io/v1                   runtimeclasses              RuntimeClass               c  -     -
policy/v1                        poddisruptionbudgets        PodDisruptionBudget        n  pdb   status
rbac.authorization.k8s.io/v1     clusterrolebindings         ClusterRoleBinding         c  -     -
rbac.authorization.k8s.io/v1     clusterroles                ClusterRole                c  -     -
rbac.authorization.k8s.io/v1     rolebindings                RoleBinding                n  -     -
rbac.authorization.k8s.io/v1     roles                       Role                       n  -     -
scheduling.k8s.io/v1             priorityclasses             PriorityClass              c  pc    -
storage.k8s.io/v1                csidrivers                  CSIDriver                  c  -     -
storage.k8s.io/v1                csinodes                    CSINode                    c  -     -
storage.k8s.io/v1                csistoragecapacities        CSIStorageCapacity         n  -     -
storage.k8s.io/v1                storageclasses              StorageClass               c  sc    -
storage.k8s.io/v1                volumeattachments           VolumeAttachment           c  -     status
"""
"""API version, plural, kind, namespaced or cluster's, short names, subresources."""


class Kinds:
    """The table of what is served."""

    def __init__(self) -> None:
        """Begin with Kubernetes' own."""
        self._table: dict[tuple[str, str, str], Resource] = {}
        for line in _BUILT_IN.strip().splitlines():
            self.add(_built_in(line.split()))

    def __iter__(self) -> Iterator[Resource]:
        """Go through all that is served."""
        return iter(list(self._table.values()))

    def add(self, resource: Resource) -> None:
        """Serve a resource, in place of what was served under its name."""
        self._table[resource.group, resource.version, resource.plural] = resource

    def remove(self, group: str, plural: str) -> None:
        """Serve a plural no longer, in any version."""
        for resource in self:
            if (resource.group, resource.plural) == (group, plural):
                del self._table[group, resource.version, plural]

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return a resource by where it is served."""
        return self._table.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource that keeps objects of a kind."""
        fitting = (each for each in self if (each.api_version, each.kind) == (api_version, kind))
        return next(fitting, None)

    def in_group(self, group: str, plural: str) -> Resource | None:
        """Return a resource in the first version that is served."""
        fitting = (each for each in self if (each.group, each.plural) == (group, plural))
        return next(fitting, None)


def _built_in(words: list[str]) -> Resource:
    api_version, plural, kind, level, short, subresources = words
    group, _, version = api_version.rpartition("/")
    subs = tuple(name for name in subresources.split(",") if name != "-")
    scaling = Scaling(selector=".spec.selector") if "scale" in subs else None
    return Resource(
        group=group,
        version=version,
        plural=plural,
        kind=kind,
        singular=kind.lower(),
        namespaced=level == "n",
        short_names=tuple(name for name in short.split(",") if name != "-"),
        categories=("all",) if plural in _ALL else (),
        has_status="status" in subs,
        scaling=scaling,
        subresources=tuple(name for name in subs if name not in ("status", "scale")),
        shape=built_in_shape(group, version, kind),
    )


_ALL: Final = frozenset(
    [
        "pods",
        "services",
        "daemonsets",
        "deployments",
        "replicasets",
        "statefulsets",
        "horizontalpodautoscalers",
        "jobs",
        "cronjobs",
        "replicationcontrollers",
    ]
)
