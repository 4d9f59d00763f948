"""What travels: JSON objects of Kubernetes, and the few things that are asked of all of them."""

from datetime import UTC, datetime
from typing import Any

Json = Any  # Any: JSON
Document = dict[str, Any]  # Any: JSON
Key = tuple[str, str, str, str]
"""Where an object is kept: group, plural, namespace (empty on the cluster's level), name."""


def meta(document: Document) -> Document:
    """Return an object's metadata, made if it has none."""
    found = document.get("metadata")
    if not isinstance(found, dict):
        found = document["metadata"] = {}
    return found


def timestamp(wall_seconds: float) -> str:
    """Return a time as Kubernetes writes it: RFC 3339, to the second, in UTC."""
    return datetime.fromtimestamp(wall_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def value_at(document: Json, path: str) -> Json:
    """Return what a dotted path (``.spec.replicas``) leads to; ``None`` where it leads nowhere."""
    for name in path.strip(".").split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def set_at(document: Document, path: str, value: Json) -> None:
    """Set what a dotted path leads to, with the objects on the way."""
    *way, last = path.strip(".").split(".")
    for name in way:
        document = document.setdefault(name, {})
    document[last] = value
