"""What is to be installed, in the words of the command line, of a file, and of the operator's environment."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachefs.config.schema import GIB
from cachefs.errors import ConfigError
from cachefs.k8s.names import NODE_NAMESPACE, SYSTEM_NAMESPACE

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""What Kubernetes takes for the names of namespaces: RFC 1123's label."""
IMAGE = (
    r"^([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[a-z0-9]+:[A-Fa-f0-9]+)?$"
)
"""What container runtimes take: of host, path, tag and digest, the path has no upper case."""
_IMAGE_LENGTH_MAX = 255
_FOLDER = re.compile(r"(/[\w.-]+)+")
REMOTE_SOURCES = ",".join(f"*={scheme}://*" for scheme in ("s3", "gs", "az", "hf", "https"))
"""What can be read over a network with what coordinator and workers were given; nothing of their own pods, and no
plain HTTP, which is what is inside of clusters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One coordinator and its workers, in a namespace of their own, and what looks after them."""

    image: str
    """Of all containers; by digest, or what runs may change."""
    namespace: str = SYSTEM_NAMESPACE
    node_namespace: str = NODE_NAMESPACE
    """Of the CSI driver and the mounts, whose pods are privileged."""
    plain: bool = False
    """Only the coordinator and a stateful set of workers: no custom resource, no operator, no right."""
    csi: bool = True
    """Volumes of datasets: the driver and the mounts, on each node."""
    webhook: bool = True
    """Sidecars and affinity, for pods that ask for them by label."""
    programs: bool = True
    """Whether flows may run programs, as jobs in their namespaces, and roll deployments over. Else these steps are
    refused, and the operator has no right to either."""
    observing: bool = False
    """Monitors, alert rules and the dashboard; wants the Prometheus operator's kinds."""
    workers: int = 3
    disk_bytes: int = 100 * GIB
    """Of each worker's disk tier: a volume claim, that outlives its pod."""
    memory_bytes: int = 0
    """Of each worker's memory tier; none for 0. It counts against the container's limit."""
    storage_class: str | None = None
    """Of the volume claims; the cluster's default for ``None``. A node's own disks are what a cache wants."""
    zones: Sequence[str] = ()
    """Values of ``topology.kubernetes.io/zone`` over which the workers are spread."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that workers run on."""
    tolerations: Sequence[Mapping[str, Any]] = ()
    """Of the workers, as in a pod."""
    store_secret: str | None = None
    """A secret with the key ``url``, ``postgresql://…``, for two coordinators on one store; for ``None``
    there is one coordinator, with SQLite on a volume."""
    origins_secret: str | None = None
    """A secret whose keys become the environment of coordinator and workers: credentials of origins."""
    trusted: str | None = None
    """Globs of namespaces, with commas between them: their datasets and flows may touch everything, not their own
    alone. The system's namespace is one of them."""
    sources: str = REMOTE_SOURCES
    """Which origins the datasets and flows of the others may name: ``NAMESPACE=URL``, globs both, with commas
    between them."""
    destinations: str | None = None
    """Where flows of the others may have something written, with the coordinator's credentials: as ``sources``."""
    image_pull_secret: str | None = None
    """A secret of the kind ``kubernetes.io/dockerconfigjson``, in both namespaces."""
    kubelet_folder: str = "/var/lib/kubelet"
    """Where the nodes' kubelet keeps its state; some distributions put it elsewhere."""

    def __post_init__(self) -> None:
        """Refuse what cannot be installed."""
        for name in (self.namespace, self.node_namespace, *self.zones):
            check_name(name)
        if self.namespace == self.node_namespace:
            raise ConfigError(
                "what is privileged has a namespace of its own", subject=self.namespace
            )
        if self.plain and self.observing:
            raise ConfigError(
                "a plain installation is not observed",
                hint="the operator gives Prometheus the token that it needs",
            )
        if len(self.image) > _IMAGE_LENGTH_MAX or not re.fullmatch(IMAGE, self.image):
            raise ConfigError(
                "not an image's name",
                subject=self.image,
                hint="HOST/PATH:TAG, or @DIGEST; the path is in lower case",
            )
        if not _FOLDER.fullmatch(self.kubelet_folder):
            raise ConfigError("not a folder's absolute path", subject=self.kubelet_folder)
        if self.workers < 0:
            raise ConfigError("workers are counted from 0")
        if self.disk_bytes < GIB:
            raise ConfigError("a worker's disk tier has at least 1 GiB")
        if self.memory_bytes < 0:
            raise ConfigError("a memory tier is not smaller than nothing")

    @property
    def has_csi(self) -> bool:
        """Whether pods can have volumes of ours."""
        return self.csi and not self.plain

    @property
    def has_programs(self) -> bool:
        """Whether somebody runs the programs of flows."""
        return self.programs and not self.plain

    @property
    def api(self) -> str:
        """``host:port`` of the coordinator's HTTP API, from any namespace."""
        return f"cachefs-coordinator.{self.namespace}.svc:7070"

    @property
    def control(self) -> str:
        """``host:port`` of the coordinator's gRPC server."""
        return f"cachefs-coordinator.{self.namespace}.svc:7071"

    def environment(self) -> dict[str, str]:
        """Return what the operator is told, so that it makes workers as they would be rendered."""
        return {
            "CACHEFS_IMAGE": self.image,
            "CACHEFS_NAMESPACE": self.namespace,
            "CACHEFS_NODE_NAMESPACE": self.node_namespace,
            "CACHEFS_CSI": "true" if self.csi else "false",
            "CACHEFS_WEBHOOK": "true" if self.webhook else "false",
            "CACHEFS_PROGRAMS": "true" if self.programs else "false",
            "CACHEFS_ORIGINS_SECRET": self.origins_secret or "",
            "CACHEFS_IMAGE_PULL_SECRET": self.image_pull_secret or "",
        }


def check_name(name: str) -> None:
    """Refuse what Kubernetes does not take for the name of a namespace.

    Raises:
        ConfigError: It is none.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "not a name as Kubernetes has them",
            subject=name,
            hint="a-z, 0-9 and - between them, 63 at most",
        )


def installed(environment: Mapping[str, str]) -> Installation:
    """Return the installation that an operator is part of, from its environment.

    Raises:
        ConfigError: The environment does not say which.
    """
    try:
        return Installation(
            image=environment["CACHEFS_IMAGE"],
            namespace=environment["CACHEFS_NAMESPACE"],
            node_namespace=environment["CACHEFS_NODE_NAMESPACE"],
            csi=environment["CACHEFS_CSI"] == "true",
            webhook=environment["CACHEFS_WEBHOOK"] == "true",
            programs=environment["CACHEFS_PROGRAMS"] == "true",
            origins_secret=environment["CACHEFS_ORIGINS_SECRET"] or None,
            image_pull_secret=environment["CACHEFS_IMAGE_PULL_SECRET"] or None,
        )
    except KeyError as error:
        raise ConfigError("the environment lacks a value", subject=str(error.args[0])) from error
