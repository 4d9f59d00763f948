"""What cachefs calls itself on a cluster: the group, the kinds, labels, annotations.

Whatever is read by more than one component is here, so that two of them cannot spell it differently. What
hints say on pods is :mod:`cachefs.hints.renderings.marks`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

GROUP = "cachefs.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
DRIVER = GROUP
"""The CSI driver's name."""
FIELD_MANAGER = "cachefs"
"""Who server-side apply says set a field."""

SYSTEM_NAMESPACE = "cachefs"
"""Where coordinator, workers, operator and webhook run, unless whoever installs says otherwise."""
NODE_NAMESPACE = "cachefs-node"
"""Where what needs the node's rights runs: the CSI driver and the mounts."""

MANAGED_BY = "app.kubernetes.io/managed-by"
DATASET = f"{GROUP}/dataset"
"""On objects made for a dataset, its name."""
DATASET_NAMESPACE = f"{GROUP}/dataset-namespace"
"""On objects made for a dataset outside its namespace: persistent volumes have none."""
POOL = f"{GROUP}/pool"
FLOW = f"{GROUP}/flow"
RUN = f"{GROUP}/run"
STEP = f"{GROUP}/step"
PROGRAM = f"{GROUP}/program"
"""On a Job and its pod: which program of a flow's step it runs."""
OPERATOR = f"{GROUP}/operator"
"""On a Job and its pod: the namespace of the operator that made it."""
REVISION = f"{GROUP}/version"
"""On the pods of a deployment, an annotation: the revision that a rollout gave them."""
QUEUE = "kueue.x-k8s.io/queue-name"
"""Kueue's label: the queue in which a Job waits for its turn."""
INJECT = f"{GROUP}/inject"
"""On a pod: whether and how it gets a sidecar."""
INJECTED = f"{GROUP}/injected"
"""On a pod, an annotation: what it was given."""
NAMED_DATASETS = f"{GROUP}/datasets"
"""On a pod, an annotation: the datasets that it reads, and perhaps where it wants to see them."""
SIZE_LIMIT = f"{GROUP}/size-limit"
"""On a pod, an annotation: how large each volume may become into which a dataset is copied."""
PREFETCH = f"{GROUP}/prefetch"
"""On a pod, as a label: it has the annotation of that name, datasets to be warmed."""
PREFETCHED = f"{GROUP}/prefetched"
"""On a pod, an annotation: the warm-ups that were begun for it, or why none were."""
HINTED = f"{GROUP}/hint"
"""On a pod, a label: it wants to be where its data is."""


_WORKER_LENGTH_MAX = 63
"""Of a worker's name; a node's may have 253."""


def worker_name(environment: Mapping[str, str]) -> str:
    """Return what a worker is called in a pod, by its environment.

    It is the pod's name where pods keep theirs, and else ``WORKER_NAME``, which is shortened if it has to be: so
    that two long ones stay two.

    Raises:
        KeyError: The environment does not say.
    """
    name = environment.get("WORKER_NAME") or environment["POD_NAME"]
    if len(name) <= _WORKER_LENGTH_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: _WORKER_LENGTH_MAX - len(digest) - 1].rstrip('-._')}-{digest}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, and where the API server keeps it."""

    kind: str
    plural: str
    api_version: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The group; empty for the core's."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""


DATASETS = Kind("Dataset", "datasets", API_VERSION)
CACHE_POOLS = Kind("CachePool", "cachepools", API_VERSION)
FLOWS = Kind("Flow", "flows", API_VERSION)
FLOW_RUNS = Kind("FlowRun", "flowruns", API_VERSION)
