"""The pieces that schemas are made of, and the frame of a definition.

The schemas are *structural*: every value has a type, and nothing stands in ``allOf`` and the like that would
have to be said again outside; so the API server can prune, default and convert them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachefs.k8s.crds.quantities import DURATION_PATTERN, SIZE_PATTERN, TEXT_LENGTH_MAX
from cachefs.k8s.names import GROUP, VERSION, Kind

Document = dict[str, Any]  # Any: what JSON holds
Schema = dict[str, Any]  # likewise

LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""RFC 1123's label: what names of namespaces are."""
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$"
"""What the coordinator takes for the names of datasets and pools."""
NAME_LENGTH_MAX = 63
MESSAGE_LENGTH_MAX = 32768
"""Of a condition, as in Kubernetes' own types."""
_REASON_LENGTH_MAX = 1024


def text(description: str, *, most: int, pattern: str = "", **more: object) -> Schema:
    """Return the schema of a string with at most so many characters."""
    schema: Schema = {"type": "string", "description": description, "maxLength": most}
    if pattern:
        schema["pattern"] = pattern
    return {**schema, **more}


def name(description: str, **more: object) -> Schema:
    """Return the schema of a name that the coordinator knows something by."""
    return text(description, most=NAME_LENGTH_MAX, pattern=NAME_PATTERN, **more)


def label(description: str, **more: object) -> Schema:
    """Return the schema of a name of Kubernetes, such as a namespace's."""
    return text(description, most=NAME_LENGTH_MAX, pattern=LABEL_PATTERN, **more)


def choice(description: str, *values: str, **more: object) -> Schema:
    """Return the schema of one of a few words."""
    return {"type": "string", "description": description, "enum": list(values), **more}


def duration(description: str, **more: object) -> Schema:
    """Return the schema of a time: ``30s``, ``5m``, ``1h30m``, ``7d``."""
    return text(description, most=TEXT_LENGTH_MAX, pattern=DURATION_PATTERN, **more)


def size(description: str, **more: object) -> Schema:
    """Return the schema of bytes as Kubernetes writes them: ``100Gi``, or a number."""
    return {
        "description": description,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "pattern": SIZE_PATTERN,
        "maxLength": TEXT_LENGTH_MAX,
        **more,
    }


def whole(description: str, least: int, most: int, **more: object) -> Schema:
    """Return the schema of a whole number within bounds."""
    return {
        "type": "integer",
        "format": "int32" if most < 2**31 else "int64",
        "description": description,
        "minimum": least,
        "maximum": most,
        **more,
    }


def count(description: str) -> Schema:
    """Return the schema of a number that a status shows."""
    return whole(description, 0, 2**63 - 1)


def flag(description: str, **more: object) -> Schema:
    """Return the schema of yes or no."""
    return {"type": "boolean", "description": description, **more}


def listing(description: str, items: Schema, *, most: int, **more: object) -> Schema:
    """Return the schema of a list that is changed as a whole."""
    return {
        "type": "array",
        "description": description,
        "items": items,
        "maxItems": most,
        "x-kubernetes-list-type": "atomic",
        **more,
    }


def members(description: str, items: Schema, *, most: int, **more: object) -> Schema:
    """Return the schema of a set: an item is in it once, and owners of fields can share it."""
    return listing(description, items, most=most, **{"x-kubernetes-list-type": "set", **more})


def table(description: str, items: Schema, key: str, *, most: int, **more: object) -> Schema:
    """Return the schema of a list whose items are told apart by one of their fields."""
    own = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    return listing(description, items, most=most, **{**own, **more})


def mapping(description: str, values: Schema, *, most: int, **more: object) -> Schema:
    """Return the schema of names with values."""
    return {
        "type": "object",
        "description": description,
        "additionalProperties": values,
        "maxProperties": most,
        **more,
    }


def fields(
    description: str,
    properties: Mapping[str, Schema],
    *,
    required: Sequence[str] = (),
    **more: object,
) -> Schema:
    """Return the schema of an object with known fields."""
    schema: Schema = {"type": "object", "description": description, "properties": dict(properties)}
    if required:
        schema["required"] = list(required)
    return {**schema, **more}


