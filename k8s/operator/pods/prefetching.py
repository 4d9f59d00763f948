"""Prefetch by annotation: a pod names datasets, and they are warmed once for it.

The annotation ``cachefs.io/prefetch`` names them (``llama@v2, team-b/tokens``), a label of the same name has
the pod looked at. What came of it is written into another annotation: a pod that has it is done with,
however long it lives. Several pods of one template ask for one warm-up: it is known by its dataset.
"""

import re
from collections.abc import Sequence

from cachefs.core.hints.asking import dataset_named
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError, ConfigError, ConflictError, NotKnownError
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.crds import datasets as dataset_objects
from cachefs.k8s.kinds import PODS
from cachefs.k8s.names import DATASETS, PREFETCH, PREFETCHED, Kind
from cachefs.k8s.operator.actions import Document
from cachefs.transport.api import Api

DATASETS_MAX = 64
"""Of one pod."""
_MESSAGE_LENGTH_MAX = 1000


class PrefetchKeeper:
    """Warms what pods name."""

    name = "prefetch"
    watched: tuple[Kind, ...] = ()
    label = PREFETCH
    """Of the pods to be followed: :mod:`.following`."""

    def __init__(self, cluster: Cluster, api: Api) -> None:
        """Look at nothing yet."""
        self._cluster = cluster
        self._api = api

    def keep(self, namespace: str, name: str) -> float | None:
        """Look at a pod, and warm what it names unless that was done."""
        pod = self._cluster.get(PODS, name, namespace)
        if pod is None or not is_due(pod):
            return None
        words = []
        try:
            for dataset, version in wanted(pod):
                if self._may_use(namespace, dataset):
                    words.append(self._warm(dataset, version))
                else:
                    words.append(f"{dataset}: not shared with {namespace}")
        except ConfigError as error:
            words = [str(error)]
        told = ", ".join(words)[:_MESSAGE_LENGTH_MAX]
        patch = {"metadata": {"annotations": {PREFETCHED: told}, "uid": pod["metadata"]["uid"]}}
        try:
            self._cluster.patch(PODS, name, namespace, patch)
        except (NotKnownError, ConflictError):
            return None  # it is gone, or another of its name is there
        self._cluster.tell(pod, "Prefetch", told)
        return None

    def sweep(self) -> tuple[tuple[str, str], ...]:
        """Return the pods that name datasets and are not done with."""
        found = self._cluster.find(PODS, labels={PREFETCH: "true"})
        return tuple(
            (one["metadata"]["namespace"], one["metadata"]["name"]) for one in found if is_due(one)
        )

    def _warm(self, dataset: DatasetName, version: str | None) -> str:
        """Begin a warm-up, or join the one that there is; return what is told of it."""
        full = f"{dataset.namespace}/{dataset.name}"
        named = f"{full}@{version}" if version else full
        body = {
            "dataset": full,
            "version": version or "",
            "paths": [],
            "key": f"{PREFETCH} {named}",
        }
        try:
            job = self._api.post("/v1/warm", body)
        except NotKnownError:
            return f"{named}: there is no such dataset or version"
        return f"{named}: {job['id']}"

    def _may_use(self, namespace: str, dataset: DatasetName) -> bool:
        if dataset.namespace == namespace:
            return True
        document = self._cluster.get(DATASETS, dataset.name, dataset.namespace)
        try:
            return document is not None and dataset_objects.parse(document).serves(namespace)
        except CacheFSError:
            return False


def is_due(pod: Document) -> bool:
    """Say whether a pod names datasets that were not warmed for it."""
    marks = pod["metadata"].get("annotations") or {}
    phase = (pod.get("status") or {}).get("phase", "Pending")
    lives = phase in ("Pending", "Running") and not pod["metadata"].get("deletionTimestamp")
    return bool(marks.get(PREFETCH)) and PREFETCHED not in marks and lives


def wanted(pod: Document) -> Sequence[tuple[DatasetName, str | None]]:
    """Return the datasets that a pod names; one without a namespace is of the pod's.

    Raises:
        ConfigError: They cannot be understood, or are too many.
    """
    marks = pod["metadata"].get("annotations") or {}
    words = [word for word in re.split(r"[,\s]+", str(marks.get(PREFETCH, ""))) if word]
    if len(words) > DATASETS_MAX:
        raise ConfigError(f"a pod names at most {DATASETS_MAX} datasets", subject=PREFETCH)
    namespace = pod["metadata"]["namespace"]
    return [dataset_named(word if "/" in word else f"{namespace}/{word}") for word in words]
