"""Reading what was sent against a kind's shape, and holding objects to what all kinds have in common."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from cachefs.testing.kubernetes.documents import Document, Json, meta, value_at
from cachefs.testing.kubernetes.failures import Cause, Refusal, bad_request, invalid
from cachefs.testing.kubernetes.kindrules import faults_by_kind
from cachefs.testing.kubernetes.kinds import DEFINITIONS, Resource
from cachefs.testing.kubernetes.requests import Request
from cachefs.testing.kubernetes.schemas import (
    default_by_schema,
    faults_by_schema,
    type_faults,
)
from cachefs.testing.kubernetes.shapes import Shape, metadata_shape
from cachefs.testing.kubernetes.structural import definition_faults

_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_FREE_NAMES: Final = frozenset(["roles", "rolebindings", "clusterroles", "clusterrolebindings"])
"""Whose names only need to fit into a path."""
_SHORT_NAMES: Final = frozenset({"services", "namespaces"})
"""Whose names are single labels of the domain name system."""


def check_types(request: Request, document: Document, *, whole: bool = False) -> None:
    """Hold what was sent to the types of its fields: those of metadata, and of Kubernetes' own kinds.

    Args:
        request: Says of which kind it is.
        document: What was sent, or what a patch has made.
        whole: All of a custom object, too: who applies it must say what can be merged.

    Raises:
        Refusal: 400, the object cannot be decoded.
    """
    resource = request.resource
    document.setdefault("metadata", {})
    found = type_faults(metadata_shape(), document["metadata"], "metadata")
    if whole or not resource.custom:
        found += type_faults(resource.shape, document, "")
    for cause in found:
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: json: cannot unmarshal into {cause.field}: {cause.message}"
        )


def read(request: Request, document: Document, *, partial: bool = False) -> Document:
    """Return what was sent without what its kind does not know, with a custom kind's defaults.

    Args:
        request: Says by ``fieldValidation`` what unknown fields bring: an error, a warning, nothing.
        document: What was sent, or what a patch has made.
        partial: The document is applied: no default belongs to who applies.

    Raises:
        Refusal: unknown fields, strictly.
    """
    resource = request.resource
    unknown = sorted(set(unknown_fields(document, resource.shape)))
    level = request.query.get("fieldValidation", "Warn")
    if unknown and partial and level != "Ignore":
        raise Refusal(
            500,
            "InternalError",
            f"failed to create typed patch object ({request.namespace}/{request.name}; "
            f"{resource.api_version}, Kind={resource.kind}): .{unknown[0]}: field not declared in schema",
        )
    if unknown and level == "Strict":
        said = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: strict decoding error: {said}"
        )
    if level == "Warn":
        request.warnings.extend(f'unknown field "{path}"' for path in unknown)
    known: Document = pruned(document, resource.shape)
    if partial:
        return known
    if resource.custom:
        filled: Document = default_by_schema(known, resource.shape.schema)
        return filled
    return without_empty(known, resource.shape)


def unknown_fields(document: Json, shape: Shape, path: str = "") -> Iterator[str]:
    """Go through the fields that a shape has no place for, as dotted paths."""
    if isinstance(document, dict):
        for name, value in document.items():
            inside = f"{path}.{name}" if path else name
            if shape.knows(name):
                yield from unknown_fields(value, shape.field(name), inside)
            else:
                yield inside
    elif isinstance(document, list):
        for index, item in enumerate(document):
            yield from unknown_fields(item, shape.items, f"{path}[{index}]")


def pruned(document: Json, shape: Shape) -> Json:
    """Return a document without the fields that a shape has no place for, and without nulls."""
    if isinstance(document, dict):
        return {
            name: pruned(value, shape.field(name))
            for name, value in document.items()
            if shape.knows(name) and (value is not None or shape.field(name).keeps_null)
        }
    if isinstance(document, list):
        return [pruned(_blank(shape) if item is None else item, shape.items) for item in document]
    return document


def without_empty(document: Document, shape: Shape) -> Document:
    """Return an object of Kubernetes' own without empty maps and lists: its types leave them out."""
    required = shape.schema.get("required") or ()
    found: Document = {}
    for name, value in document.items():
        inside = shape.field(name)
        is_map = isinstance(value, dict) and "additionalProperties" in inside.schema
        if value or name in required or not (is_map or isinstance(value, list)):
            found[name] = _inner_without_empty(value, inside)
    return found


def _inner_without_empty(value: Json, shape: Shape) -> Json:
    if isinstance(value, dict) and shape.properties:
        return without_empty(value, shape)
    if isinstance(value, list):
        return [_inner_without_empty(item, shape.items) for item in value]
    return value


def _blank(shape: Shape) -> Json:
    """Return what a null in a list is read as: in Kubernetes' own kinds, nothing said."""
    types = shape.items.types
    if "null" not in types:
        return None
    return {} if "object" in types else "" if "string" in types else None


