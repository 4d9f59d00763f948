"""Looking at pools: what the API server and the coordinator have, for the pure part to compare."""

from typing import Any
from urllib.parse import quote

from cachefs.errors import CacheFSError
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.crds.pools import CachePoolSpec, parse
from cachefs.k8s.installation import Installation
from cachefs.k8s.kinds import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DAEMON_SETS,
    DISRUPTION_BUDGETS,
    SERVICES,
    STATEFUL_SETS,
)
from cachefs.k8s.manifests.workers import pool_name, set_name
from cachefs.k8s.names import CACHE_POOLS, POOL
from cachefs.k8s.operator.actions import Action, Document
from cachefs.k8s.operator.carrying import Carrier
from cachefs.k8s.operator.pools import pools
from cachefs.ports import Runtime
from cachefs.transport.api import Api

AGAIN_SECONDS = 10.0
"""How often a pool is looked at: what flows and policies wish comes into effect within it."""
SOON_SECONDS = 2.0
"""Likewise, while workers come or go."""
_LOOKS_MAX = 6
_MADE = (
    CONFIG_MAPS,
    SERVICES,
    STATEFUL_SETS,
    DAEMON_SETS,
    DISRUPTION_BUDGETS,
    AUTOSCALERS,
)


class PoolKeeper:
    """Makes pools so as their objects say."""

    name = "pools"
    # The sets are looked at often enough while they move; to watch them wants a right everywhere.
    watched = (CACHE_POOLS,)

    def __init__(
        self,
        runtime: Runtime,
        cluster: Cluster,
        api: Api,
        carrier: Carrier,
        installation: Installation,
    ) -> None:
        """Look at nothing yet."""
        self._runtime = runtime
        self._cluster = cluster
        self._api = api
        self._carrier = carrier
        self._installation = installation

    def keep(self, namespace: str, name: str) -> float | None:
        """Look at a pool, and do what is missing."""
        document = self._cluster.get(CACHE_POOLS, name, namespace)
        done: tuple[Action, ...] = ()
        for _ in range(_LOOKS_MAX):
            if document is None:
                self._clear(namespace, name)
                return None
            if document["metadata"].get("deletionTimestamp"):
                return SOON_SECONDS
            try:
                spec = parse(document)
                seen = self._look(spec)
                actions = pools.reconcile(document, spec, self._installation, seen)
                if actions and actions == done:
                    # A server that does not keep what it is told is told again later, not all the time.
                    return AGAIN_SECONDS
                self._carrier.carry_out(actions)
                done = actions
            except CacheFSError as error:
                self._show_failure(document, error)
                raise
            if not actions:
                is_moving = document.get("status", {}).get("phase") == "Scaling"
                return SOON_SECONDS if is_moving else AGAIN_SECONDS
            document = self._cluster.get(CACHE_POOLS, name, namespace)
        return SOON_SECONDS

    def sweep(self) -> tuple[tuple[str, str], ...]:
        """Return every pool that is an object; what is made for one goes with it."""
        heads = [document["metadata"] for document in self._cluster.find(CACHE_POOLS)]
        return tuple(sorted((head["namespace"], head["name"]) for head in heads))

    def _look(self, spec: CachePoolSpec) -> pools.Seen:
        path = f"/v1/pools/{quote(spec.name, safe='')}"
        members = self._api.get("/v1/members")["members"]
        served = spec.namespace in self._namespaces()
        return pools.Seen(
            at=self._runtime.wall(),
            pool=self._api.get(path),
            members=[one for one in members if one["pool"] == spec.name],
            policy=self._api.get("/v1/policies").get("pools", {}).get(spec.name),
            objects=self._made(spec) if served else {},
            is_second=served and self._is_second(spec),
        )

    def _made(self, spec: CachePoolSpec) -> dict[tuple[str, str], Document]:
        found = {}
        for kind in _MADE:
            for one in self._cluster.find(kind, spec.namespace, labels={POOL: spec.name}):
                found[kind.kind, one["metadata"]["name"]] = one
        names = [pool_name(spec.name), *(set_name(spec.name, zone) for zone in spec.zones)]
        for name in names:
            for kind in (STATEFUL_SETS, SERVICES):
                # Two pools may come to the same name, if one is called as a zone of the other.
                if (kind.kind, name) not in found:
                    theirs = self._cluster.get(kind, name, spec.namespace)
                    if theirs is not None:
                        found[kind.kind, name] = theirs
        return found

    def _is_second(self, spec: CachePoolSpec) -> bool:
        for namespace in self._namespaces() - {spec.namespace}:
            other = self._cluster.get(CACHE_POOLS, spec.name, namespace)
            own = self._cluster.get(CACHE_POOLS, spec.name, spec.namespace)
            if other is not None and own is not None:
                return _age(other) < _age(own)
        return False

    def _namespaces(self) -> set[str]:
        return {self._installation.namespace, self._installation.node_namespace}

    def _clear(self, namespace: str, name: str) -> None:
        """Say that a pool whose object is gone shall have no workers, unless another is called so."""
        if namespace not in self._namespaces():
            return
        if any(self._cluster.get(CACHE_POOLS, name, one) for one in self._namespaces()):
            return
        pool: Any = self._api.get(f"/v1/pools/{quote(name, safe='')}")  # Any: JSON
        self._carrier.carry_out(pools.gone(name, pool))

    def _show_failure(self, document: Document, error: CacheFSError) -> None:
        try:
            self._carrier.carry_out(pools.failed(document, error, at=self._runtime.wall()))
        except CacheFSError:
            return  # the failure itself is what is logged


def _age(document: Document) -> tuple[str, str]:
    head = document["metadata"]
    return (str(head.get("creationTimestamp", "")), str(head["namespace"]))
