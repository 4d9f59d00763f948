"""Readiness: whether what makes pods has all of them, and if not, why."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachefs.errors import DeadlineError
from cachefs.k8s import kinds
from cachefs.k8s.calls import Document
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.names import CACHE_POOLS
from cachefs.ports import Runtime

_LOOK_SECONDS = 2.0
OURS = {"app.kubernetes.io/name": "cachefs"}
"""On everything that is installed."""
_WORKLOADS = (kinds.DEPLOYMENTS, kinds.STATEFUL_SETS, kinds.DAEMON_SETS)
_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
_REASONS_MAX = 3
"""Of a workload's pods: they mostly lack the same."""


@dataclass(frozen=True, slots=True)
class Unready:
    """A workload that has not all of its pods, or none because no node is for it."""

    what: str
    """For people."""
    advice: str
    """A command that says more."""
    is_meant: bool
    """Whether nothing is missing: nobody wants a pod of it."""


def wait_for(runtime: Runtime, until: float, what: str, look: Callable[[], Sequence[str]]) -> None:
    """Wait until nothing is missing any more.

    Args:
        runtime: Time.
        until: On its monotonic clock.
        what: That is waited for, for people.
        look: Returns what is missing.

    Raises:
        DeadlineError: Something still is.
    """
    while missing := look():
        left = until - runtime.monotonic()
        if left <= 0:
            raise DeadlineError(
                f"{what}: {'; '.join(missing)}",
                hint="what is installed goes on starting; `cachefs k8s doctor` looks again",
            )
        runtime.sleep(min(_LOOK_SECONDS, left))


def unready_definitions(cluster: Cluster, names: Sequence[str]) -> list[str]:
    """Return the custom resources that the server does not serve yet."""
    found = (cluster.get(kinds.CUSTOM_RESOURCES, name) for name in names)
    return [
        f"{name} is not served"
        for name, definition in zip(names, found, strict=True)
        if definition is None or condition(definition, "Established") != "True"
    ]


def unready_workloads(cluster: Cluster, namespaces: Sequence[str]) -> list[Unready]:
    """Return what has not all of its pods, and why."""
    return [
        found
        for namespace in namespaces
        for kind in _WORKLOADS
        for workload in cluster.find(kind, namespace, labels=OURS)
        if (found := _unready(cluster, workload))
    ]


def unready_objects(cluster: Cluster, namespaces: Sequence[str]) -> list[str]:
    """Return the pools that are not ready, as they say themselves."""
    lines = []
    for namespace in namespaces:
        for pool in cluster.find(CACHE_POOLS, namespace):
            state = condition(pool, "Ready")
            if state != "True":
                message = condition(pool, "Ready", "message") or "the operator has not seen it yet"
                lines.append(f"pool {pool['metadata']['name']}: {message}")
    return lines


def condition(document: Document, name: str, part: str = "status") -> str | None:
    """Return a condition's status, or another part of it; ``None`` if there is none of that name."""
    conditions = (document.get("status") or {}).get("conditions") or ()
    return next((str(one.get(part, "")) for one in conditions if one.get("type") == name), None)


def _unready(cluster: Cluster, workload: Document) -> Unready | None:
    status: Mapping[str, Any] = workload.get("status") or {}
    metadata = workload["metadata"]
    seen = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    if workload["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        updated, ready = status.get("updatedNumberScheduled", 0), status.get("numberReady", 0)
    else:
        wanted = workload["spec"].get("replicas", 1)
        updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    namespace, name = metadata["namespace"], metadata["name"]
    advice = f"kubectl -n {namespace} describe {workload['kind'].lower()} {name}"
    if workload["kind"] == "DaemonSet" and not wanted:
        what = "no node takes it (selector, taints?)" if seen else "not seen by the cluster yet"
        return Unready(f"{namespace}/{name}: {what}", advice, is_meant=seen)
    if seen and ready >= wanted and updated >= wanted:
        return None
    labels = workload["spec"]["selector"]["matchLabels"]
    pods = cluster.find(kinds.PODS, namespace, labels=labels)
    reasons = sorted({*_reasons(pods)})
    told = f": {', '.join(reasons[:_REASONS_MAX])}" if reasons else ""
    if pods:
        marks = ",".join(f"{key}={value}" for key, value in labels.items())
        advice = f"kubectl -n {namespace} describe pods -l {marks}"
    what = f"{namespace}/{name} has {ready} of {wanted} pods ready{told}"
    return Unready(what, advice, is_meant=False)


def _reasons(pods: Sequence[Document]) -> Iterator[str]:
    """Yield why pods are not ready, as far as they say."""
    for pod in pods:
        status = pod.get("status") or {}
        if condition(pod, "PodScheduled") == "False":
            yield condition(pod, "PodScheduled", "message") or "no node takes it"
        for container in (
            *status.get("initContainerStatuses", ()),
            *status.get("containerStatuses", ()),
        ):
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") and waiting["reason"] not in _STARTING:
                message = waiting.get("message", "")
                yield f"{waiting['reason']} ({message})" if message else str(waiting["reason"])
