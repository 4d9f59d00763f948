"""Label selectors and field selectors, as they stand in a query or in an object."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cachefs.testing.kubernetes.documents import Document, value_at
from cachefs.testing.kubernetes.failures import bad_request

Selector = Callable[[Document], bool]

_LABELS: Final = re.compile(
    r"\s*(?:"
    r"(?P<set>[^\s,!=()]+)\s+(?P<in>in|notin)\s*\((?P<values>[^)]*)\)"
    r"|(?P<key>[^\s,!=()]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^\s,()=!]*)"
    r"|!\s*(?P<absent>[^\s,!=()]+)"
    r"|(?P<present>[^\s,!=()]+)"
    r")\s*(?:,|$)"
)
_FIELDS: Final[Mapping[tuple[str, str], Sequence[str]]] = {
    ("", "pods"): (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    ("", "events"): (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    ("", "nodes"): ("spec.unschedulable",),
    ("", "namespaces"): ("status.phase",),
    ("", "secrets"): ("type",),
    ("", "services"): ("spec.clusterIP", "spec.type"),
    ("", "replicationcontrollers"): ("status.replicas",),
    ("apps", "replicasets"): ("status.replicas",),
    ("batch", "jobs"): ("status.successful",),
}
"""What may be selected by, beside the name and namespace of anything."""


def labels(text: str) -> Selector:
    """Return the selector of ``labelSelector=``.

    Raises:
        Refusal: it is not one.
    """
    wanted: list[tuple[str, str, Sequence[str]]] = []
    at = 0
    while at < len(text):
        found = _LABELS.match(text, at)
        if found is None or found.end() == at:
            raise bad_request(f"unable to parse requirement: found {text[at:]!r}")
        at = found.end()
        if found["set"]:
            values = [value.strip() for value in found["values"].split(",")]
            wanted.append((found["set"], "In" if found["in"] == "in" else "NotIn", values))
        elif found["key"]:
            operator = "NotIn" if found["operator"] == "!=" else "In"
            wanted.append((found["key"], operator, [found["value"]]))
        elif found["absent"]:
            wanted.append((found["absent"], "DoesNotExist", ()))
        else:
            wanted.append((found["present"], "Exists", ()))
    return lambda document: all(_fits(_labels_of(document), *one) for one in wanted)


def object_selector(selector: Document | None) -> Selector:
    """Return the selector of a ``LabelSelector`` object; none and an empty one take everything."""
    selector = selector or {}
    wanted: list[tuple[str, str, Sequence[str]]] = [
        (key, "In", [value]) for key, value in (selector.get("matchLabels") or {}).items()
    ]
    wanted.extend(
        (each["key"], each["operator"], each.get("values") or ())
        for each in selector.get("matchExpressions") or ()
    )
    return lambda document: all(_fits(_labels_of(document), *one) for one in wanted)


def _labels_of(document: Document) -> Mapping[str, str]:
    return document.get("metadata", {}).get("labels") or {}


def _fits(found: Mapping[str, str], key: str, operator: str, values: Sequence[str]) -> bool:
    if operator == "In":
        return key in found and found[key] in values
    if operator == "NotIn":
        return key not in found or found[key] not in values
    return (key in found) == (operator == "Exists")


def fields(text: str, stored: tuple[str, str], also: Sequence[str] = ()) -> Selector:
    """Return the selector of ``fieldSelector=`` for a resource; ``also`` are a custom one's fields.

    Raises:
        Refusal: it is not one, or names a field that the resource cannot be selected by.
    """
    allowed = {"metadata.name", "metadata.namespace", *_FIELDS.get(stored, ()), *also}
    wanted: list[tuple[str, bool, str]] = []
    for term in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term)
        if found is None:
            raise bad_request(f"invalid selector: {term!r}; can't understand {term!r}")
        if found[1] not in allowed:
            raise bad_request(f"field label not supported: {found[1]}")
        wanted.append((found[1], found[2] != "!=", found[3]))
    return lambda document: all(
        (_text(document, path) == value) == equal for path, equal, value in wanted
    )


def _text(document: Document, path: str) -> str:
    if path == "source":
        path = "source.component"
    value = value_at(document, path)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "false" if path == "spec.unschedulable" else ""
    return str(value)
