"""Kueue: workloads wait for their data, by an admission check of ours.

An ``AdmissionCheck`` whose ``controllerName`` is :data:`~cachefs.hints.consumers.kueue.CONTROLLER` is ours: it is
marked *active*, without which Kueue admits nothing through it. Kueue then writes an entry for it into the status of
each workload that has got its quota, and waits until the entry says ``Ready``. What it shall say, the
coordinator knows; when nobody answers, it says ``Ready``. Whatever was ``Ready`` once stays so until
Kueue itself sets it back.

A cluster without Kueue has neither kind of object: then there is nothing to do.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cachefs.errors import CacheFSError, ConflictError, DeniedError, NotKnownError
from cachefs.hints.consumers.kueue import CONTROLLER, unanswered
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.kinds import ADMISSION_CHECKS, WORKLOADS
from cachefs.k8s.names import Kind
from cachefs.k8s.operator.actions import Document, Patch
from cachefs.k8s.operator.standing import found_condition, moment
from cachefs.ports import Runtime
from cachefs.transport.api import Api

VERSIONS = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")
"""Of Kueue's API, the newest first."""
ASK_SECONDS = 5.0
"""How often a workload is looked at that waits."""
AGAIN_SECONDS = 300.0
TIMEOUT_SECONDS = 5.0
_CHECKS_SECONDS = 15.0
"""For how long it is known which checks are ours."""
_LOG = logging.getLogger("cachefs.operator")


class CheckKeeper:
    """Answers for our admission checks."""

    name = "admission"

    def __init__(self, runtime: Runtime, cluster: Cluster, api: Api, version: str) -> None:
        """Look at nothing yet.

        Args:
            runtime: Time.
            cluster: Where workloads are.
            api: The coordinator's.
            version: Of Kueue's API: see :func:`served_version`.
        """
        self._runtime = runtime
        self._cluster = cluster
        self._api = api
        self._workloads = replace(WORKLOADS, api_version=version)
        self._checks = replace(ADMISSION_CHECKS, api_version=version)
        self.watched = (self._workloads,)
        self._ours: frozenset[str] = frozenset()
        self._looked_at = float("-inf")

    def keep(self, namespace: str, name: str) -> float | None:
        """Look at a workload, and say what its entries should say."""
        workload = self._cluster.get(self._workloads, name, namespace)
        if workload is None:
            return None
        asked = waiting(workload, self._known_checks())
        if not asked:
            return AGAIN_SECONDS
        told = {check: self._reviewed(workload, check) for check in asked}
        patch = changed(self._workloads, workload, told)
        if patch is not None:
            try:
                self._cluster.patch(
                    patch.kind, patch.name, patch.namespace, patch.patch, subresource="status"
                )
            except ConflictError:
                return 0.0  # somebody wrote at the same time: look again
            except NotKnownError:
                return None
        return (
            ASK_SECONDS if any(one["state"] != "Ready" for one in told.values()) else AGAIN_SECONDS
        )

    def sweep(self) -> tuple[tuple[str, str], ...]:
        """Mark our checks active, and return the workloads that wait for one of them."""
        try:
            ours = self._mark_checks()
            if not ours:
                return ()
            found = self._cluster.find(self._workloads)
        except NotKnownError:
            return ()  # Kueue is gone
        return tuple(
            (one["metadata"]["namespace"], one["metadata"]["name"])
            for one in found
            if waiting(one, ours)
        )

    def _known_checks(self) -> frozenset[str]:
        if self._runtime.monotonic() - self._looked_at >= _CHECKS_SECONDS:
            self._mark_checks()
        return self._ours

    def _mark_checks(self) -> frozenset[str]:
        """Mark our checks active; return their names."""
        found = [
            one
            for one in self._cluster.find(self._checks)
            if (one.get("spec") or {}).get("controllerName") == CONTROLLER
        ]
        for check in found:
            status = active(check, at=self._runtime.wall())
            if status is not None:
                name = check["metadata"]["name"]
                self._cluster.patch(self._checks, name, "", status, subresource="status")
        self._ours = frozenset(one["metadata"]["name"] for one in found)
        self._looked_at = self._runtime.monotonic()
        return self._ours

    def _reviewed(self, workload: Document, check: str) -> Document:
        body = {"workload": workload, "check": check}
        try:
            answer = self._api.post("/k8s/kueue", body, timeout_seconds=TIMEOUT_SECONDS)
            entry: Document = answer["entry"]
        except (CacheFSError, KeyError) as error:
            _LOG.warning("a workload goes for want of a hint", extra={"failure": str(error)})
            return unanswered(self._runtime.wall(), "nobody answers", check=check)
        return entry


def served_version(cluster: Cluster) -> str | None:
    """Return the version of Kueue's API that the cluster has; ``None`` without Kueue.

    Raises:
        CacheFSError: That cannot be known now.
    """
    for version in VERSIONS:
        try:
            cluster.find(replace(ADMISSION_CHECKS, api_version=version))
        except (NotKnownError, DeniedError):
            continue  # to whom may not, a server does not even say that there is no such kind
        return version
    return None


def active(check: Document, *, at: float) -> Document | None:
    """Return the patch of the status that marks a check active; ``None`` if it is."""
    generation = check["metadata"].get("generation", 0)
    before = found_condition(check, "Active")
    if before.get("status") == "True" and before.get("observedGeneration") == generation:
        return None
    others = [
        one
        for one in (check.get("status") or {}).get("conditions") or ()
        if one.get("type") != "Active"
    ]
    since = before["lastTransitionTime"] if before.get("status") == "True" else moment(at)
    condition = {
        "type": "Active",
        "status": "True",
        "reason": "Active",
        "message": "the operator answers for it",
        "lastTransitionTime": since,
        "observedGeneration": generation,
    }
    return {"status": {"conditions": [*others, condition]}}


def waiting(workload: Document, ours: frozenset[str]) -> Sequence[str]:
    """Return which of our checks a workload waits for: those that are ``Pending`` while it has its quota.

    After ``Retry`` Kueue takes the quota back, and says ``Pending`` again when there is some.
    """
    over = _holds(workload, "Finished") or workload["metadata"].get("deletionTimestamp")
    if over or not _holds(workload, "QuotaReserved"):
        return ()
    return [
        str(one["name"])
        for one in _entries(workload)
        if one.get("name") in ours and one.get("state") == "Pending"
    ]


def changed(kind: Kind, workload: Document, told: Mapping[str, Document]) -> Patch | None:
    """Return the patch that has a workload's entries say this; ``None`` if they do.

    Entries of other checks stay as they were read: if one has changed since, the patch is refused.
    """
    entries = [
        {**_kept(one), **told[one["name"]]} if one.get("name") in told else dict(one)
        for one in _entries(workload)
    ]
    if entries == list(_entries(workload)):
        return None
    head = workload["metadata"]
    return Patch(
        kind=kind,
        name=head["name"],
        namespace=head["namespace"],
        patch={
            "metadata": {"resourceVersion": head["resourceVersion"]},
            "status": {"admissionChecks": entries},
        },
        subresource="status",
    )


def _kept(entry: Mapping[str, Any]) -> Document:  # Any: JSON
    """Return what of an entry is Kueue's: how often it was tried again."""
    return {name: value for name, value in entry.items() if name == "retryCount"}


def _entries(workload: Document) -> Sequence[Document]:
    found: Sequence[Document] = (workload.get("status") or {}).get("admissionChecks") or ()
    return found


def _holds(workload: Document, kind: str) -> bool:
    return bool(found_condition(workload, kind).get("status") == "True")
