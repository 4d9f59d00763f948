"""Create, update, patch and apply: from what was sent to what is stored.

Every write goes the same way: the object is read against its shape, the strategy decides what is the
server's to decide, webhooks may change it, rules and webhooks may refuse it, the owners of its fields are
noted, and it is written if nobody has written meanwhile. A patch is then tried again on what is there now.
Webhooks run outside of any lock: they may call this server.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from cachefs.testing.kubernetes.applying import Owner, apply, note_update
from cachefs.testing.kubernetes.conversion import kept, shown
from cachefs.testing.kubernetes.deletions import Deletions
from cachefs.testing.kubernetes.documents import Document, meta
from cachefs.testing.kubernetes.failures import (
    CHANGED,
    Cause,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    unsupported_media_type,
)
from cachefs.testing.kubernetes.kindrules.security import guard
from cachefs.testing.kubernetes.merging import strategic_merge
from cachefs.testing.kubernetes.patches import json_patch, merge_patch
from cachefs.testing.kubernetes.requests import Reply, Request, is_true
from cachefs.testing.kubernetes.store import StaleError, Store
from cachefs.testing.kubernetes.strategies import Strategy
from cachefs.testing.kubernetes.validating import check, check_types, read

_TRIES: Final = 5
"""How often a patch is tried when others write between; the API server's number."""
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
_CREATED_BY_UPDATE: Final = frozenset(
    [
        "leases",
        "events",
        "roles",
        "rolebindings",
        "clusterroles",
        "clusterrolebindings",
        "endpoints",
    ]
)
"""What an update of nothing creates."""

Changer = Callable[[Document], Document]


