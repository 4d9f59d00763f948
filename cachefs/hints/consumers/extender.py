"""The kube-scheduler's extender: ``filter`` and ``prioritize``, asked for each pod while it waits.

The scheduler has filtered by its own knowledge before, so what it names has the accelerators free, and
the question is about data alone. Every node that it names is asked for, and answered by its bare seconds.

``filter`` answers only for pods that bind themselves: to a *required* dataset, of which a node must hold
or await some, or to a *deadline*. It never makes a pod unschedulable by what is merely not there: a
dataset that no node at all holds binds nobody, nor does a deadline that no node would meet. What it
filters out is called unresolvable, so that no pod is evicted from a node for data that is elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Response

from cachefs.core.hints.asking import Question
from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.errors import ConfigError
from cachefs.hints.consumers.asking import Ask
from cachefs.hints.consumers.boundary import JSON_BODY, Body, answer, harmless
from cachefs.hints.consumers.confining import confined
from cachefs.hints.consumers.fields import document, field, objects, text
from cachefs.hints.consumers.pods import question_of
from cachefs.hints.renderings.extender import encoded, scores_of
from cachefs.hints.renderings.scales import is_required, seconds_of

_ASKER = "kube-scheduler"


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the scheduler sends: a pod and nodes, these by name or in full."""

    pod: Any
    names: tuple[str, ...]
    nodes: Sequence[Mapping[str, Any]] | None
    """In full, if it sent them so: then it wants them back so."""

    @classmethod
    def parse(cls, body: bytes) -> "Arguments":
        """Parse ``ExtenderArgs``.

        Raises:
            ConfigError: It has no nodes.
        """
        sent = document(body)
        names, nodes = field(sent, "NodeNames"), field(sent, "Nodes")
        if isinstance(names, list):
            return cls(field(sent, "Pod"), tuple(map(str, names)), None)
        if isinstance(nodes, dict):
            full = objects(nodes, "items")
            named = tuple(text(each, "metadata", "name") for each in full)
            return cls(field(sent, "Pod"), named, full)
        raise ConfigError("neither NodeNames nor Nodes")

    def question(self) -> Question | None:
        """Return the question about these nodes and no accelerators."""
        asked = question_of(self.pod)
        if asked is None:
            return None
        return replace(
            asked, gpu=None, selector={}, candidates=self.names, every=True, limit=1, dry_run=True
        )


def extender_routes(ask: Ask, tenants: Tenants = EVERYBODY) -> APIRouter:
    """Return the routes of an extender whose ``urlPrefix`` ends in ``/k8s/extender``."""
    router = APIRouter(prefix="/k8s/extender", tags=["schedulers"])

    @router.post("/filter", openapi_extra=JSON_BODY)
    def filter_nodes(body: Body) -> Response:
        """Return which nodes a pod that binds itself may go to: ``ExtenderFilterResult``."""
        sent = Arguments.parse(body)
        failed: dict[str, str] = harmless(lambda: failures(sent, ask, tenants), dict, asker=_ASKER)
        return answer(filter_result(sent, failed))

    @router.post("/prioritize", openapi_extra=JSON_BODY)
    def prioritize_nodes(body: Body) -> Response:
        """Return a score of 0 to 10 for every node: ``HostPriorityList``."""
        sent = Arguments.parse(body)
        scored: dict[str, int] = harmless(lambda: scores(sent, ask, tenants), dict, asker=_ASKER)
        return Response(encoded(scored, sent.names), media_type="application/json")

    return router


def scores(sent: Arguments, ask: Ask, tenants: Tenants = EVERYBODY) -> dict[str, int]:
    """Return the nodes' scores; none if the pod is none of our business."""
    asked = confined(sent.question(), tenants)
    if asked is None:
        return {}
    # A deadline changes nothing of the order.
    return scores_of(ask(replace(asked, deadline_seconds=None)), sent.names)


def failures(sent: Arguments, ask: Ask, tenants: Tenants = EVERYBODY) -> dict[str, str]:
    """Return which nodes a pod may not go to, and why."""
    asked = confined(sent.question(), tenants)
    if asked is None or not (is_required(asked) or asked.deadline_seconds is not None):
        return {}
    deadline = asked.deadline_seconds
    # A deadline is kept in seconds as they are, whatever weight they have for the order of nodes.
    readings = tuple(replace(each, weight=1.0) for each in asked.readings)
    asked = replace(asked, readings=readings, deadline_seconds=None)
    hint = ask(asked)
    seconds = seconds_of(hint)
    if seconds and hint.degraded:
        return {}
    if not seconds and not _is_held_anywhere(asked, ask):
        return {}
    failed = {}
    if is_required(asked):
        reason = "it holds nothing of a required dataset"
        failed = {
            name: hint.refused.get(name, reason) for name in sent.names if name not in seconds
        }
    return failed if deadline is None else failed | _too_late(seconds, deadline)


def _is_held_anywhere(asked: Question, ask: Ask) -> bool:
    """Return whether any node at all could take the job, and that is well known."""
    anywhere = ask(replace(asked, candidates=()))
    return bool(seconds_of(anywhere)) and not anywhere.degraded


def _too_late(seconds: Mapping[str, float], deadline: float) -> dict[str, str]:
    late = {
        name: f"needs {each:.0f} s, deadline {deadline:.0f} s"
        for name, each in seconds.items()
        if each > deadline
    }
    return late if len(late) < len(seconds) else {}


def filter_result(sent: Arguments, failed: Mapping[str, str]) -> dict[str, Any]:
    """Return ``ExtenderFilterResult``: the nodes that passed, in the form in which they came."""
    names, nodes = None, None
    if sent.nodes is None:
        names = [name for name in sent.names if name not in failed]
    else:
        pairs = zip(sent.names, sent.nodes, strict=True)
        nodes = {"items": [node for name, node in pairs if name not in failed]}
    return {
        "Nodes": nodes,
        "NodeNames": names,
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {name: failed[name] for name in sent.names if name in failed},
        "Error": "",
    }
