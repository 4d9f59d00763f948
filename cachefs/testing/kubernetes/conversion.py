"""From what is stored to the version that was asked for, and back.

Versions of a custom resource differ in ``apiVersion`` only (conversion strategy ``None``). Events are the one kind that two groups serve, with other names for the same fields.
"""

from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.kinds import Resource

_EVENTS: Final = "events.k8s.io"
_RENAMED: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
"""Names in the core's events, and theirs in the newer group."""


def shown(stored: Document, resource: Resource) -> Document:
    """Return a stored object as a resource shows it."""
    head = {"kind": resource.kind, "apiVersion": resource.api_version}
    if resource.group == _EVENTS:
        return {_RENAMED.get(name, name): value for name, value in {**stored, **head}.items()}
    return {**stored, **head}


def kept(document: Document, resource: Resource) -> Document:
    """Return an object of a resource as it is stored."""
    if resource.group != _EVENTS:
        return document
    back = {new: old for old, new in _RENAMED.items()}
    return {back.get(name, name): value for name, value in document.items()}
