"""What the server itself decides of an object when it is created or changed.

Identity, generation and time stamps are the server's; a request through the main resource leaves the status
alone, one through ``status`` everything else; nothing that is being deleted gets a new finalizer.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cachefs.ports import Runtime
from cachefs.testing.kubernetes.defaults import default
from cachefs.testing.kubernetes.documents import Document, meta, timestamp
from cachefs.testing.kubernetes.failures import (
    CHANGED,
    Cause,
    bad_request,
    conflict,
    invalid,
)
from cachefs.testing.kubernetes.kinds import Resource
from cachefs.testing.kubernetes.requests import Request
from cachefs.testing.kubernetes.schemas import default_by_schema

_SYSTEM: Final = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "selfLink",
    "generateName",
)
_WIPED: Final = tuple(name for name in _SYSTEM if name != "generateName")
"""What a new object cannot bring along."""
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""What generated names end in: no vowels, so that no words come about."""
_STATUS_KEEPS_METADATA: Final = frozenset({"pods", "nodes", "persistentvolumeclaims"})
"""Whose labels and annotations may be changed through ``status``, as kubelets do."""
_CONDITIONAL: Final = frozenset(
    {
        "leases",
        "poddisruptionbudgets",
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "csidrivers",
        "customresourcedefinitions",
    }
)
"""Of Kubernetes' own, those that cannot be replaced without saying which version was read."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """Prepares objects for the store."""

    runtime: Runtime

    def now(self) -> str:
        """Return the time, as objects say it."""
        return timestamp(self.runtime.wall())

    def check_head(self, request: Request, document: Document) -> None:
        """Hold an object to the path it was sent to.

        Raises:
            Refusal: it is of another kind, namespace or name.
        """
        resource = request.resource
        for name, wanted in (("apiVersion", resource.api_version), ("kind", resource.kind)):
            said = document.setdefault(name, wanted)
            if said != wanted:
                raise bad_request(
                    f"{name} in the object ({said}) does not match the expected {name} ({wanted})"
                )
        metadata = meta(document)
        namespace = metadata.get("namespace") or request.namespace
        if namespace != request.namespace:
            raise bad_request(
                f"the namespace of the provided object does not match the namespace sent on the "
                f"request: {namespace!r} is not {request.namespace!r}"
            )
        if resource.namespaced:
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)
        if request.name and request.verb != "create":
            said = metadata.setdefault("name", request.name)
            if said != request.name:
                raise bad_request(
                    f"the name of the object ({said}) does not match the name on the URL ({request.name})"
                )

    def received(self, request: Request, document: Document) -> Document:
        """Return a new object as webhooks see it: with defaults, without what only the server says.

        Raises:
            Refusal: it says that it is there already.
        """
        metadata = dict(meta(document))
        if metadata.get("resourceVersion") not in (None, "", "0"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        for name in _WIPED:
            metadata.pop(name, None)
        return default({**document, "metadata": metadata}, request.resource)

    def created(self, request: Request, document: Document) -> Document:
        """Return a new object as it is stored: with its name, identity and time."""
        resource = request.resource
        metadata = dict(meta(document))
        if not metadata.get("name") and metadata.get("generateName"):
            ending = "".join(self.runtime.random.choice(_ALPHABET) for _ in range(5))
            metadata["name"] = metadata["generateName"][:58] + ending
        metadata["uid"] = str(UUID(int=self.runtime.random.getrandbits(128), version=4))
        metadata["creationTimestamp"] = self.now()
        if resource.counts_generations:
            metadata["generation"] = 1
        document = {**document, "metadata": metadata}
        if resource.has_status:
            document.pop("status", None)
        return self.completed(request, document)

    def updated(self, request: Request, old: Document, new: Document) -> Document:
        """Return a changed object as it is stored.

        Raises:
            Refusal: whoever asks read another version, or another object.
        """
        resource = request.resource
        self._check_same(request, old, new)
        fixed = {name: old["metadata"][name] for name in _SYSTEM if name in old["metadata"]}
        own = {name: value for name, value in meta(new).items() if name not in _SYSTEM}
        new = {**new, "metadata": {**own, **fixed}}
        if request.subresource == "status":
            new = self._status_only(resource, old, new)
        elif resource.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        new = default(new, resource)
        _check_finalizers(resource, old, new)
        if resource.counts_generations and _substance(old, resource) != _substance(new, resource):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        return new

    def completed(self, request: Request, document: Document) -> Document:
        """Return an object with the defaults of what webhooks have added."""
        resource = request.resource
        if resource.custom:
            filled: Document = default_by_schema(document, resource.shape.schema)
            return filled
        return default(document, resource)

    def _check_same(self, request: Request, old: Document, new: Document) -> None:
        resource, metadata = request.resource, meta(new)
        version = metadata.get("resourceVersion", "")
        uid = metadata.get("uid", "")
        if uid and uid != old["metadata"]["uid"]:
            why = (
                f"Precondition failed: UID in precondition: {uid}, "
                f"UID in object meta: {old['metadata']['uid']}"
            )
            raise conflict(resource.group, resource.plural, request.name, why)
        if version in ("", "0") and request.verb == "update" and must_say_version(resource):
            cause = Cause(
                "FieldValueInvalid",
                "Invalid value: 0x0: must be specified for an update",
                "metadata.resourceVersion",
            )
            raise invalid(resource.group, resource.kind, request.name, [cause])
        if version not in ("", "0", old["metadata"]["resourceVersion"]):
            raise conflict(resource.group, resource.plural, request.name, CHANGED)

    def _status_only(self, resource: Resource, old: Document, new: Document) -> Document:
        kept = {name: value for name, value in old.items() if name != "status"}
        metadata = dict(old["metadata"])
        if resource.plural in _STATUS_KEEPS_METADATA:
            for name in ("labels", "annotations"):
                if name in new["metadata"]:
                    metadata[name] = new["metadata"][name]
        status = {"status": new["status"]} if new.get("status") is not None else {}
        return {**kept, "metadata": metadata, **status}


def must_say_version(resource: Resource) -> bool:
    """Whether an update of the resource needs the version that was read."""
    return resource.custom or resource.plural in _CONDITIONAL


def _substance(document: Document, resource: Resource) -> Document:
    dropped = {"metadata", "apiVersion", "kind", *(("status",) if resource.has_status else ())}
    return {name: value for name, value in document.items() if name not in dropped}


def _check_finalizers(resource: Resource, old: Document, new: Document) -> None:
    if not old["metadata"].get("deletionTimestamp"):
        return
    before = set(old["metadata"].get("finalizers") or ())
    more = [name for name in new["metadata"].get("finalizers") or () if name not in before]
    if more:
        cause = Cause(
            "FieldValueForbidden",
            "Forbidden: no new finalizers can be added if the object is being deleted, found new "
            f"finalizers {more!r}",
            "metadata.finalizers",
        )
        raise invalid(resource.group, resource.kind, new["metadata"]["name"], [cause])
