"""Scheduling gates: pods that wait for their data, and are let go.

The webhook gives a pod that says ``cachefs.io/hold`` the gate ``cachefs.io/data-ready``; a pod may also have it in
its own template. The coordinator says whether the pod may go, and with which affinity: it was best to know only
when it is about to be placed. A pod that is held is asked about every few seconds; it goes when its data is
close, when nothing is known, when its patience is over, and when nobody answers.
"""

import logging
from datetime import datetime

from cachefs.errors import CacheFSError, ConfigError, NotKnownError
from cachefs.hints.consumers.patching import ungate_patch
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.kinds import PODS
from cachefs.k8s.names import HINTED, Kind
from cachefs.k8s.operator.actions import Document
from cachefs.ports import Runtime
from cachefs.transport.api import Api

ASK_SECONDS = 2.0
"""How often a pod is asked about that waits."""
TIMEOUT_SECONDS = 5.0
_LOG = logging.getLogger("cachefs.operator")


class GateKeeper:
    """Lets gated pods go. Only pods with the label by which they opted in to hints are looked at."""

    name = "gates"
    watched: tuple[Kind, ...] = ()
    label = HINTED
    """Of the pods to be followed: :mod:`.following`."""

    def __init__(self, runtime: Runtime, cluster: Cluster, api: Api) -> None:
        """Look at nothing yet."""
        self._runtime = runtime
        self._cluster = cluster
        self._api = api

    def keep(self, namespace: str, name: str) -> float | None:
        """Look at a pod, and let it go if it may."""
        pod = self._cluster.get(PODS, name, namespace)
        if pod is None or not is_held(pod):
            return None
        operations = self._released(pod)
        if not operations:
            return ASK_SECONDS
        try:
            self._cluster.edit(PODS, name, namespace, operations)
        except NotKnownError:
            return None
        except ConfigError as error:
            # Of a gated pod, not all may be changed: its own terms, for instance, can only become narrower.
            _LOG.info("a pod goes as it is", extra={"pod": name, "reason": str(error)})
            self._open(namespace, name)
        return None

    def sweep(self) -> tuple[tuple[str, str], ...]:
        """Return the pods that are held."""
        found = self._cluster.find(PODS, labels={HINTED: "true"})
        return tuple(
            (one["metadata"]["namespace"], one["metadata"]["name"]) for one in found if is_held(one)
        )

    def _released(self, pod: Document) -> list[Document]:
        """Return what lets a pod go; nothing while it should wait."""
        body = {"pod": pod, "gated_s": max(0.0, self._runtime.wall() - _created_at(pod))}
        try:
            answer = self._api.post("/k8s/release", body, timeout_seconds=TIMEOUT_SECONDS)
            patch: list[Document] = answer["patch"]
        except (CacheFSError, KeyError) as error:
            _LOG.warning("a pod is not held for want of a hint", extra={"failure": str(error)})
            return ungate_patch(pod)
        return patch

    def _open(self, namespace: str, name: str) -> None:
        pod = self._cluster.get(PODS, name, namespace)
        if pod is not None and is_held(pod):
            self._cluster.edit(PODS, name, namespace, ungate_patch(pod))


def is_held(pod: Document) -> bool:
    """Say whether our gate holds a pod that is to be."""
    return bool(ungate_patch(pod)) and not pod["metadata"].get("deletionTimestamp")


def _created_at(pod: Document) -> float:
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
