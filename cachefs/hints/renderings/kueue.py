"""Kueue's admission check: the status that says whether a workload should wait for its data.

A workload that waits keeps its quota while the rest takes a minute or less (``Pending``); for longer it
gives it back and is tried again when the data should be there (``Retry``). Whatever is not worth
waiting for is ``Ready``: what Kueue admits is at worst slower. Nothing is ever ``Rejected``.

``Ready`` pins pods to a zone where the job binds itself to a place. What a pod set says itself is never
said again: Kueue rejects a workload for an update of a key that is there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.hints.renderings.holding import seconds_missing
from cachefs.hints.renderings.marks import HINT_ID, ZONE
from cachefs.hints.renderings.scales import binds

CHECK = "cachefs"
"""The name of the AdmissionCheck, unless it is called otherwise."""
PENDING_SECONDS_MAX = 60.0
"""For longer than this, quota is better given back."""


@dataclass(frozen=True, slots=True)
class PodSet:
    """One of a workload's sets of like pods, as far as a check may change it."""

    name: str
    selects: frozenset[str] = frozenset()
    """Labels that its node selector has a value for."""
    annotations: frozenset[str] = frozenset()
    """Those that its pods have already."""


def check_status(
    hint: Hint,
    question: Question,
    pod_sets: Sequence[PodSet],
    *,
    wait_seconds: float,
    name: str = CHECK,
) -> dict[str, Any]:
    """Return an entry of ``status.admissionChecks``.

    Args:
        hint: What is known.
        question: What it answers.
        pod_sets: The workload's.
        wait_seconds: For how long it had better wait; 0 to let it go.
        name: Of the check.
    """
    status: dict[str, Any] = {
        "name": name,
        "state": "Ready",
        "message": _message(hint, wait_seconds),
        "lastTransitionTime": timestamp(hint.generated_at),
    }
    if wait_seconds > PENDING_SECONDS_MAX:
        status |= {"state": "Retry", "requeueAfterSeconds": math.ceil(wait_seconds)}
    elif wait_seconds:
        status["state"] = "Pending"
    elif hint.has_opinion:
        status["podSetUpdates"] = [_update(hint, question, each) for each in pod_sets]
    return status


def kueue(hint: Hint, question: Question) -> dict[str, Any]:
    """Return the status of a workload with one pod set, ``main``, that has not waited yet."""
    return check_status(hint, question, [PodSet("main")], wait_seconds=seconds_missing(hint))


def timestamp(wall: float) -> str:
    """Return a moment as Kubernetes writes it, to the second."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _update(hint: Hint, question: Question, pod_set: PodSet) -> dict[str, Any]:
    update: dict[str, Any] = {"name": pod_set.name}
    if HINT_ID not in pod_set.annotations:
        update["annotations"] = {HINT_ID: hint.id}
    zone = _zone(hint, question)
    if zone and ZONE not in pod_set.selects:
        update["nodeSelector"] = {ZONE: zone}
    return update


def _zone(hint: Hint, question: Question) -> str:
    """Return the one zone that a job which binds itself to a place should run in."""
    gang = question.gang
    if not binds(hint, question) and (gang is None or gang.required_topology is None):
        return ""
    names = set(hint.gang.assignment if hint.gang is not None else [hint.nodes[0].node])
    zones = {each.zone for each in hint.nodes if each.node in names}
    return zones.pop() if len(zones) == 1 else ""


def _message(hint: Hint, wait_seconds: float) -> str:
    if wait_seconds:
        return f"the data is close in about {math.ceil(wait_seconds)} s"
    if not hint.has_opinion:
        return f"no opinion: {hint.degraded}" if hint.degraded else "no opinion"
    best = hint.nodes[0]
    if hint.gang is not None:
        ready, bottleneck = hint.gang.ready.p50, hint.gang.bottleneck
    else:
        ready, bottleneck = best.ready.p50, best.breakdown.bottleneck
    return f"ready in about {math.ceil(ready)} s; the longest part is {bottleneck}"