def check(request: Request, old: Document | None, new: Document) -> None:
    """Hold an object to its kind's rules.

    Raises:
        Refusal: 422, with one cause for each rule that is broken.
    """
    resource = request.resource
    causes = [*_metadata_faults(new, resource)]
    if resource.custom:
        status_only = request.subresource == "status"
        causes += faults_by_schema(resource.shape.schema, new, old, status_only=status_only)
    elif not request.subresource:
        causes += _immutable_faults(resource, old, new)
        causes = causes or faults_by_schema(resource.shape.schema, new, None)
        causes = causes or list(faults_by_kind(new, resource))
    if resource.stored == DEFINITIONS and not causes:
        causes += definition_faults(new)
    if causes:
        raise invalid(resource.group, resource.kind, new["metadata"].get("name", ""), causes)


def _metadata_faults(document: Document, resource: Resource) -> Iterator[Cause]:
    metadata = meta(document)
    yield from _name_faults(metadata.get("name", ""), resource)
    for field in ("labels", "annotations"):
        for key, value in (metadata.get(field) or {}).items():
            yield from _key_faults(f"metadata.{field}", key)
            if not isinstance(value, str):
                raise bad_request(f"metadata.{field}.{key}: expected a string")
            if field == "labels" and value and (len(value) > 63 or not _QUALIFIED.fullmatch(value)):
                yield Cause(
                    "FieldValueInvalid",
                    f"Invalid value: \"{value}\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', at most 63",
                    "metadata.labels",
                )
    for finalizer in metadata.get("finalizers") or ():
        yield from _key_faults("metadata.finalizers", finalizer)
    yield from _owner_faults(metadata.get("ownerReferences") or ())


def _name_faults(name: str, resource: Resource) -> Iterator[Cause]:
    if not name:
        yield Cause(
            "FieldValueRequired",
            "Required value: name or generateName is required",
            "metadata.name",
        )
    elif resource.plural in _FREE_NAMES:
        if "/" in name or "%" in name:
            yield _bad_name(name, "may not contain '/' or '%'")
    elif resource.plural in _SHORT_NAMES:
        if not _LABEL.fullmatch(name) or len(name) > 63:
            yield _bad_name(
                name,
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'",
            )
    elif not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield _bad_name(
            name,
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'",
        )


def _bad_name(name: str, why: str) -> Cause:
    return Cause("FieldValueInvalid", f'Invalid value: "{name}": {why}', "metadata.name")


def _key_faults(field: str, key: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if (
        (slash and not _SUBDOMAIN.fullmatch(prefix))
        or len(name) > 63
        or not _QUALIFIED.fullmatch(name)
    ):
        yield Cause(
            "FieldValueInvalid",
            f"Invalid value: \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.'",
            field,
        )


def _owner_faults(references: Sequence[Document]) -> Iterator[Cause]:
    for index, reference in enumerate(references):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not reference.get(name):
                yield Cause(
                    "FieldValueInvalid",
                    f'Invalid value: "": {name} must not be empty',
                    f"metadata.ownerReferences[{index}].{name}",
                )
    if sum(bool(reference.get("controller")) for reference in references) > 1:
        yield Cause(
            "FieldValueInvalid",
            "Invalid value: Only one reference can have Controller set to true",
            "metadata.ownerReferences",
        )


_IMMUTABLE: Final = {
    ("apps", "deployments"): ("spec.selector",),
    ("apps", "daemonsets"): ("spec.selector",),
    ("apps", "replicasets"): ("spec.selector",),
    ("batch", "jobs"): ("spec.selector", "spec.template", "spec.completionMode"),
    ("", "persistentvolumes"): ("spec.persistentVolumeSource", "spec.csi", "spec.volumeMode"),
    ("", "secrets"): ("type",),
    ("rbac.authorization.k8s.io", "rolebindings"): ("roleRef",),
    ("rbac.authorization.k8s.io", "clusterrolebindings"): ("roleRef",),
    ("storage.k8s.io", "storageclasses"): ("provisioner", "parameters", "reclaimPolicy"),
}
"""Fields that can never be changed."""
_MUTABLE: Final = {
    ("apps", "statefulsets"): frozenset(
        [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ]
    ),
    ("", "persistentvolumeclaims"): frozenset(
        {"resources", "volumeName", "volumeAttributesClassName"}
    ),
    ("", "pods"): frozenset(
        [
            "containers",
            "initContainers",
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
            "schedulingGates",
            "nodeSelector",
            "affinity",
            "nodeName",
        ]
    ),
}
"""Of a spec that can only be changed here, the fields that can."""


def _immutable_faults(resource: Resource, old: Document | None, new: Document) -> Iterator[Cause]:
    if old is None:
        return
    for path in _IMMUTABLE.get(resource.stored, ()):
        before, after = value_at(old, path), value_at(new, path)
        if before != after:
            yield Cause("FieldValueInvalid", f"Invalid value: {after!r}: field is immutable", path)
    free = _MUTABLE.get(resource.stored)
    if free is not None:
        was, now = old.get("spec") or {}, new.get("spec") or {}
        changed = {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)}
        if changed - free:
            said = ", ".join(sorted(free))
            yield Cause(
                "FieldValueForbidden",
                f"Forbidden: updates to {resource.singular} spec for fields other than {said} are forbidden",
                "spec",
            )
    sealed = resource.plural in ("secrets", "configmaps") and old.get("immutable")
    if sealed and _content(old) != _content(new):
        why = "Forbidden: field is immutable when `immutable` is set"
        yield Cause("FieldValueForbidden", why, "data")


def _content(document: Document) -> Document:
    return {name: document.get(name) for name in ("data", "binaryData", "immutable")}
