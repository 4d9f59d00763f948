"""Looking at datasets: what the API server and the coordinator have, for the pure part to compare."""

from dataclasses import replace
from typing import Any
from urllib.parse import quote

from cachefs.errors import CacheFSError, NotKnownError
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.crds.datasets import DatasetSpec, parse
from cachefs.k8s.kinds import VOLUME_CLAIMS, VOLUMES
from cachefs.k8s.names import CACHE_POOLS, DATASET, DATASET_NAMESPACE, DATASETS, MANAGED_BY
from cachefs.k8s.operator.actions import Action, Document, includes
from cachefs.k8s.operator.carrying import Carrier
from cachefs.k8s.operator.datasets import datasets
from cachefs.k8s.operator.datasets.ledger import Ledger
from cachefs.k8s.operator.datasets.volumes import labels_of, volume_name
from cachefs.k8s.operator.standing import found_condition
from cachefs.ports import Runtime
from cachefs.transport.api import Api

AGAIN_SECONDS = 15.0
"""How often a dataset is looked at: the share that is cached is shown so often, unless there are many."""
LOOKS_PER_SECOND = 10.0
"""Of thousands of datasets, no more are looked at when nothing happens: each look is a dozen calls."""
SOON_SECONDS = 3.0
"""Likewise, while it is being warmed."""
LEAVING_SECONDS = 2.0
"""Likewise, while pods still use its claim."""
_LOOKS_MAX = 8
"""More steps than a dataset ever takes; what is not done by then is done at the next look."""
_WARM_UPS = 1000
_POOLS_KNOWN_SECONDS = 1.0
"""Of many datasets, not each asks which pools there are."""


