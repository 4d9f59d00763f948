"""Volcano's ``extender`` plugin: ``prioritize`` for a task, ``jobEnqueueable`` for a whole job.

Both carry Volcano's own objects, in which the pods are Kubernetes'. The plugin calls ``urlPrefix/verb``,
so the weight of our scores is in the verb: ``prioritize?weight=10``.

``jobEnqueueable`` keeps a job out of the queue while its data comes, if the job says how long that may
take: ``cachefs.io/hold: 10m`` on its PodGroup or its pods. Else, and whenever we have no opinion, we abstain.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from cachefs.core.hints.asking import GANG_LIMIT, Gang, Question
from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.hints.consumers.asking import Ask
from cachefs.hints.consumers.boundary import JSON_BODY, Body, answer, harmless
from cachefs.hints.consumers.confining import confined
from cachefs.hints.consumers.fields import document, field, objects, text, texts
from cachefs.hints.consumers.pods import HOLD, duration_of, marks_of, question_of
from cachefs.hints.renderings.holding import should_wait
from cachefs.hints.renderings.volcano import node_scores

ABSTAIN, REJECT = 0, -1
"""Volcano's votes on whether a job may be enqueued; any other plugin may still vote."""

_ASKER = "volcano"
_WEIGHT_MAX = 1000.0

Weight = Annotated[float, Query(gt=0, le=_WEIGHT_MAX, allow_inf_nan=False)]


def volcano_routes(ask: Ask, tenants: Tenants = EVERYBODY) -> APIRouter:
    """Return the routes of an extender whose ``urlPrefix`` ends in ``/volcano``."""
    router = APIRouter(prefix="/volcano", tags=["schedulers"])

    @router.post("/prioritize", openapi_extra=JSON_BODY)
    def prioritize_nodes(body: Body, weight: Weight = 1.0) -> Response:
        """Return a score of 0 to 100, times the weight, for every node: ``PrioritizeResponse``."""
        sent = document(body)
        names = tuple(text(each, "Name") for each in objects(sent, "nodes"))
        none = {"nodeScore": dict.fromkeys(names, 0.0), "errorMessage": ""}

        def scores() -> dict[str, Any]:
            asked = confined(_question(field(sent, "task", "Pod"), names), tenants)
            return none if asked is None else node_scores(ask(asked), names, weight=weight)

        return answer(harmless(scores, lambda: none, asker=_ASKER))

    @router.post("/jobEnqueueable", openapi_extra=JSON_BODY)
    def vote(body: Body) -> Response:
        """Return whether a job may be enqueued: ``JobEnqueueableResponse``."""
        job = field(document(body), "job")
        status = harmless(lambda: job_vote(job, ask, tenants), lambda: ABSTAIN, asker=_ASKER)
        return answer({"status": status})

    return router


def job_vote(job: Any, ask: Ask, tenants: Tenants = EVERYBODY) -> int:  # Any: JSON
    """Return the vote on a job: to reject it for now while its data comes, or none."""
    template, members = _template(job)
    patience = duration_of(marks_of(template), HOLD)
    asked = confined(question_of(template, namespace=text(job, "Namespace")), tenants)
    if asked is None or not patience:
        return ABSTAIN
    least = field(job, "MinAvailable")
    least = min(max(least, 1), members) if isinstance(least, int) else members
    gang = Gang(size=members, least=least) if members > 1 else None
    hint = ask(replace(asked, job=f"{asked.tenant}/{text(job, 'Name')}", gang=gang, prefetch=True))
    held = hint.generated_at - moment(text(job, "CreationTimestamp"), otherwise=0.0)
    return REJECT if should_wait(hint, held_seconds=held, patience_seconds=patience) else ABSTAIN


def _template(job: Any) -> tuple[Mapping[str, Any], int]:  # Any: JSON
    """Return what a job's pods are like, and how many there are.

    Before a job is enqueued, Volcano has usually made none of its pods. Then its PodGroup, which has the
    annotations of the job, speaks for them, and its least resources are those of its least members. It
    has the last word in any case. Its metadata are fields of its own in Volcano's types.
    """
    group = field(job, "PodGroup")
    metadata = field(group, "metadata") or group
    pods = [field(each, "Pod") for each in _tasks(job)]
    pod = pods[0] if pods else {"spec": _spec(group)}
    least = field(job, "MinAvailable")
    members = len(pods) or (least if isinstance(least, int) and least > 0 else 1)
    marks = {
        kind: {**texts(pod, "metadata", kind), **texts(metadata, kind)}
        for kind in ("annotations", "labels")
    }
    return {"metadata": marks, "spec": field(pod, "spec")}, min(members, GANG_LIMIT)


def _spec(group: Any) -> Mapping[str, Any]:  # Any: JSON
    """Return a pod's specification with a member's part of a group's least resources."""
    members = field(group, "Spec", "MinMember")
    members = members if isinstance(members, int) and members > 0 else 1
    share: dict[str, float] = {}
    for resource, amount in (field(group, "Spec", "MinResources") or {}).items():
        with suppress(ValueError, TypeError):  # memory, and what else is not counted
            share[resource] = float(amount) // members
    return {"containers": [{"resources": {"requests": share}}]}


def moment(written: str, *, otherwise: float) -> float:
    """Return a moment that Kubernetes wrote, in seconds since 1970."""
    try:
        return datetime.fromisoformat(written).timestamp()
    except ValueError:
        return otherwise


def _tasks(job: Any) -> list[Mapping[str, Any]]:  # Any: JSON
    tasks = field(job, "Tasks")
    return [each for _, each in sorted(tasks.items())] if isinstance(tasks, dict) else []


def _question(pod: Any, names: tuple[str, ...]) -> Question | None:  # Any: JSON
    """Return the question about nodes on which Volcano has found room already."""
    asked = question_of(pod)
    if asked is None:
        return None
    return replace(
        asked,
        gpu=None,
        selector={},
        deadline_seconds=None,
        candidates=names,
        every=True,
        limit=1,
        dry_run=True,
    )
