"""Lists and objects as tables, for ``kubectl get``: the columns of a definition, or of the kinds people look at."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from cachefs.testing.kubernetes.documents import Document, Json
from cachefs.testing.kubernetes.kinds import Resource

_NAME: Final = {"name": "Name", "type": "string", "format": "name", "priority": 0}
_AGE: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_BUILT_IN: Final[Mapping[tuple[str, str], Sequence[tuple[str, str]]]] = {
    ("", "pods"): (("Status", ".status.phase"), ("Node", ".spec.nodeName")),
    ("", "namespaces"): (("Status", ".status.phase"),),
    ("", "events"): (
        ("Type", ".type"),
        ("Reason", ".reason"),
        ("Object", ".involvedObject.name"),
        ("Message", ".message"),
    ),
    ("", "persistentvolumeclaims"): (("Status", ".status.phase"), ("Volume", ".spec.volumeName")),
    ("", "persistentvolumes"): (("Status", ".status.phase"), ("Claim", ".spec.claimRef.name")),
    ("apps", "deployments"): (("Ready", ".status.readyReplicas"), ("Wanted", ".spec.replicas")),
    ("apps", "statefulsets"): (("Ready", ".status.readyReplicas"), ("Wanted", ".spec.replicas")),
    ("coordination.k8s.io", "leases"): (("Holder", ".spec.holderIdentity"),),
}


def is_table_wanted(accept: str) -> bool:
    """Say whether an ``Accept`` header prefers tables."""
    return "as=Table" in accept.partition(",")[0]


def table(document: Document, resource: Resource, now: datetime) -> Document:
    """Return a list or an object as a ``Table``."""
    items = document.get("items", [document])
    columns = columns_of(resource)
    shown = [
        _NAME,
        *(
            {
                "name": each["name"],
                "type": each["type"],
                "format": each.get("format", ""),
                "description": each.get("description", ""),
                "priority": each.get("priority", 0),
            }
            for each in columns
        ),
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {
            name: value
            for name, value in document["metadata"].items()
            if name in ("resourceVersion", "continue", "remainingItemCount")
        },
        "columnDefinitions": shown,
        "rows": [_row(item, columns, now) for item in items],
    }


def columns_of(resource: Resource) -> list[Document]:
    """Return the columns of a resource beside its name."""
    if resource.custom:
        columns = list(resource.columns)
        return columns or [_AGE]
    known = _BUILT_IN.get(resource.stored, ())
    return [{"name": name, "type": "string", "jsonPath": path} for name, path in known] + [_AGE]


def _row(item: Document, columns: Sequence[Document], now: datetime) -> Document:
    cells = [item["metadata"]["name"]]
    for column in columns:
        value = json_path(item, column["jsonPath"])
        if column["type"] == "date" and value is not None:
            value = _age(str(value), now)
        elif column["type"] in _CELLS and value is not None:
            value = _CELLS[column["type"]](value)
        cells.append(value)
    kept = ("name", "namespace", "uid", "creationTimestamp", "resourceVersion", "labels")
    metadata = {name: item["metadata"][name] for name in kept if name in item["metadata"]}
    head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {"cells": cells, "object": {**head, "metadata": metadata}}


def _text(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_CELLS: Final[Mapping[str, Callable[[Json], Json]]] = {
    "string": _text,
    "integer": int,
    "number": float,
}


def json_path(document: Json, path: str) -> Json:
    """Return the first value that a simple JSON path leads to: names, indexes, ``[?(@.type=="Ready")]``."""
    for name, index, key, wanted in _STEPS.findall(path):
        if name:
            field = name.replace("\\.", ".")
            document = document.get(field) if isinstance(document, dict) else None
        elif not isinstance(document, list):
            return None
        elif index:
            document = document[int(index)] if int(index) < len(document) else None
        else:
            fitting = (item for item in document if str(item.get(key)) == wanted)
            document = next(fitting, None)
    return document


_STEPS: Final = re.compile(
    r"\.((?:[^.\[\\]|\\.)+)|\[(\d+)\]|\[\?\(@\.([^=\s]+)\s*==\s*[\"']([^\"']*)[\"']\)\]"
)


def _age(text: str, now: datetime) -> str:
    """Return how long ago a time is, as kubectl shows it: ``5s``, ``3m``, ``2h``, ``4d``."""
    then = datetime.fromisoformat(text).astimezone(UTC)
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