class Admission(Protocol):
    """What may change or refuse an object on its way in."""

    def mutate(self, request: Request, old: Document | None, new: Document) -> Document:
        """Return the object as the webhooks want it."""
        ...

    def validate(self, request: Request, old: Document | None, new: Document | None) -> None:
        """Refuse, or say nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Writer:
    """Answers what changes objects."""

    store: Store
    strategy: Strategy
    admission: Admission
    deletions: Deletions

    def create(self, request: Request) -> Reply:
        """Store a new object.

        Raises:
            Refusal: it may not be, or is there.
        """
        return Reply(201, self._create(request, _object(request.body)))

    def _create(self, request: Request, sent: Document, *, applied: bool = False) -> Document:
        sent = copy.deepcopy(sent)
        check_types(request, sent, whole=applied)
        self.strategy.check_head(request, sent)
        document = self.strategy.received(request, read(request, sent))
        request = request.named(document["metadata"].get("name", ""))
        space = self._namespace(request)
        document = self.admission.mutate(request, None, document)
        document = self.strategy.created(request, document)
        name = document["metadata"].get("name", "")
        request = request.named(name)
        check(request, None, document)
        if space is not None:
            guard(request, space, document)
        self.admission.validate(request, None, document)
        by = self._owner(request, applied=applied)
        resource = request.resource
        if applied:
            wanted = read(request, sent, partial=True)
            owned = apply(
                {}, wanted, by, resource.shape, force=True, has_status=resource.has_status
            )
            document["metadata"]["managedFields"] = owned["metadata"].get("managedFields")
        else:
            document = note_update({}, document, by, resource.shape, has_status=resource.has_status)
        if request.dry_run:
            return shown(document, resource)
        try:
            return shown(self.store.write(request.key, None, kept(document, resource)), resource)
        except StaleError:
            raise already_exists(resource.group, resource.plural, name) from None

    def update(self, request: Request) -> Reply:
        """Replace an object.

        Raises:
            Refusal: it is not there, was changed, or may not be so.
        """
        sent = _object(request.body)
        if self.store.get(request.key) is None:
            if request.resource.plural in _CREATED_BY_UPDATE and not request.subresource:
                return Reply(201, self._create(request, sent))
            raise not_found(request.resource.group, request.resource.plural, request.name)
        return Reply(200, self.change(request, lambda _: copy.deepcopy(sent)))

    def bind(self, request: Request) -> Reply:
        """Bind a pod to a node, as schedulers do.

        Raises:
            Refusal: it is not there, or bound.
        """
        node = (_object(request.body).get("target") or {}).get("name", "")

        def bound(pod: Document) -> Document:
            if pod["spec"].get("nodeName"):
                why = f"pod {request.name} is already assigned to node {pod['spec']['nodeName']!r}"
                raise conflict("", "pods/binding", request.name, why)
            pod["spec"]["nodeName"] = node
            return pod

        self.change(replace(request, subresource=""), bound, again=True)
        head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return Reply(201, {**head, "code": 201})

    def patch(self, request: Request) -> Reply:
        """Change an object in part.

        Raises:
            Refusal: it is not there, or the patch does not fit.
        """
        if request.content_type == APPLY_PATCH:
            return self._apply(request)
        changer = self.patcher(request)
        return Reply(200, self.change(request, changer, again=True))

    def patcher(self, request: Request) -> Changer:
        """Return what a patch does to a document.

        Raises:
            Refusal: the format is unknown, or not for this kind.
        """
        patch, shape = request.body, request.resource.shape
        if request.content_type == JSON_PATCH:
            return lambda old: _object(json_patch(old, patch))
        if request.content_type == MERGE_PATCH:
            return lambda old: _object(merge_patch(old, _object(patch)))
        if request.content_type == STRATEGIC_PATCH and not request.resource.custom:
            return lambda old: strategic_merge(old, _object(patch), shape)
        custom = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
        taken = custom if request.resource.custom else (*custom, STRATEGIC_PATCH)
        raise unsupported_media_type(request.content_type, taken)

    def _apply(self, request: Request) -> Reply:
        sent = _object(request.body)
        if not request.query.get("fieldManager"):
            cause = Cause(
                "FieldValueRequired", "Required value: is required for apply patch", "fieldManager"
            )
            raise invalid("meta.k8s.io", "PatchOptions", "", [cause])
        check_types(request, sent, whole=True)
        if meta(sent).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        force = is_true(request.query.get("force", "false"))
        self.strategy.check_head(request, sent)
        resource = request.resource
        if self.store.get(request.key) is None:
            if request.subresource:
                raise not_found(resource.group, resource.plural, request.name)
            if sent["metadata"].get("uid"):
                why = f"uid mismatch: the provided object specified uid {sent['metadata']['uid']}, and no existing object was found"
                raise conflict(resource.group, resource.plural, request.name, why)
            return Reply(201, self._create(request, sent, applied=True))
        by = self._owner(request, applied=True)
        wanted = read(request, copy.deepcopy(sent), partial=True)

        def changed(old: Document) -> Document:
            result = apply(
                old, wanted, by, resource.shape, force=force, has_status=resource.has_status
            )
            for name in ("uid", "resourceVersion"):
                if name in sent["metadata"]:
                    result["metadata"][name] = sent["metadata"][name]
            return result

        return Reply(200, self.change(request, changed, again=True, applied=True))

    def change(
        self, request: Request, changer: Changer, *, again: bool = False, applied: bool = False
    ) -> Document:
        """Change an object by a function, and return what is stored then.

        Raises:
            Refusal: it is not there, others keep changing it, or the change may not be.
        """
        resource = request.resource
        for _ in range(_TRIES if again else 1):
            old = self.store.get(request.key)
            if old is None:
                raise not_found(resource.group, resource.plural, request.name)
            try:
                return self._change_once(request, old, changer, applied=applied)
            except StaleError:
                continue
        raise conflict(resource.group, resource.plural, request.name, CHANGED)

    def _change_once(
        self, request: Request, stored: Document, changer: Changer, *, applied: bool
    ) -> Document:
        resource = request.resource
        old = shown(stored, resource)
        sent = changer(copy.deepcopy(old))
        check_types(request, sent)
        owners = meta(sent).get("managedFields")
        self.strategy.check_head(request, sent)
        new = self.strategy.updated(request, old, read(request, sent))
        new = self.admission.mutate(request, old, new)
        new = self.strategy.completed(request, new)
        check(request, old, new)
        self.admission.validate(request, old, new)
        if applied:
            new["metadata"] = {**new["metadata"], "managedFields": owners}
        else:
            new["metadata"] = {**new["metadata"], "managedFields": owners}
            by = self._owner(request)
            new = note_update(old, new, by, resource.shape, has_status=resource.has_status)
        if request.dry_run or _same(old, new):
            return new if request.dry_run else old
        if self.deletions.is_over(new):
            return shown(self.store.write(request.key, stored, None), resource)
        return shown(self.store.write(request.key, stored, kept(new, resource)), resource)

    def _owner(self, request: Request, *, applied: bool = False) -> Owner:
        return Owner(
            manager=request.field_manager,
            operation="Apply" if applied else "Update",
            api_version=request.resource.api_version,
            subresource=request.subresource,
            time=self.strategy.now(),
        )

    def _namespace(self, request: Request) -> Document | None:
        """Return the namespace that a new object goes to, if any."""
        if not request.resource.namespaced:
            return None
        space = self.store.get(("", "namespaces", "", request.namespace))
        if space is None:
            raise not_found("", "namespaces", request.namespace)
        if space["metadata"].get("deletionTimestamp"):
            why = (
                f"unable to create new content in namespace {request.namespace} because it is "
                "being terminated"
            )
            cause = {"reason": "NamespaceTerminating", "field": "metadata.namespace"}
            cause["message"] = f"namespace {request.namespace} is being terminated"
            about = f'{request.resource.plural} "{request.name}"'
            raise forbidden(about, why, details={"causes": [cause]})
        return space


def _object(body: object) -> Document:
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type object)")
    return body


def _same(old: Document, new: Document) -> bool:
    return _untimed(old) == _untimed(new)


def _untimed(document: Document) -> Document:
    """Return an object without the times of its managed fields: they alone are no change."""
    metadata = document["metadata"]
    entries = [{**entry, "time": ""} for entry in metadata.get("managedFields") or ()]
    return {**document, "metadata": {**metadata, "managedFields": entries}}
