"""Which definitions of custom resources are accepted: structural schemas, and what goes with them.

A structural schema gives every place a type, so that what it does not name can be dropped, and keeps out of
``allOf``, ``anyOf``, ``oneOf`` and ``not`` whatever says what a place is.
"""

from collections.abc import Iterator
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.failures import Cause
from cachefs.testing.kubernetes.rules import rules_that_fail_to_compile
from cachefs.testing.kubernetes.schemas import faults_by_schema

_TYPES: Final = frozenset(["array", "boolean", "integer", "number", "object", "string"])
_FORBIDDEN: Final = ("$ref", "definitions", "dependencies", "patternProperties", "id", "$schema")
_OUTSIDE_OF_LOGIC: Final = (
    "type",
    "default",
    "nullable",
    "description",
    "title",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
)
_COLUMN_TYPES: Final = frozenset(["integer", "number", "string", "boolean", "date"])


def definition_faults(definition: Document) -> Iterator[Cause]:
    """Go through what keeps a definition from being accepted."""
    spec = definition["spec"]
    names = spec["names"]
    wanted = f"{names.get('plural')}.{spec.get('group')}"
    if definition["metadata"].get("name") != wanted:
        yield _bad(f'must be spec.names.plural+"."+spec.group: {wanted}', "metadata.name")
    if names.get("plural", "") != names.get("plural", "").lower():
        yield _bad("a DNS-1035 label consists of lower case characters", "spec.names.plural")
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        text = 'Unsupported value: supported values: "Cluster", "Namespaced"'
        yield Cause("FieldValueNotSupported", text, "spec.scope")
    stored = [version for version in spec["versions"] if version.get("storage")]
    if len(stored) != 1:
        yield _bad("must have exactly one version marked as storage version", "spec.versions")
    for index, version in enumerate(spec["versions"]):
        yield from _version_faults(version, f"spec.versions[{index}]")


def _version_faults(version: Document, path: str) -> Iterator[Cause]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    inside = f"{path}.schema.openAPIV3Schema"
    if schema is None:
        yield Cause("FieldValueRequired", "Required value: schemas are required", inside)
        return
    if schema.get("type") != "object":
        yield _bad("must be object at the root", f"{inside}.type")
    yield from _faults(schema, inside, root=True)
    yield from rules_that_fail_to_compile(schema, inside)
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        at = f"{path}.additionalPrinterColumns[{index}]"
        if column.get("type") not in _COLUMN_TYPES:
            yield Cause(
                "FieldValueNotSupported", f"Unsupported value: {column.get('type')}", f"{at}.type"
            )
        if not str(column.get("jsonPath", "")).startswith("."):
            yield _bad("is invalid JSONPath: it begins with a dot", f"{at}.jsonPath")
    scale = (version.get("subresources") or {}).get("scale") or {}
    for name, head in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        if scale and not str(scale.get(name, "")).startswith(head):
            yield _bad(
                f"should be a json path under {head[:-1]}", f"{path}.subresources.scale.{name}"
            )


def _faults(schema: Document, path: str, *, root: bool = False) -> Iterator[Cause]:
    yield from _plain_faults(schema, path)
    yield from _logic_faults(schema, path)
    yield from _list_faults(schema, path)
    if "default" in schema:
        text = "default value does not fit the schema"
        if root or faults_by_schema(
            {**schema, "x-kubernetes-validations": []}, schema["default"], None
        ):
            yield _bad(text, f"{path}.default")
    for name, inside in (schema.get("properties") or {}).items():
        if not (root and name == "metadata"):
            yield from _faults(inside, f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from _faults(schema[name], f"{path}.{name}")


def _plain_faults(schema: Document, path: str) -> Iterator[Cause]:
    free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get(
        "x-kubernetes-int-or-string"
    )
    kind = schema.get("type")
    if kind is None and not free:
        yield Cause(
            "FieldValueRequired",
            "Required value: must not be empty for specified object fields",
            f"{path}.type",
        )
    elif kind is not None and (not isinstance(kind, str) or kind not in _TYPES):
        yield Cause("FieldValueNotSupported", f"Unsupported value: {kind!r}", f"{path}.type")
    for name in _FORBIDDEN:
        if name in schema:
            yield _forbidden(f"{name} is not supported", f"{path}.{name}")
    if schema.get("uniqueItems"):
        yield _forbidden(
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            f"{path}.uniqueItems",
        )
    more = schema.get("additionalProperties")
    if more is False:
        yield _forbidden(
            "additionalProperties cannot be set to false", f"{path}.additionalProperties"
        )
    if more is not None and schema.get("properties"):
        yield _forbidden(
            "additionalProperties and properties are mutual exclusive",
            f"{path}.additionalProperties",
        )


def _logic_faults(schema: Document, path: str) -> Iterator[Cause]:
    for name in ("allOf", "anyOf", "oneOf", "not"):
        parts = schema.get(name) or ()
        for index, part in enumerate([parts] if isinstance(parts, dict) else parts):
            at = f"{path}.{name}" if name == "not" else f"{path}.{name}[{index}]"
            is_number_or_text = schema.get("x-kubernetes-int-or-string") and name == "anyOf"
            for outside in _OUTSIDE_OF_LOGIC:
                if outside in part and not (is_number_or_text and outside == "type"):
                    yield _forbidden("must be empty to be structural", f"{at}.{outside}")


def _list_faults(schema: Document, path: str) -> Iterator[Cause]:
    kind, items = schema.get("x-kubernetes-list-type"), schema.get("items")
    if schema.get("type") == "array" and not isinstance(items, dict):
        yield Cause("FieldValueRequired", "Required value: must be specified", f"{path}.items")
        return
    if kind is not None and schema.get("type") != "array":
        yield _bad("must be array if x-kubernetes-list-type is specified", f"{path}.type")
    if kind == "map":
        keys = schema.get("x-kubernetes-list-map-keys") or ()
        if not keys:
            yield Cause(
                "FieldValueRequired",
                "Required value: must not be empty if x-kubernetes-list-type is map",
                f"{path}.x-kubernetes-list-map-keys",
            )
        required = (items or {}).get("required") or ()
        for key in keys:
            field = ((items or {}).get("properties") or {}).get(key)
            if field is None or (key not in required and "default" not in field):
                yield Cause(
                    "FieldValueRequired",
                    "Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                    f"{path}.items.properties[{key}].default",
                )


def _bad(why: str, field: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {why}", field)


def _forbidden(why: str, field: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)
