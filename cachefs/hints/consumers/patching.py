"""JSON patches that give a pod our affinity and take nothing from it.

Preferred terms are added to those that are there: the scheduler adds weights up. A required expression
is added to *every* term that is there, since terms mean *or* and expressions within one mean *and*: a
term of our own beside them would let the pod go where the user forbade. A term without expressions
admits no node, and stays as it is: an expression of ours would make it admit some.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cachefs.hints.consumers.fields import field, objects, text, texts
from cachefs.hints.renderings.affinity import PREFERRED, REQUIRED
from cachefs.hints.renderings.marks import DATA_READY

Operation = dict[str, Any]
"""Of a JSON patch (RFC 6902)."""

NODE, POD = "nodeAffinity", "podAffinity"
"""Kinds of affinity: to nodes, and to nodes that have certain pods."""


def affinity_patch(
    pod: Any,
    preferred: Sequence[Mapping[str, Any]],
    expression: Mapping[str, Any] | None = None,
    *,
    kind: str = NODE,
) -> list[Operation]:  # Any: JSON
    """Return what gives a pod preferred terms and a required expression; either may be none.

    Args:
        pod: As it is.
        preferred: Terms with weights, of this kind.
        expression: What a node must be, besides what the pod says; of affinity to nodes only.
        kind: Of affinity.
    """
    path = f"/spec/affinity/{kind}"
    present = field(pod, "spec", "affinity", kind)
    added: dict[str, Any] = {}
    if preferred:
        added[PREFERRED] = list(preferred)
    if expression is not None:
        added[REQUIRED] = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    if not added:
        return []
    if not isinstance(field(pod, "spec", "affinity"), dict):
        return [_add("/spec/affinity", {kind: added})]
    if not isinstance(present, dict):
        return [_add(path, added)]
    patch: list[Operation] = []
    if preferred:
        patch += _appended(present, f"{path}/{PREFERRED}", PREFERRED, preferred)
    if expression is not None:
        patch += _narrowed(present, f"{path}/{REQUIRED}", added[REQUIRED], expression)
    return patch


def _appended(
    present: Mapping[str, Any], path: str, name: str, values: Sequence[Any]
) -> list[Operation]:
    there = field(present, name)
    if isinstance(there, list) and there:
        return [_add(f"{path}/-", value) for value in values]
    return [_add(path, list(values))]


def _narrowed(
    present: Mapping[str, Any], path: str, whole: Mapping[str, Any], expression: Mapping[str, Any]
) -> list[Operation]:
    terms = field(present, REQUIRED, "nodeSelectorTerms")
    if not isinstance(terms, list) or not terms:
        return [_add(path, whole)]
    patch: list[Operation] = []
    for index, term in enumerate(terms):
        if not isinstance(term, dict):
            continue
        if term.get("matchExpressions") or term.get("matchFields"):
            inner = f"{path}/nodeSelectorTerms/{index}/matchExpressions"
            patch += _appended(term, inner, "matchExpressions", [expression])
    return patch


def annotation_patch(pod: Any, key: str, value: str) -> list[Operation]:  # Any: JSON
    """Return what gives a pod an annotation."""
    if not isinstance(field(pod, "metadata"), dict):
        return [_add("/metadata", {"annotations": {key: value}})]
    if not isinstance(field(pod, "metadata", "annotations"), dict):
        return [_add("/metadata/annotations", {key: value})]
    return [_add(f"/metadata/annotations/{_escaped(key)}", value)]


def gate_patch(pod: Any) -> list[Operation]:  # Any: JSON
    """Return what gives a pod that is being created our scheduling gate."""
    gates = objects(pod, "spec", "schedulingGates")
    if any(each.get("name") == DATA_READY for each in gates):
        return []
    path = "/spec/schedulingGates"
    gate = {"name": DATA_READY}
    return [_add(f"{path}/-", gate) if gates else _add(path, [gate])]


def ungate_patch(pod: Any) -> list[Operation]:  # Any: JSON
    """Return what takes our scheduling gate from a pod.

    It tests first that the gate is still where it was: others may take theirs at the same time.
    """
    gates = field(pod, "spec", "schedulingGates")
    for index, each in enumerate(gates if isinstance(gates, list) else ()):
        if text(each, "name") == DATA_READY:
            path = f"/spec/schedulingGates/{index}"
            return [
                {"op": "test", "path": f"{path}/name", "value": DATA_READY},
                {"op": "remove", "path": path},
            ]
    return []


def annotation(pod: Any, key: str) -> str:  # Any: JSON
    """Return a pod's annotation; empty if it has none."""
    return texts(pod, "metadata", "annotations").get(key, "")


def _add(path: str, value: Any) -> Operation:  # Any: JSON
    return {"op": "add", "path": path, "value": value}


def _escaped(key: str) -> str:
    """Return a key as a part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
