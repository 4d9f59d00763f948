"""Removing: an installation is taken away, and what it holds stays unless that is asked for.

The order is that of harm: first what is asked about every new pod, then who would make things anew, then the
workers, and the driver last. Pods that have volumes of ours would lose them, so nothing is removed while there
are any, unless somebody insists. What holds data stays: declared objects and their definitions, the volumes of
workers and of the coordinator, the token. So an installation that is made again goes on from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachefs.errors import ConflictError, NotKnownError
from cachefs.k8s import crds, kinds
from cachefs.k8s.calls import Document
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.installing.readiness import OURS, wait_for
from cachefs.k8s.installing.remembering import NAME as REMEMBERED
from cachefs.k8s.names import DRIVER, MANAGED_BY, Kind
from cachefs.ports import Runtime

_FIRST = (kinds.MUTATING_WEBHOOKS,)
_SETS = (kinds.STATEFUL_SETS, kinds.DAEMON_SETS, kinds.DEPLOYMENTS)
_REST = (
    kinds.SERVICES,
    kinds.CONFIG_MAPS,
    kinds.DISRUPTION_BUDGETS,
    kinds.AUTOSCALERS,
    kinds.NETWORK_POLICIES,
    kinds.RESOURCE_QUOTAS,
    kinds.ROLE_BINDINGS,
    kinds.ROLES,
    kinds.SERVICE_ACCOUNTS,
    kinds.POD_MONITORS,
    kinds.SERVICE_MONITORS,
    kinds.PROMETHEUS_RULES,
)
_GLOBAL = (kinds.CSI_DRIVERS, kinds.CLUSTER_ROLE_BINDINGS, kinds.CLUSTER_ROLES)
_MANAGED = {MANAGED_BY: "cachefs"}
_SHOWN = 5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remover:
    """Removes what is installed in a namespace, and in that of its nodes."""

    cluster: Cluster
    runtime: Runtime
    say: Say
    namespace: str
    node_namespace: str

    def remove(self, *, force: bool, with_data: bool, wait_seconds: float) -> None:
        """Remove everything; what is gone already is no error.

        Args:
            force: Even if pods have volumes of ours, which will not be mounted again.
            with_data: Also all declared datasets, pools and flows, all volumes, the token and the namespaces.
            wait_seconds: For all pods to be gone, and again for the namespaces.

        Raises:
            ConflictError: Pods have volumes of ours.
            DeniedError: Whoever asks may not.
            DeadlineError: Something is not gone in time; it goes on going.
            ApiServerUnavailableError: Nobody answers.
        """
        whole = self._is_whole()
        if whole and not force and (users := self._users()):
            raise ConflictError(
                f"{len(users)} pods have volumes of datasets",
                subject=", ".join(users[:_SHOWN]),
                hint="delete them first, or use --force: they will fail when they are next started",
            )
        found = [self._remove_global(_FIRST)] if whole else []
        for name in ("cachefs-operator", "cachefs-webhook"):
            is_there = self._remove_one(kinds.DEPLOYMENTS, name, self.namespace)
            found.append(is_there)
        self._wait_for_pods("cachefs-operator", wait_seconds)
        namespaces = [self.namespace, *([self.node_namespace] if whole else [])]
        for namespace in namespaces:
            self._keep_volumes(namespace)
            found += [self._remove_all(kind, namespace) for kind in (*_SETS, *_REST)]
        if whole:
            found.append(self._remove_global(_GLOBAL))
        if with_data:
            found.append(self._remove_data(namespaces, whole=whole, wait_seconds=wait_seconds))
        else:
            self._wait_for_pods("", wait_seconds)
        if not any(found):
            self.say(f"nothing installed in {self.namespace}")
        elif not with_data:
            self.say(
                "kept: declared objects, volumes, the token, the namespaces (see --delete-data)"
            )

    def _is_whole(self) -> bool:
        """Say whether what is here is more than a plain installation: only then is it the cluster's."""
        binding = self.cluster.get(kinds.CLUSTER_ROLE_BINDINGS, "cachefs-operator")
        if binding is not None:
            return bool(binding["subjects"][0].get("namespace") == self.namespace)
        # It may have been half removed before.
        return self.cluster.get(kinds.NAMESPACES, self.node_namespace) is not None

    def _users(self) -> list[str]:
        """Return the pods, not our own, that have a volume of ours."""
        claims = {
            (reference["namespace"], reference["name"])
            for volume in self.cluster.find(kinds.VOLUMES)
            if (volume["spec"].get("csi") or {}).get("driver") == DRIVER
            and (reference := volume["spec"].get("claimRef"))
        }
        found = []
        for pod in self.cluster.find(kinds.PODS):
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            is_over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
            if namespace in (self.namespace, self.node_namespace) or is_over:
                continue
            for volume in pod["spec"].get("volumes") or ():
                inline = (volume.get("csi") or {}).get("driver") == DRIVER
                claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
                if inline or (namespace, claim) in claims:
                    found.append(f"{namespace}/{name}")
                    break
        return found

    def _keep_volumes(self, namespace: str) -> None:
        """Have the workers' volumes outlive their sets, which else take them along."""
        for workers in self.cluster.find(kinds.STATEFUL_SETS, namespace, labels=OURS):
            policy = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}}
            name = workers["metadata"]["name"]
            self.cluster.patch(kinds.STATEFUL_SETS, name, namespace, {"spec": policy})

    def _remove_all(self, kind: Kind, namespace: str) -> bool:
        names = [document["metadata"]["name"] for document in self._found(kind, namespace)]
        # It tells what the volumes were made with, which stay.
        names = [name for name in names if kind is not kinds.CONFIG_MAPS or name != REMEMBERED]
        return sum(self._remove_one(kind, name, namespace) for name in names) > 0

    def _remove_global(self, of_kinds: Sequence[Kind]) -> bool:
        return sum(self._remove_all(kind, "") for kind in of_kinds) > 0

    def _remove_one(self, kind: Kind, name: str, namespace: str) -> bool:
        """Remove an object; return whether it was there."""
        there = self.cluster.get(kind, name, namespace)
        if there is None:
            return False
        self.cluster.delete(kind, name, namespace, uid=there["metadata"]["uid"])
        self.say(f"removed {kind.kind} {namespace}{'/' if namespace else ''}{name}")
        return True

    def _found(self, kind: Kind, namespace: str) -> list[Document]:
        try:
            return self.cluster.find(kind, namespace, labels={**OURS, **_MANAGED})
        except NotKnownError:
            return []  # a kind of somebody else's, that is not installed here

    def _wait_for_pods(self, component: str, seconds: float) -> None:
        labels = {**OURS, **({"app.kubernetes.io/component": component} if component else {})}

        def there() -> list[str]:
            return [
                f"{namespace}/{pod['metadata']['name']} is still there"
                for namespace in (self.namespace, self.node_namespace)
                for pod in self.cluster.find(kinds.PODS, namespace, labels=labels)
            ][:_SHOWN]

        if seconds:
            wait_for(self.runtime, self.runtime.monotonic() + seconds, "not gone", there)

    def _remove_data(self, namespaces: Sequence[str], *, whole: bool, wait_seconds: float) -> bool:
        """Remove what holds data; return whether there was any."""
        held = [(kinds.NAMESPACES, namespace) for namespace in namespaces]
        if whole:
            volumes = self.cluster.find(kinds.VOLUMES, labels=_MANAGED)
            held = [
                *((kinds.CUSTOM_RESOURCES, one["metadata"]["name"]) for one in crds.documents()),
                *((kinds.VOLUMES, one["metadata"]["name"]) for one in volumes),
                *held,
            ]
        found = [self._remove_one(kind, name, "") for kind, name in held]

        def there() -> list[str]:
            left = [name for name in namespaces if self.cluster.get(kinds.NAMESPACES, name)]
            return [f"namespace {name} is still there" for name in left]

        if wait_seconds:
            wait_for(self.runtime, self.runtime.monotonic() + wait_seconds, "not gone", there)
        return any(found)
