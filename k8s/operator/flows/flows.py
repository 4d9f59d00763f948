"""Flows: what a ``Flow`` says is checked by the coordinator, and its triggers are registered there. Pure.

A flow that the coordinator has in our name carries the object's uid and generation as its *owner*, so that
what somebody else registered is never taken for ours, and an object that changed is seen to have changed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachefs.errors import CacheFSError, ConfigError, NotAllowedError
from cachefs.k8s.crds.flows import FlowSpec
from cachefs.k8s.operator.actions import Action, Ask, Document
from cachefs.k8s.operator.standing import (
    Condition,
    conditions,
    found_condition,
    show,
    words_of,
)

FILE = "flow"
"""What the coordinator calls the document in its messages."""
OWNER = "kubernetes"
_PROBLEM = re.compile(rf"^{FILE}:\d+:\d+: (.*)$", re.MULTILINE)
"""Its line and column are of our own text, which nobody sees; the path that follows is the object's."""
_PROBLEMS_MAX = 100
_PROBLEM_LENGTH_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there is of a flow besides its object."""

    at: float
    """Seconds since 1970."""
    registered: Mapping[str, Any] | None  # Any: JSON
    """As the coordinator has it registered."""
    last_run: str
    problem: CacheFSError | None = None
    """What the coordinator had to say against it."""


def owner_of(document: Document) -> str:
    """Return whose a registered flow is that was made from an object as it is now."""
    head = document["metadata"]
    return f"{OWNER} {head['uid']} {head.get('generation', 0)}"


def text_of(document: Mapping[str, Any]) -> str:  # Any: JSON
    """Return a flow's document as text: JSON, which is YAML without its surprises."""
    return json.dumps(document, ensure_ascii=False, indent=2)


def needs_check(document: Document) -> bool:
    """Say whether the coordinator has not yet checked an object as it is now."""
    valid = found_condition(document, "Valid")
    generation = document["metadata"].get("generation", 0)
    return valid.get("observedGeneration") != generation or valid.get("status") == "Unknown"


def reconcile(document: Document, spec: FlowSpec, seen: Seen) -> tuple[Action, ...]:
    """Return what is missing: the registration of a flow with triggers, and what its status says."""
    valid = _valid(document, seen.problem)
    registered, actions = _registered(document, spec, seen, valid)
    problems = problems_of(seen.problem) if seen.problem is not None else ()
    if seen.problem is None and valid.status == "False":
        problems = tuple((document.get("status") or {}).get("problems") or ())
    status: Document = {
        "observedGeneration": document["metadata"].get("generation", 0),
        "conditions": conditions(document, (valid, registered), at=seen.at),
    }
    if problems:
        status["problems"] = list(problems)
    if seen.last_run:
        status["lastRun"] = seen.last_run
    return (*actions, *show(document, status))


def gone(namespace: str, name: str, registered: Mapping[str, Any] | None) -> tuple[Action, ...]:
    """Return what is left to be done for a flow whose object is gone."""
    if registered is not None and str(registered["owner"]).startswith(f"{OWNER} "):
        return (Ask(method="DELETE", path=f"/v1/flows/{namespace}/{name}"),)
    return ()


def problems_of(error: CacheFSError, *, within: str = "") -> tuple[str, ...]:
    """Return the problems that a message names, each with its path: ``spec.steps.a.kind``.

    Args:
        error: What the coordinator had to say against a document.
        within: What goes before each path, where the document is not the object itself: ``Flow f: ``.
    """
    found = [within + problem for problem in _PROBLEM.findall(str(error))]
    chosen = found or [words_of(error)]
    return tuple(one[:_PROBLEM_LENGTH_MAX] for one in chosen[:_PROBLEMS_MAX])


def first_of(problems: Sequence[str]) -> str:
    """Return the first of some problems, and how many there are besides."""
    return problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")


def _valid(document: Document, problem: CacheFSError | None) -> Condition:
    if isinstance(problem, ConfigError):
        return Condition("Valid", "False", "Invalid", first_of(problems_of(problem)))
    before = found_condition(document, "Valid")
    if isinstance(problem, NotAllowedError):
        # Whoever runs the cluster may allow it: it is asked again without a change of the object.
        return Condition("Valid", "Unknown", "NotAllowed", words_of(problem))
    if problem is not None:
        return Condition("Valid", "Unknown", "NotChecked", words_of(problem))
    if before.get("status") == "False" and not needs_check(document):
        return Condition("Valid", "False", str(before["reason"]), str(before["message"]))
    return Condition("Valid", "True", "Valid", "")


def _registered(
    document: Document, spec: FlowSpec, seen: Seen, valid: Condition
) -> tuple[Condition, Sequence[Action]]:
    """Return whether its triggers are registered, and what makes it so."""
    undo = gone(spec.namespace, spec.name, seen.registered)
    if valid.status != "True":
        # What was registered before goes on as it was, until the object is right again.
        return Condition("Registered", "Unknown", valid.reason, "the flow is not valid"), ()
    started = [one for one in spec.spec.get("triggers") or () if "manual" not in one]
    if not started:
        return Condition("Registered", "False", "NoTriggers", "a FlowRun starts it"), undo
    if any("webhook" in one and not (one["webhook"] or {}).get("secret") for one in started):
        words = "a webhook's token would be known to nobody: write webhook: {secret: env:NAME}"
        return Condition("Registered", "False", "NoSecret", words), undo
    if seen.registered is not None and seen.registered["owner"] == owner_of(document):
        return Condition("Registered", "True", "Registered", ""), ()
    body = {"document": text_of(spec.document()), "file": FILE, "owner": owner_of(document)}
    return (
        Condition("Registered", "True", "Registered", ""),
        (Ask(method="POST", path="/v1/flows", body=body),),
    )