class DatasetKeeper:
    """Makes datasets so as their objects say."""

    name = "datasets"
    watched = (DATASETS,)

    def __init__(
        self,
        runtime: Runtime,
        cluster: Cluster,
        api: Api,
        ledger: Ledger,
        carrier: Carrier,
        *,
        has_volumes: bool,
    ) -> None:
        """Look at nothing yet.

        Args:
            runtime: For its clock.
            cluster: The API server.
            api: The coordinator.
            ledger: Whose datasets are.
            carrier: Does what is missing.
            has_volumes: Whether the CSI driver is installed. Without it no volume is made, or looked for:
                the operator has no right to, then.
        """
        self._has_volumes = has_volumes
        self._again_seconds = AGAIN_SECONDS
        self._pools_known: tuple[float, frozenset[str]] = (float("-inf"), frozenset())
        self._runtime = runtime
        self._cluster = cluster
        self._api = api
        self._ledger = ledger
        self._carrier = carrier

    def keep(self, namespace: str, name: str) -> float | None:
        """Look at a dataset, and do what is missing."""
        document = self._cluster.get(DATASETS, name, namespace)
        done: tuple[Action, ...] = ()
        for _ in range(_LOOKS_MAX):
            if document is None:
                return self._clear(namespace, name)
            if document["metadata"].get("deletionTimestamp"):
                return LEAVING_SECONDS
            try:
                spec = self._parse(document)
                actions = datasets.reconcile(document, spec, self._look(document, spec))
                if actions and actions == done:
                    # A server that does not keep what it is told is told again later, not all the time.
                    return self._again_seconds
                self._carrier.carry_out(actions)
                done = actions
            except CacheFSError as error:
                self._show_failure(document, error)
                raise
            if not actions:
                return SOON_SECONDS if _is_moving(document) else self._again_seconds
            document = self._cluster.get(DATASETS, name, namespace)
        return SOON_SECONDS

    def sweep(self) -> tuple[tuple[str, str], ...]:
        """Return every dataset that is an object, in the ledger, or has a volume."""
        found = set(self._ledger.read())
        for document in self._cluster.find(DATASETS):
            head = document["metadata"]
            found.add((head["namespace"], head["name"]))
        ours = {MANAGED_BY: "cachefs"}
        for volume in self._cluster.find(VOLUMES, labels=ours) if self._has_volumes else ():
            labels = volume["metadata"].get("labels") or {}
            if DATASET in labels and DATASET_NAMESPACE in labels:
                found.add((labels[DATASET_NAMESPACE], labels[DATASET]))
        self._again_seconds = max(AGAIN_SECONDS, len(found) / LOOKS_PER_SECOND)
        return tuple(sorted(found))

    def _look(self, document: Document, spec: DatasetSpec) -> datasets.Seen:
        namespace, name = spec.name.namespace, spec.name.name
        declared = self._ask(f"/v1/datasets/{quote(namespace)}/{quote(name)}")
        versions: tuple[Document, ...] = ()
        residency = warm_up = None
        if declared is not None:
            found = self._ask(f"/v1/datasets/{quote(namespace)}/{quote(name)}/versions")
            versions = tuple((found or {}).get("versions", ()))
            current = declared["current"]
            if current is not None:
                residency = self._ask(
                    f"/v1/residency/{quote(namespace)}/{quote(name)}?version={current}"
                )
            if spec.warm is not None:
                warm_up = self._warm_up(datasets.warm_key(document))
        return datasets.Seen(
            at=self._runtime.wall(),
            ledger=self._ledger.read().get((namespace, name)),
            declared=declared,
            versions=versions,
            residency=residency,
            warm_up=warm_up,
            pools=self._pools(),
            claim=self._claim(namespace, name),
            volume=self._volume(namespace, name),
        )

    def _pools(self) -> frozenset[str]:
        """Return which pools there are: those with workers, or who want some, and those that are objects."""
        now = self._runtime.monotonic()
        known_at, known = self._pools_known
        if now - known_at >= _POOLS_KNOWN_SECONDS:
            # The coordinator lists a pool, too, that only a dataset names.
            known = frozenset(
                one["name"]
                for one in self._api.get("/v1/pools")["pools"]
                if one["live"] or one["wanted"] or one["draining"]
            ).union(
                one["metadata"]["name"]
                for one in self._cluster.find(CACHE_POOLS)
                if (one.get("status") or {}).get("phase") != "Failed"
            )
            self._pools_known = now, known
        return known

    def _parse(self, document: Document) -> DatasetSpec:
        spec = parse(document)
        if self._has_volumes:
            return spec
        return replace(spec, volume=replace(spec.volume, enabled=False))

    def _claim(self, namespace: str, name: str) -> Document | None:
        return self._cluster.get(VOLUME_CLAIMS, name, namespace) if self._has_volumes else None

    def _volume(self, namespace: str, name: str) -> Document | None:
        full = volume_name(namespace, name)
        return self._cluster.get(VOLUMES, full) if self._has_volumes else None

    def _warm_up(self, key: str) -> Document | None:
        jobs = self._api.get(f"/v1/warm?limit={_WARM_UPS}")["jobs"]
        return next((job for job in jobs if job["key"] == key), None)

    def _ask(self, path: str) -> Any:  # Any: the coordinator's JSON
        try:
            return self._api.get(path)
        except NotKnownError:
            return None

    def _clear(self, namespace: str, name: str) -> float | None:
        """Remove what is left of a dataset whose object is gone."""
        ours = labels_of(namespace, name)
        claim, volume = self._claim(namespace, name), self._volume(namespace, name)
        seen = datasets.Seen(
            at=self._runtime.wall(),
            ledger=self._ledger.read().get((namespace, name)),
            claim=claim if _has(claim, ours) else None,
            volume=volume if _has(volume, ours) else None,
        )
        actions = datasets.gone(namespace, name, seen)
        self._carrier.carry_out(actions)
        return LEAVING_SECONDS if actions or seen.claim is not None else None

    def _show_failure(self, document: Document, error: CacheFSError) -> None:
        try:
            head = document["metadata"]
            # Its status may be another by now: that its origin is being listed, perhaps.
            now = self._cluster.get(DATASETS, head["name"], head["namespace"]) or document
            self._carrier.carry_out(datasets.failed(now, error, at=self._runtime.wall()))
        except CacheFSError:
            return  # the failure itself is what is logged


def _is_moving(document: Document) -> bool:
    """Say whether something is about to change that no watch tells."""
    warming = (document.get("status") or {}).get("phase") == "Warming"
    reason = found_condition(document, "Ready").get("reason")
    return warming or reason == datasets.POOL_NOT_KNOWN


def _has(document: Document | None, labels: Document) -> bool:
    return document is not None and includes(document["metadata"].get("labels") or {}, labels)
