"""Kueue: what a workload asks for, and the status of its admission check.

The controller that watches workloads and writes statuses sends each to the route, which answers with the
entry that it should have. If nobody answers, the controller says so with :func:`unanswered`, and the
workload goes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Response

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import GANG_LIMIT, Gang, Question, Reading
from cachefs.core.names import DatasetName
from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.hints.consumers.asking import Ask
from cachefs.hints.consumers.boundary import JSON_BODY, Body, answer, harmless
from cachefs.hints.consumers.confining import confined, foreign_to, why_without
from cachefs.hints.consumers.fields import document, field, objects, text, texts
from cachefs.hints.consumers.pods import HOLD, duration_of, marks_of, question_of
from cachefs.hints.consumers.volcano import moment
from cachefs.hints.renderings.holding import PATIENCE_SECONDS, should_wait
from cachefs.hints.renderings.kueue import CHECK, PodSet, check_status, timestamp

CONTROLLER = "cachefs.io/data"
"""What an AdmissionCheck of ours has as ``controllerName``."""


def question_of_workload(workload: Any) -> Question | None:  # Any: JSON
    """Return what a workload asks for: the datasets of all its pod sets, for all its pods at once.

    Accelerators, loader and deadline are those of the first pod set that names a dataset; only pod
    sets that name some are members of the gang.

    Raises:
        ConfigError: An annotation of a pod template makes no sense.
    """
    namespace, members = text(workload, "metadata", "namespace"), 0
    first: Question | None = None
    readings: dict[DatasetName, Reading] = {}
    for pod_set in objects(workload, "spec", "podSets"):
        asked = question_of(field(pod_set, "template"), namespace=namespace)
        if asked is None:
            continue
        first = first or asked
        for each in asked.readings:
            readings.setdefault(each.dataset, each)
        count = field(pod_set, "count")
        members += count if isinstance(count, int) and count > 0 else 1
    if first is None:
        return None
    name = text(workload, "metadata", "name")
    gang = Gang(size=min(members, GANG_LIMIT)) if members > 1 else None
    return replace(
        first,
        job=f"{first.tenant}/{name}",
        readings=tuple(readings.values()),
        gang=gang,
        prefetch=True,
    )


def review(workload: Any, hint: Hint, *, check: str = CHECK) -> dict[str, Any]:  # Any: JSON
    """Return the entry of ``status.admissionChecks`` that a workload should have now.

    Args:
        workload: As it is.
        hint: The answer to its question.
        check: The name of the AdmissionCheck.
    """

    def reviewed() -> dict[str, Any]:
        asked = question_of_workload(workload)
        if asked is None:
            return unanswered(hint.generated_at, "it names no dataset", check=check)
        wait = should_wait(
            hint,
            held_seconds=hint.generated_at - _held_since(workload, check, hint.generated_at),
            patience_seconds=_patience(workload),
        )
        pod_sets = [_pod_set(each) for each in objects(workload, "spec", "podSets")]
        return check_status(hint, asked, pod_sets, wait_seconds=wait, name=check)

    def none() -> dict[str, Any]:
        return unanswered(hint.generated_at, "it could not be understood", check=check)

    status = harmless(reviewed, none, asker="kueue")
    before = _entry(workload, check)
    stays = status["state"] != "Retry" and text(before, "state") == status["state"]
    if stays and text(before, "lastTransitionTime"):  # Kueue counts the seconds of Retry from there
        status["lastTransitionTime"] = text(before, "lastTransitionTime")
    return status


def kueue_routes(ask: Ask, wall: Callable[[], float], tenants: Tenants = EVERYBODY) -> APIRouter:
    """Return the route for the controller of our admission checks.

    Args:
        ask: Answers a question.
        wall: The time, in seconds since 1970.
        tenants: Says of which namespaces workloads get hints about others' datasets.
    """
    router = APIRouter(prefix="/k8s", tags=["schedulers"])

    @router.post("/kueue", openapi_extra=JSON_BODY)
    def check(body: Body) -> Response:
        """Return the entry of ``status.admissionChecks`` that a workload should have now.

        The body is ``{"workload": …, "check": NAME}``; the answer ``{"entry": …}``.
        """
        asked = document(body)
        workload, name = field(asked, "workload"), text(asked, "check") or CHECK

        def reviewed() -> dict[str, Any]:
            question = question_of_workload(workload)
            if question is None:
                return unanswered(wall(), "it names no dataset", check=name)
            own = confined(question, tenants)
            if own is None:
                why = why_without(foreign_to(question, tenants), question.tenant)
                return unanswered(wall(), why, check=name)
            return review(workload, ask(own), check=name)

        def none() -> dict[str, Any]:
            return unanswered(wall(), "it could not be understood", check=name)

        return answer({"entry": harmless(reviewed, none, asker="kueue")})

    return router


def unanswered(now: float, why: str, *, check: str = CHECK) -> dict[str, Any]:
    """Return the entry that lets a workload go without a hint.

    Args:
        now: Wall clock, seconds since 1970.
        why: There is none; for people.
        check: The name of the AdmissionCheck.
    """
    return {
        "name": check,
        "state": "Ready",
        "message": f"no opinion: {why}",
        "lastTransitionTime": timestamp(now),
    }


def _entry(workload: Any, check: str) -> Mapping[str, Any]:  # Any: JSON
    entries = objects(workload, "status", "admissionChecks")
    return next((each for each in entries if text(each, "name") == check), {})


def _held_since(workload: Any, check: str, now: float) -> float:  # Any: JSON
    """Return since when the check holds a workload.

    A workload that is tried again and again was held since it was created; one that waits with its
    quota, since it got that. Either way no one is held for more than twice its patience.
    """
    entry = _entry(workload, check)
    if text(entry, "state") == "Retry" or field(entry, "retryCount"):
        return moment(text(workload, "metadata", "creationTimestamp"), otherwise=0.0)
    return moment(text(entry, "lastTransitionTime"), otherwise=now)


def _patience(workload: Any) -> float:  # Any: JSON
    templates = [field(each, "template") for each in objects(workload, "spec", "podSets")]
    held = duration_of(marks_of(workload, *templates), HOLD)
    return PATIENCE_SECONDS if held is None else held


def _pod_set(pod_set: Any) -> PodSet:  # Any: JSON
    return PodSet(
        text(pod_set, "name"),
        selects=frozenset(texts(pod_set, "template", "spec", "nodeSelector")),
        annotations=frozenset(texts(pod_set, "template", "metadata", "annotations")),
    )
