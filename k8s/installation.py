"""What is to be installed, in the words of the command line."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cachefs.config.schema import GIB
from cachefs.errors import ConfigError

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""What Kubernetes takes for the names of namespaces: RFC 1123's label."""
_IMAGE = re.compile(r"[a-z0-9][\w./:@-]{0,254}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One coordinator and its workers, in a namespace of their own."""

    image: str
    """Of all containers; by digest, or what runs may change."""
    namespace: str = "cachefs"
    workers: int = 3
    disk_bytes: int = 100 * GIB
    """Of each worker's disk tier: a volume claim, that outlives its pod."""
    memory_bytes: int = 0
    """Of each worker's memory tier; none for 0. It counts against the container's limit."""
    storage_class: str | None = None
    """Of the volume claims; the cluster's default for ``None``. A node's own disks are what a cache wants."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that workers run on."""
    store_secret: str | None = None
    """A secret with the key ``url``, ``postgresql://…``, for two coordinators on one store; for ``None``
    there is one coordinator, with SQLite on a volume."""
    origins_secret: str | None = None
    """A secret whose keys become the environment of coordinator and workers: credentials of origins."""

    def __post_init__(self) -> None:
        """Refuse what cannot be installed."""
        if not _NAME.fullmatch(self.namespace):
            raise ConfigError("not a namespace's name", subject=self.namespace)
        if not _IMAGE.fullmatch(self.image):
            raise ConfigError("not an image's name", subject=self.image)
        if self.workers < 0:
            raise ConfigError("workers are counted from 0")
        if self.disk_bytes < GIB:
            raise ConfigError("a worker's disk tier has at least 1 GiB")
        if self.memory_bytes < 0:
            raise ConfigError("a memory tier is not smaller than nothing")
