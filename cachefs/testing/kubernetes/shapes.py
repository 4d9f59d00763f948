"""What a kind's schema says of a place in a document: its fields, and how lists there merge.

One view serves the built-in kinds (Kubernetes' published definitions, which carry
``x-kubernetes-list-type``, ``-list-map-keys``, ``-patch-merge-key``) and custom ones (the schema in their
definition). Strategic merge patch, server-side apply, pruning and field validation all walk a document
along a shape.
"""

import functools
import json
from importlib import resources
from typing import Final

from cachefs.testing.kubernetes.documents import Document, Json

_REFERENCE: Final = "#/$defs/"
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


class Shape:
    """A place in documents of a kind; an empty schema is a place where anything may be."""

    def __init__(self, schema: Document, *, root: bool = False) -> None:
        """Take a schema, or a reference to a definition of Kubernetes'."""
        reference = str(schema.get("$ref", ""))
        if reference:
            schema = {**schema, **definitions()[reference.partition(_REFERENCE)[2]]}
        self.schema = schema
        self.is_root = root

    @property
    def types(self) -> tuple[str, ...]:
        """What may be here; empty for anything."""
        found = self.schema.get("type", ())
        return (found,) if isinstance(found, str) else tuple(found)

    @property
    def properties(self) -> dict[str, Document]:
        """The named fields' schemas."""
        return self.schema.get("properties") or {}

    @property
    def is_open(self) -> bool:
        """Whether fields that the schema does not name are kept."""
        return (
            bool(self.schema.get("x-kubernetes-preserve-unknown-fields"))
            or bool(self.schema.get("x-kubernetes-embedded-resource"))
            or (not self.properties and "additionalProperties" not in self.schema)
        )

    @property
    def is_atomic_map(self) -> bool:
        """Whether an object here has one owner as a whole."""
        return self.schema.get("x-kubernetes-map-type") == "atomic"

    @property
    def list_type(self) -> str:
        """How a list here is owned: ``atomic``, ``set`` or ``map``."""
        return str(self.schema.get("x-kubernetes-list-type", "atomic"))

    @property
    def list_keys(self) -> tuple[str, ...]:
        """What tells the items of a list of type ``map`` apart."""
        return tuple(self.schema.get("x-kubernetes-list-map-keys", ()))

    @property
    def merge_key(self) -> str:
        """What strategic merge patch tells items apart by; empty: it compares them whole."""
        return str(self.schema.get("x-kubernetes-patch-merge-key", ""))

    @property
    def strategies(self) -> tuple[str, ...]:
        """How strategic merge patch treats this place: ``merge``, ``replace``, ``retainKeys``."""
        return tuple(str(self.schema.get("x-kubernetes-patch-strategy", "")).split(","))

    @property
    def keeps_null(self) -> bool:
        """Whether ``null`` is a value here, and not the same as nothing."""
        untyped = not self.types and not self.schema.get("x-kubernetes-int-or-string")
        return self.schema.get("nullable") is True or untyped

    def knows(self, name: str) -> bool:
        """Whether a field of that name may be here."""
        return (
            self.is_open
            or name in self.properties
            or bool(self.schema.get("additionalProperties"))
            or (self.is_root and name in ("apiVersion", "kind", "metadata"))
        )

    def is_visible(self, name: str) -> bool:
        """Whether expressions see a field: those that the schema names, and a map's keys."""
        return (
            name in self.properties
            or bool(self.schema.get("additionalProperties"))
            or (self.is_root and name in ("apiVersion", "kind"))
        )

    def field(self, name: str) -> "Shape":
        """Return the shape of a field."""
        if name in self.properties and not (self.is_root and name == "metadata"):
            return Shape(self.properties[name])
        if self.is_root and name == "metadata":
            return metadata_shape()
        more = self.schema.get("additionalProperties")
        return Shape(more) if isinstance(more, dict) else ANYTHING

    @property
    def items(self) -> "Shape":
        """The shape of a list's items."""
        return Shape(self.schema.get("items") or {})

    def key_default(self, name: str) -> Json:
        """Return what a missing key of a list's item counts as (a port's protocol: ``TCP``)."""
        found = self.items.field(name).schema.get("default")
        return "TCP" if found is None and name == "protocol" else found


ANYTHING: Final = Shape({})


@functools.cache
def definitions() -> dict[str, Document]:
    """Return Kubernetes' published schemas of its own kinds, by name."""
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema"
    versions = [each.name for each in folder.iterdir() if each.name.endswith("-local")]
    newest = max(versions, key=lambda name: [int(part) for part in name[1:-6].split(".")])
    found: dict[str, Document] = json.loads((folder / newest / "_definitions.json").read_text())
    return found["$defs"]


@functools.cache
def metadata_shape() -> Shape:
    """Return the shape of every object's metadata."""
    return Shape(definitions()[_META])


@functools.cache
def _named() -> dict[tuple[str, str, str], Document]:
    return {
        (kind["group"], kind["version"], kind["kind"]): schema
        for schema in definitions().values()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }


def built_in_shape(group: str, version: str, kind: str) -> Shape:
    """Return the shape of a kind of Kubernetes' own; of anything when it has published none."""
    return Shape(_named().get((group, version, kind), {}), root=True)


def definition_of(group: str, version: str, kind: str) -> Document:
    """Return the published schema of a kind, as it stands in the OpenAPI document."""
    return _named().get((group, version, kind), {"type": "object"})
