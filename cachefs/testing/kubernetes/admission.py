"""Webhooks: what is asked before an object is stored.

Mutating ones run in the order of their names and each sees what those before it made; one that wants it
(``reinvocationPolicy: IfNeeded``) is asked once more when a later one changed something. Validating ones see what will be
stored. A webhook that cannot be asked refuses everything, or nothing, by its ``failurePolicy``.
"""

import base64
import binascii
import copy
import json
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from cachefs.ports import Runtime
from cachefs.testing.kubernetes.calling import CallError, call
from cachefs.testing.kubernetes.cel import RuleError, evaluate
from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.failures import Refusal
from cachefs.testing.kubernetes.patches import json_patch
from cachefs.testing.kubernetes.requests import Request
from cachefs.testing.kubernetes.reviews import user_info
from cachefs.testing.kubernetes.selectors import object_selector
from cachefs.testing.kubernetes.store import Store

_GROUP: Final = "admissionregistration.k8s.io"
_OPERATIONS: Final = {"create": "CREATE", "update": "UPDATE", "patch": "UPDATE", "delete": "DELETE"}


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Calls the webhooks that are configured."""

    store: Store
    runtime: Runtime
    services: MutableMapping[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """Where the services of webhooks are to be found."""

    def mutate(self, request: Request, old: Document | None, new: Document) -> Document:
        """Return the object as the webhooks want it.

        Raises:
            Refusal: one of them denies it, or cannot be asked.
        """
        hooks = [
            each
            for each in self._hooks("mutatingwebhookconfigurations")
            if self._concerns(each, request, old, new)
        ]
        changed_after: dict[str, bool] = {}
        for hook in hooks:
            changed = self._ask(hook, request, old, new)
            if changed != new:
                changed_after = dict.fromkeys(changed_after, True)
            changed_after[hook["name"]] = False
            new = changed
        for hook in hooks:
            if hook.get("reinvocationPolicy") == "IfNeeded" and changed_after[hook["name"]]:
                new = self._ask(hook, request, old, new)
        return new

    def validate(self, request: Request, old: Document | None, new: Document | None) -> None:
        """Ask those that only judge.

        Raises:
            Refusal: one of them denies it, or cannot be asked.
        """
        for hook in self._hooks("validatingwebhookconfigurations"):
            if self._concerns(hook, request, old, new):
                self._ask(hook, request, old, new)

    def _hooks(self, plural: str) -> Iterator[Document]:
        _, objects = self.store.objects()
        for key in sorted(objects):
            if key[:2] == (_GROUP, plural):
                yield from objects[key].get("webhooks") or ()

    def _concerns(
        self, hook: Document, request: Request, old: Document | None, new: Document | None
    ) -> bool:
        if request.resource.group == _GROUP:
            return False  # no webhook may keep one from being repaired
        return (
            any(_fits(rule, request, old) for rule in hook.get("rules") or ())
            and self._in_namespace(hook, request, new or old)
            and any(
                object_selector(hook.get("objectSelector"))(each)
                for each in (new, old)
                if each is not None
            )
            and self._on_conditions(hook, request, old, new)
        )

    def _in_namespace(self, hook: Document, request: Request, document: Document | None) -> bool:
        fits = object_selector(hook.get("namespaceSelector"))
        if request.resource.stored == ("", "namespaces"):
            return fits(document or {})
        space = self.store.get(("", "namespaces", "", request.namespace))
        return space is None or fits(space)

    def _on_conditions(
        self, hook: Document, request: Request, old: Document | None, new: Document | None
    ) -> bool:
        asked = self._review(request, old, new)["request"]
        seen = {"object": new, "oldObject": old, "request": asked}
        try:
            return all(
                evaluate(condition["expression"], seen)
                for condition in hook.get("matchConditions") or ()
            )
        except RuleError as error:
            if hook.get("failurePolicy") == "Ignore":
                return False
            raise _unreachable(hook, CallError(str(error))) from error

    def _ask(
        self, hook: Document, request: Request, old: Document | None, new: Document | None
    ) -> Document:
        review = self._review(request, old, new)
        try:
            response = call(
                hook["clientConfig"], review, self.services, int(hook.get("timeoutSeconds", 10))
            )
            changed = _patched(new or {}, response) if response.get("allowed") else {}
        except CallError as error:
            if hook.get("failurePolicy") == "Ignore":
                return new or {}
            raise _unreachable(hook, error) from error
        request.warnings.extend(response.get("warnings") or ())
        if not response.get("allowed"):
            raise _denied(hook, response.get("status") or {})
        return changed

    def _review(self, request: Request, old: Document | None, new: Document | None) -> Document:
        resource = request.resource
        version = {"group": resource.group, "version": resource.version}
        options = {"create": "CreateOptions", "delete": "DeleteOptions"}.get(
            request.verb, "UpdateOptions"
        )
        asked = {
            "uid": str(UUID(int=self.runtime.random.getrandbits(128), version=4)),
            "kind": {**version, "kind": resource.kind},
            "resource": {**version, "resource": resource.plural},
            "requestKind": {**version, "kind": resource.kind},
            "requestResource": {**version, "resource": resource.plural},
            "operation": _operation(request, old),
            "userInfo": user_info(request.user),
            "object": copy.deepcopy(new),
            "oldObject": copy.deepcopy(old),
            "dryRun": request.dry_run,
            "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
        }
        named = {"name": request.name, "namespace": request.namespace}
        inner = {"subResource": request.subresource, "requestSubResource": request.subresource}
        more = {key: value for key, value in {**named, **inner}.items() if value}
        return {
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": {**asked, **more},
        }


def _operation(request: Request, old: Document | None) -> str:
    if old is None:
        return "CREATE"  # an apply or update of nothing creates, whatever the verb
    return _OPERATIONS.get(request.verb, "UPDATE")


def _fits(rule: Document, request: Request, old: Document | None) -> bool:
    resource = request.resource
    inner = f"/{request.subresource}" if request.subresource else ""
    accepted = {resource.plural + inner, f"*{inner}", f"{resource.plural}/*", "*/*"}
    operation = _operation(request, old)
    scope = rule.get("scope", "*")
    return (
        any(each in ("*", resource.group) for each in rule.get("apiGroups") or ())
        and any(each in ("*", resource.version) for each in rule.get("apiVersions") or ())
        and any(each in ("*", operation) for each in rule.get("operations") or ())
        and any(each in accepted for each in rule.get("resources") or ())
        and scope in ("*", "Namespaced" if resource.namespaced else "Cluster")
    )


def _patched(document: Document, response: Document) -> Document:
    patch = response.get("patch")
    if not patch:
        return document
    if response.get("patchType") != "JSONPatch":
        raise CallError(f"webhook returned response.patchType {response.get('patchType')!r}")
    try:
        operations = json.loads(base64.b64decode(patch, validate=True))
        changed: Document = json_patch(document, operations)
    except (binascii.Error, ValueError, Refusal) as error:
        raise CallError(f"the patch cannot be applied: {error}") from error
    return changed


def _unreachable(hook: Document, error: CallError) -> Refusal:
    message = (
        f'Internal error occurred: failed calling webhook "{hook["name"]}": '
        f"failed to call webhook: {error}"
    )
    return Refusal(500, "InternalError", message, details={"causes": [{"message": str(error)}]})


def _denied(hook: Document, status: Document) -> Refusal:
    said = f'admission webhook "{hook["name"]}" denied the request'
    why = status.get("message") or status.get("reason") or ""
    message = f"{said}: {why}" if why else f"{said} without explanation"
    return Refusal(int(status.get("code") or 403), status.get("reason") or "Forbidden", message)
