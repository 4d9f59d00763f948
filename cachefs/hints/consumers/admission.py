"""The mutating webhook: pods that name datasets get node affinity when they are created.

The review is of ``admission.k8s.io/v1``. Whatever happens, the pod is allowed: without an opinion there
is no patch, and what was wrong with its annotations is a warning that ``kubectl`` shows. A pod that
carries a hint's id or our gate was here before and is left alone, so being called again changes nothing. In a dry
run nothing is kept or begun, and the patch is the same.

For a *required* dataset the pod may only go where it is held or awaited. Where no node holds any, it
is not required: the first job to read a dataset has to go somewhere.

KAI's scheduler does not score preferred node affinity, so pods that it places get affinity to the pods of
the cache's workers instead (:mod:`cachefs.hints.renderings.kai`).

With *gates*, a pod that says ``cachefs.io/hold`` waits, at most so long, until its data is close; whoever
turns gates on runs the controller that calls :func:`released`, as no one else takes them away. A review begins
nothing: anybody may send one, and its pod may be refused by another webhook. What is missing is brought when the
controller asks first, and whether there is any use in waiting is known then.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Response

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Affinity, Question
from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.errors import ConfigError
from cachefs.hints.consumers.asking import Ask
from cachefs.hints.consumers.boundary import JSON_BODY, Body, answer, harmless
from cachefs.hints.consumers.confining import confined, foreign_to, why_without
from cachefs.hints.consumers.fields import document, field, text
from cachefs.hints.consumers.patching import (
    POD,
    Operation,
    affinity_patch,
    annotation,
    annotation_patch,
    gate_patch,
    ungate_patch,
)
from cachefs.hints.consumers.pods import HOLD, duration_of, marks_of, question_of
from cachefs.hints.renderings.affinity import (
    Hostname,
    hostname_expression,
    own_name,
    preferred_terms,
)
from cachefs.hints.renderings.holding import PATIENCE_SECONDS, seconds_away, should_wait
from cachefs.hints.renderings.kai import NAMESPACE, SCHEDULERS, worker_terms
from cachefs.hints.renderings.marks import HINT_ID
from cachefs.hints.renderings.scales import binds, hosts, is_required

_ASKER = "admission"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """How pods are changed."""

    ask: Ask
    hostname: Hostname = own_name
    """From a node to the value of its label ``kubernetes.io/hostname``."""
    namespace: str = NAMESPACE
    """Where the workers' pods are, near which KAI puts others."""
    gates: bool = False
    """Whether pods may be held by a scheduling gate."""
    tenants: Tenants = EVERYBODY
    """Of which namespaces pods get hints about others' datasets."""

    def response(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response to the request of a review."""
        warnings: list[str] = []

        def patched() -> list[Operation]:
            try:
                return self.patch(request, warnings)
            except ConfigError as error:
                warnings.append(f"cachefs has no hint for this pod: {error}")
                return []

        def untouched() -> list[Operation]:
            return []

        patch = harmless(patched, untouched, asker=_ASKER)
        response: dict[str, Any] = {"uid": text(request, "uid"), "allowed": True}
        if patch:
            encoded = base64.b64encode(json.dumps(patch, separators=(",", ":")).encode())
            response |= {"patchType": "JSONPatch", "patch": encoded.decode("ascii")}
        if warnings:
            response["warnings"] = warnings
        return response

    def patch(self, request: Mapping[str, Any], warnings: list[str]) -> list[Operation]:
        """Return what changes a pod that is being created; warnings are added to the list."""
        pod = field(request, "object")
        concerns_us = (
            text(request, "operation") == "CREATE"
            and text(request, "kind", "kind") == "Pod"
            and not text(request, "subResource")
            and isinstance(field(pod, "spec"), dict)
            and not text(pod, "spec", "nodeName")
            and not annotation(pod, HINT_ID)
            and not ungate_patch(pod)
        )
        asked = question_of(pod, namespace=text(request, "namespace")) if concerns_us else None
        foreign = foreign_to(asked, self.tenants) if asked is not None else ()
        if asked is not None and foreign:
            warnings.append(why_without(foreign, asked.tenant))
        asked = confined(asked, self.tenants)
        if asked is None:
            return []
        hold = duration_of(marks_of(pod), HOLD) if self.gates else None
        asked = replace(asked, dry_run=field(request, "dryRun") is True, every=True)
        hint = self._ask(asked)
        if hold and seconds_away(hint):
            return gate_patch(pod)  # it is stamped when it is released
        return self.stamp(pod, asked, hint, warnings)

    def stamp(
        self, pod: Any, asked: Question, hint: Hint, warnings: list[str]
    ) -> list[Operation]:  # Any: JSON
        """Return what gives a pod a hint's affinity and its id; nothing without an opinion."""
        expression = None
        if is_required(asked):
            holders = self._holders(asked)
            if holders:
                expression = hostname_expression(holders, self.hostname)
            else:
                names = ", ".join(str(each.dataset) for each in _required(asked))
                warnings.append(f"cachefs: no node is known to hold {names}; it is not required")
        if text(pod, "spec", "schedulerName") not in SCHEDULERS:
            patch = affinity_patch(pod, preferred_terms(hint), expression)
        elif expression is None:
            terms = worker_terms(hint, namespace=self.namespace)
            patch = affinity_patch(pod, terms, kind=POD)
        else:
            patch = affinity_patch(pod, [], expression)
        return patch + annotation_patch(pod, HINT_ID, hint.id) if patch else []

    def _ask(self, asked: Question) -> Hint:
        """Ask; once more without the pod's node selector if no node is known to have such labels.

        The scheduler heeds the selector in any case, and an inventory need not know labels.
        """
        hint = self.ask(asked)
        if not hint.has_opinion and asked.selector:
            hint = self.ask(replace(asked, selector={}))
        return hint

    def _holders(self, asked: Question) -> list[str]:
        """Return the nodes that hold or await some of every required dataset, free or not."""
        held = replace(
            asked,
            readings=_required(asked),
            gpu=None,
            selector={},
            deadline_seconds=None,
            prefetch=False,
            dry_run=True,
            every=True,
            limit=1,
        )
        hint = self.ask(held)
        return hosts(hint) if binds(hint, held) and not hint.degraded else []


def _required(asked: Question) -> tuple[Any, ...]:  # Any: readings
    return tuple(each for each in asked.readings if each.affinity is Affinity.REQUIRED)


def admission_routes(admission: Admission) -> APIRouter:
    """Return the route of the webhook."""
    router = APIRouter(prefix="/k8s", tags=["schedulers"])

    @router.post("/mutate", openapi_extra=JSON_BODY)
    def mutate(body: Body) -> Response:
        """Give a pod node affinity: ``AdmissionReview`` of ``admission.k8s.io/v1``."""
        request = field(document(body), "request")
        if not text(request, "uid"):
            raise ConfigError("not an AdmissionReview: its request has no uid")
        return answer(
            {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": admission.response(request),
            }
        )

    @router.post("/release", openapi_extra=JSON_BODY)
    def release(body: Body) -> Response:
        """Say whether a pod that our gate holds may go: ``{"pod": …, "gated_s": …}`` in, ``{"patch": […]}`` out.

        The patch is a JSON patch (RFC 6902), with fresh affinity; it is empty while the pod had better wait.
        """
        asked = document(body)
        held = field(asked, "gated_s")
        seconds = float(held) if isinstance(held, int | float) else 0.0
        return answer({"patch": released(field(asked, "pod"), admission, gated_seconds=seconds)})

    return router


def released(
    pod: Any, admission: Admission, *, gated_seconds: float
) -> list[Operation]:  # Any: JSON
    """Return the patch that lets a gated pod go, with a fresh hint; empty while it should wait.

    For the controller that watches pods with our gate; a pod without it stays as it is. One is let go when its data is close or nothing
    is known any more, and at the latest when it has waited as long as it said.

    Args:
        pod: As it is now.
        admission: Asks for the hint.
        gated_seconds: Since the pod was created.
    """

    def stamped() -> list[Operation] | None:
        asked = confined(question_of(pod), admission.tenants)
        if asked is None:
            return []
        patience = duration_of(marks_of(pod), HOLD) or PATIENCE_SECONDS
        asked = replace(asked, every=True, prefetch=True)
        hint = admission.ask(asked)
        if should_wait(hint, held_seconds=gated_seconds, patience_seconds=patience):
            return None
        return admission.stamp(pod, asked, hint, [])

    opening = ungate_patch(pod)
    if not opening:
        return []
    patch = harmless(stamped, list, asker=_ASKER)
    return [] if patch is None else patch + opening