def free(description: str, **more: object) -> Schema:
    """Return the schema of an object whose fields somebody else knows, and checks."""
    return {
        "type": "object",
        "description": description,
        "x-kubernetes-preserve-unknown-fields": True,
        **more,
    }


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between fields, in the Common Expression Language.

    No message is made by an expression: whatever makes text of a number counts as a text without bounds, and the
    definition would be refused for what that might cost.
    """

    rule: str
    message: str
    """A sentence about what must be, not about what was found."""
    field: str = ""
    """Which field the message is about, below the one that has the rule: ``.version``."""

    def document(self) -> Document:
        """Return the rule as schemas have it."""
        shown: Document = {"rule": self.rule, "message": self.message}
        if self.field:
            shown["fieldPath"] = self.field
        if "oldSelf" in self.rule:
            shown["reason"] = "FieldValueForbidden"
        return shown


def rules(*each: Rule) -> Schema:
    """Return the part of a schema that holds rules."""
    return {"x-kubernetes-validations": [rule.document() for rule in each]}


def conditions(*kinds: str) -> Schema:
    """Return the schema of conditions as all of Kubernetes has them."""
    one = fields(
        "One aspect of the state.",
        {
            "type": text(
                f"What it is about: {', '.join(kinds)}.",
                most=316,
                pattern=r"^[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?$",
            ),
            "status": choice("Whether it is so.", "True", "False", "Unknown"),
            "reason": text(
                "Why, in one word for programs.",
                most=_REASON_LENGTH_MAX,
                pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            ),
            "message": text("Why, for people.", most=MESSAGE_LENGTH_MAX),
            "lastTransitionTime": _moment("When the status became what it is."),
            "observedGeneration": count("The generation of the object that this is about."),
        },
        required=("type", "status", "reason", "message", "lastTransitionTime"),
    )
    return table("Aspects of the state, each with its reason.", one, "type", most=16)


def _moment(description: str) -> Schema:
    return {"type": "string", "format": "date-time", "description": description}


def moment(description: str) -> Schema:
    """Return the schema of a time of day and year, by RFC 3339."""
    return _moment(description)


def generation() -> Schema:
    """Return the schema of ``status.observedGeneration``."""
    return count("The generation of the object that the status is about.")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``."""

    name: str
    path: str
    kind: str = "string"
    description: str = ""
    is_wide: bool = False
    """Only with ``-o wide``."""

    def document(self) -> Document:
        """Return the column as definitions have it."""
        shown: Document = {"name": self.name, "type": self.kind, "jsonPath": self.path}
        if self.description:
            shown["description"] = self.description
        if self.is_wide:
            shown["priority"] = 1
        return shown


AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A kind, as it is taught to the API server."""

    kind: Kind
    short: str
    description: str
    spec: Schema
    status: Schema
    columns: tuple[Column, ...]
    scale: Mapping[str, str] | None = None
    """Where the scale subresource finds its numbers; it has none for ``None``."""
    rules: tuple[Rule, ...] = ()
    """Of the object as a whole: of its name, too."""

    def document(self) -> Document:
        """Return the definition."""
        singular = self.kind.kind.lower()
        subresources: Document = {"status": {}}
        if self.scale is not None:
            subresources["scale"] = dict(self.scale)
        whole_object = fields(
            self.description,
            {
                "apiVersion": {"type": "string", "description": "The API's group and version."},
                "kind": {"type": "string", "description": "The kind of this object."},
                "metadata": {"type": "object"},
                "spec": self.spec,
                "status": self.status,
            },
            required=("spec",),
        )
        if self.rules:
            whole_object |= rules(*self.rules)
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{self.kind.plural}.{GROUP}",
                "labels": {"app.kubernetes.io/name": "cachefs"},
            },
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {
                    "kind": self.kind.kind,
                    "listKind": f"{self.kind.kind}List",
                    "plural": self.kind.plural,
                    "singular": singular,
                    "shortNames": [self.short],
                    "categories": ["cachefs"],
                },
                "versions": [
                    {
                        "name": VERSION,
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": whole_object},
                        "subresources": subresources,
                        "additionalPrinterColumns": [each.document() for each in self.columns],
                    }
                ],
            },
        }
