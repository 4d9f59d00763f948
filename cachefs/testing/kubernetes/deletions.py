"""Deleting: at once, after the finalizers, or after the pod's grace period.

A delete of something with finalizers only marks it; it goes when the last finalizer is removed. A pod that is
bound to a node goes when its kubelet deletes it with no grace left. A namespace goes when it is empty.
"""

from dataclasses import dataclass
from typing import Final

from cachefs.testing.kubernetes.conversion import shown
from cachefs.testing.kubernetes.documents import Document, Json, timestamp
from cachefs.testing.kubernetes.failures import bad_request, conflict, not_found
from cachefs.testing.kubernetes.kinds import Resource
from cachefs.testing.kubernetes.requests import Reply, Request
from cachefs.testing.kubernetes.store import StaleError, Store
from cachefs.testing.kubernetes.strategies import Strategy

_RETURNED: Final = frozenset(
    [
        "pods",
        "persistentvolumeclaims",
        "persistentvolumes",
        "serviceaccounts",
        "resourcequotas",
        "podtemplates",
    ]
)
"""Whose delete answers with the object; others' with a ``Status`` when it is gone."""
FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"


@dataclass(frozen=True, slots=True)
class Deletions:
    """Marks and removes objects."""

    store: Store
    strategy: Strategy

    def is_over(self, document: Document) -> bool:
        """Whether nothing keeps an object that is being deleted."""
        metadata = document["metadata"]
        return (
            bool(metadata.get("deletionTimestamp"))
            and not metadata.get("finalizers")
            and not metadata.get("deletionGracePeriodSeconds")
            and not (document.get("kind") == "Namespace" and document["spec"].get("finalizers"))
        )

    def delete(self, request: Request) -> Reply:
        """Delete an object, or begin to.

        Raises:
            Refusal: it is not there, or not as the preconditions say.
        """
        options = request.body if isinstance(request.body, dict) else {}
        while True:
            stored = self.store.get(request.key)
            if stored is None:
                resource = request.resource
                raise not_found(resource.group, resource.plural, request.name)
            self._check(request, stored, options.get("preconditions") or {})
            try:
                left = self._delete_once(request, stored, options)
            except StaleError:
                continue
            return self._answer(request, stored, left)

    def _answer(self, request: Request, stored: Document, left: Document) -> Reply:
        resource = request.resource
        gone = self.store.get(request.key) is None
        if not gone or resource.plural in _RETURNED:
            return Reply(200, shown(left, resource))
        details = {"name": request.name, "kind": resource.plural, "uid": stored["metadata"]["uid"]}
        details.update({"group": resource.group} if resource.group else {})
        head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return Reply(200, {**head, "details": details})

    def _check(self, request: Request, stored: Document, wanted: Document) -> None:
        resource = request.resource
        for name, field in (("uid", "uid"), ("resourceVersion", "resourceVersion")):
            if wanted.get(name) and wanted[name] != stored["metadata"][field]:
                word = "UID" if name == "uid" else "ResourceVersion"
                why = (
                    f"Precondition failed: {word} in precondition: {wanted[name]}, "
                    f"{word} in object meta: {stored['metadata'][field]}"
                )
                raise conflict(resource.group, resource.plural, request.name, why)

    def _delete_once(self, request: Request, stored: Document, options: Document) -> Document:
        grace = self._grace(request.resource, stored, options, request.query)
        finalizers = _finalizers(stored, options, request.query)
        metadata = stored["metadata"]
        spaced = request.resource.plural == "namespaces" and stored["spec"].get("finalizers")
        if request.dry_run:
            return stored
        if not finalizers and not grace and not spaced:
            return self.store.write(request.key, stored, None)
        marked = dict(metadata)
        if not metadata.get("deletionTimestamp"):
            marked["deletionTimestamp"] = timestamp(self.strategy.runtime.wall() + grace)
            marked["deletionGracePeriodSeconds"] = grace
            if "generation" in metadata:
                marked["generation"] = metadata["generation"] + 1
        elif grace < (metadata.get("deletionGracePeriodSeconds") or 0):
            marked["deletionTimestamp"] = timestamp(self.strategy.runtime.wall() + grace)
            marked["deletionGracePeriodSeconds"] = grace
        marked["finalizers"] = finalizers
        if not finalizers:
            del marked["finalizers"]
        if spaced:
            marked.pop("deletionGracePeriodSeconds", None)
            stored_status = {**(stored.get("status") or {}), "phase": "Terminating"}
            return self._mark(
                request, stored, {**stored, "metadata": marked, "status": stored_status}
            )
        return self._mark(request, stored, {**stored, "metadata": marked})

    def _mark(self, request: Request, stored: Document, marked: Document) -> Document:
        if marked == stored:
            return stored
        return self.store.write(request.key, stored, marked)

    def _grace(self, resource: Resource, stored: Document, options: Document, query: Json) -> int:
        """Return for how many seconds a kubelet may still run it."""
        if resource.stored != ("", "pods"):
            return 0
        spec, status = stored["spec"], stored.get("status") or {}
        if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
            return 0
        asked = options.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        if asked is None:
            left = stored["metadata"].get("deletionGracePeriodSeconds")
            asked = spec.get("terminationGracePeriodSeconds", 30) if left is None else left
        if int(asked) < 0:
            raise bad_request("gracePeriodSeconds must not be negative")
        return int(asked)


def _finalizers(stored: Document, options: Document, query: Json) -> list[str]:
    """Return the finalizers of an object that is deleted with a propagation policy."""
    policy = options.get("propagationPolicy") or query.get("propagationPolicy", "")
    if options.get("orphanDependents") is True:
        policy = "Orphan"
    if policy not in ("", "Background", "Foreground", "Orphan"):
        raise bad_request(f"propagationPolicy: Unsupported value: {policy!r}")
    found = list(stored["metadata"].get("finalizers") or ())
    if policy:
        found = [name for name in found if name not in (FOREGROUND, ORPHAN)]
        found += [FOREGROUND] if policy == "Foreground" else []
        found += [ORPHAN] if policy == "Orphan" else []
    return found
