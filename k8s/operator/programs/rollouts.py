"""Rollouts to deployments and stateful sets: what is changed next, and what is told of them. Pure.

Both replace their pods by themselves. A deployment is let go and held again (``paused``): it is held as soon as
it has made as many new pods as a batch wants, and has at most ``surge`` pods more than it shall have, so that
it passes a batch's goal by ``surge`` at most. A stateful set has a ``partition``: pods from that number on are of
the new revision, which is exact.

How many pods there shall be in all changes only while all are of one revision: a deployment that is resized in the
middle of a replacement would make new pods of the old revision, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cachefs.k8s.kinds import DEPLOYMENTS, STATEFUL_SETS
from cachefs.k8s.names import REVISION, Kind
from cachefs.k8s.operator.actions import Document, Patch

KINDS: Mapping[str, Kind] = {"deployment": DEPLOYMENTS, "statefulset": STATEFUL_SETS}
VARIABLE = "CACHEFS_REVISION"
"""Of the first container: the revision, as replicas of this machine have it, too."""
_FAILURE_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class Shape:
    """What a target shall have."""

    revision: str
    image: str
    """Of the first container; empty for as it is."""
    goal: int
    """Pods of the revision after this batch."""
    replicas: int
    """In the end."""
    surge: int

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Shape":  # Any: JSON
        """Return the shape of a document of ``GET /v1/handed``."""
        return cls(
            document["revision"],
            document["image"],
            document["goal"],
            document["replicas"],
            document["surge"],
        )


def refusal(target: Document | None, name: str) -> str:
    """Say why there can be no rollout to a target; empty if there can."""
    if target is None:
        return f"there is no {name}"
    spec = target["spec"]
    if target["kind"] == DEPLOYMENTS.kind:
        kind = (spec.get("strategy") or {}).get("type", "RollingUpdate")
        wanted = "strategy.type"
    else:
        kind = (spec.get("updateStrategy") or {}).get("type", "RollingUpdate")
        wanted = "updateStrategy.type"
    return "" if kind == "RollingUpdate" else f"its {wanted} is {kind}, and must be RollingUpdate"


def change(target: Document, shape: Shape, pods: Sequence[Document]) -> Patch | None:
    """Return what is changed next on the way to a shape; ``None`` if nothing is.

    Args:
        target: The deployment or stateful set, as it is.
        shape: What it shall have in the end of this batch.
        pods: Its pods.
    """
    if target["kind"] == DEPLOYMENTS.kind:
        wanted = _deployment(target, shape, pods)
    else:
        wanted = _stateful_set(target, shape, pods)
    spec = {**wanted, **_template(target, shape)}
    if all(_same(target["spec"].get(name), value) for name, value in spec.items()):
        return None
    head = target["metadata"]
    return Patch(
        kind=DEPLOYMENTS if target["kind"] == DEPLOYMENTS.kind else STATEFUL_SETS,
        name=head["name"],
        namespace=head["namespace"],
        # Whoever changed it meanwhile is not overwritten: the next look sees what they did.
        patch={"metadata": {"resourceVersion": head["resourceVersion"]}, "spec": spec},
    )


def _deployment(target: Document, shape: Shape, pods: Sequence[Document]) -> Document:
    present = _wanted_replicas(target)
    live = [_mark(pod) for pod in pods if _lives(pod)]
    updated = live.count(shape.revision)
    others = len(live) - updated
    # Those of the revision that are there stay, even if the batch is of fewer.
    goal = max(shape.goal, min(updated, shape.replicas))
    if goal == 0 or (not others and (updated or not present)):
        # All of one revision, or none: as many as the batch wants.
        return {"replicas": goal, "paused": False}
    held = goal < min(present, shape.replicas) and updated >= goal
    rolling: Document = {"paused": held}
    if not held:
        surge = min(shape.surge, max(1, goal - updated))
        rolling["strategy"] = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": 0}}
    return rolling


def _stateful_set(target: Document, shape: Shape, pods: Sequence[Document]) -> Document:
    present = _wanted_replicas(target)
    live = [_mark(pod) for pod in pods if _lives(pod)]
    updated = live.count(shape.revision)
    goal = max(shape.goal, min(updated, shape.replicas))
    if goal == 0:
        return {"replicas": 0}
    replicas = present if len(live) > updated else goal
    partition = max(0, replicas - goal) if goal < shape.replicas else 0
    return {
        "replicas": replicas,
        "updateStrategy": {"rollingUpdate": {"partition": partition}},
    }


def _template(target: Document, shape: Shape) -> Document:
    """Return the template of a revision; nothing if it has it, and nothing of it for no pods."""
    template = target["spec"]["template"]
    if shape.goal == 0:
        return {}
    containers = [dict(one) for one in template["spec"]["containers"]]
    first = containers[0]
    if shape.image:
        first["image"] = shape.image
    others = [one for one in first.get("env") or () if one.get("name") != VARIABLE]
    known = {one["name"]: one for one in first.get("env") or () if one.get("name") == VARIABLE}
    if known.get(VARIABLE, {}).get("value") != shape.revision:
        first["env"] = [*others, {"name": VARIABLE, "value": shape.revision}]
    marks = {REVISION: shape.revision}
    return {"template": {"metadata": {"annotations": marks}, "spec": {"containers": containers}}}


def _same(found: object, wanted: object) -> bool:
    """Say whether a merge patch would change nothing."""
    if isinstance(wanted, dict):
        there = found if isinstance(found, dict) else {}
        return all(_same(there.get(name), value) for name, value in wanted.items())
    return found == wanted or (found is None and wanted is False)


def report(target: Document, pods: Sequence[Document]) -> Document:
    """Return how a target stands, as the coordinator is told."""
    template = target["spec"]["template"]
    return {
        "revision": _mark(template),
        "image": str(template["spec"]["containers"][0].get("image", "")),
        "replicas": [one for pod in pods if _lives(pod) for one in _replicas(pod)],
    }


def selector_of(target: Document) -> Mapping[str, str]:
    """Return the labels by which a target knows its pods; those of expressions are looked at after."""
    labels: Mapping[str, str] = (target["spec"].get("selector") or {}).get("matchLabels") or {}
    return labels


def pods_of(
    target: Document, pods: Sequence[Document], owners: Sequence[Document]
) -> list[Document]:
    """Return which of some pods are a target's.

    Args:
        target: The target.
        pods: With its labels.
        owners: The replica sets of the namespace, if it is a deployment.
    """
    uid = target["metadata"]["uid"]
    mine = {uid, *(one["metadata"]["uid"] for one in owners if _controller(one) == uid)}
    return [pod for pod in pods if _controller(pod) in mine]


def _controller(found: Document) -> str:
    for one in found["metadata"].get("ownerReferences") or ():
        if one.get("controller"):
            return str(one["uid"])
    return ""


def _replicas(pod: Document) -> list[Document]:
    """Return a pod as a replica, and before it the last of its starts that failed, if one has."""
    head, status = pod["metadata"], pod.get("status") or {}
    states = [dict(one) for one in status.get("containerStatuses") or ()]
    starts = sum(int(one.get("restartCount", 0)) for one in states)
    began = _seconds(status.get("startTime"))
    common = {"revision": _mark(pod)}
    found: list[Document] = []
    ready = _ready_at(status)
    for one in states:
        ended = (one.get("lastState") or {}).get("terminated")
        if ended and ready is None:
            found.append(
                {
                    **common,
                    "id": f"{head['uid']}/{starts - 1}",
                    "state": "failed",
                    "started_at": _seconds(ended.get("startedAt")),
                    "failure": _failure(ended),
                }
            )
            break
    now: Document = {**common, "id": f"{head['uid']}/{starts}", "started_at": began}
    if status.get("phase") == "Failed":
        reason = f"{status.get('reason', 'Failed')}: {status.get('message', '')}"
        now |= {"state": "failed", "failure": reason[:_FAILURE_LENGTH_MAX]}
    elif ready is not None:
        now |= {"state": "ready", "ready_seconds": max(0.0, ready - began)}
    else:
        now |= {"state": "starting"}
    return [*found, now]


def _failure(ended: Mapping[str, Any]) -> str:  # Any: JSON
    said = str(ended.get("message", "")).strip()
    text = said or f"{ended.get('reason', 'it ended')} with {ended.get('exitCode')}"
    return text[-_FAILURE_LENGTH_MAX:]


def _ready_at(status: Mapping[str, Any]) -> float | None:  # Any: JSON
    for one in status.get("conditions") or ():
        if one.get("type") == "Ready" and one.get("status") == "True":
            return _seconds(one.get("lastTransitionTime"))
    return None


def _lives(pod: Document) -> bool:
    return (
        not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") != "Succeeded"
    )


def _mark(found: Document) -> str:
    annotations = (found.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(REVISION, ""))


def _wanted_replicas(target: Document) -> int:
    replicas = target["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _seconds(moment: object) -> float:
    return datetime.fromisoformat(str(moment)).timestamp() if moment else 0.0
