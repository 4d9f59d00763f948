"""Runs of flows: a ``FlowRun`` is submitted once, and its status says what became of it. Pure.

The coordinator knows a run by a key that is the object's: submitted again, by whoever comes after an operator
that was killed, it is the same run. An object that is deleted cancels its run; that is found by the keys, too,
so that it needs no finalizer.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cachefs.config.units import format_duration, format_size
from cachefs.errors import (
    CacheFSError,
    ConfigError,
    ConflictError,
    CoordinatorUnavailableError,
)
from cachefs.k8s.crds.flows import STEPS_MAX
from cachefs.k8s.crds.runs import FlowRunSpec
from cachefs.k8s.operator.actions import Action, Ask, Document, Tell
from cachefs.k8s.operator.flows.flows import first_of, problems_of
from cachefs.k8s.operator.standing import (
    Condition,
    conditions,
    found_condition,
    moment,
    reason_of,
    show,
)

OVER = ("Succeeded", "Failed", "Cancelled", "RolledBack")
"""States in which a run stays."""
_KEY = re.compile(r"kubernetes ([^/ ]+)/([^/ ]+) (\S+)")
_MESSAGE_LENGTH_MAX = 1000
_STEP_MESSAGE_LENGTH_MAX = 200
_BAD = ("Failed", "RolledBack")


def key_of(document: Document) -> str:
    """Return what the run of an object is known by."""
    head = document["metadata"]
    return f"kubernetes {head['namespace']}/{head['name']} {head['uid']}"


def object_of(key: str) -> tuple[str, str, str] | None:
    """Return namespace, name and uid of the object whose run has a key; ``None`` if it has none."""
    match = _KEY.fullmatch(key)
    return None if match is None else (match[1], match[2], match[3])


def is_over(document: Document) -> bool:
    """Say whether nothing will become of an object that its status does not say."""
    status = document.get("status") or {}
    return status.get("phase") in OVER and not _wishes_left(document, status)


def _wishes_left(document: Document, status: Mapping[str, Any]) -> bool:  # Any: JSON
    generation = document["metadata"].get("generation", 0)
    return bool(status.get("observedGeneration") != generation)


def unsubmitted(document: Document, error: CacheFSError, *, at: float) -> tuple[Action, ...]:
    """Return what an object's status says whose run could not be submitted.

    What makes no sense, or is refused by the flow's own policy, has failed for good; everything else is
    tried again. It is told once, unless the coordinator is only away.
    """
    final = isinstance(error, ConfigError | ConflictError)
    flow = document["spec"].get("flow")
    problems = problems_of(error, within=f"Flow {flow}: " if flow else "document: ")
    reason, words = reason_of(error), first_of(problems)[:_MESSAGE_LENGTH_MAX]
    submitted = Condition("Submitted", "False", reason, words)
    succeeded = Condition("Succeeded", "False" if final else "Unknown", reason, words)
    status = {
        "observedGeneration": document["metadata"].get("generation", 0),
        "phase": "Failed" if final else "Pending",
        "message": words,
        "conditions": conditions(document, (submitted, succeeded), at=at),
    }
    before = found_condition(document, "Submitted")
    told: tuple[Action, ...] = ()
    if (reason, words) != (before.get("reason"), before.get("message")) and not isinstance(
        error, CoordinatorUnavailableError
    ):
        told = (Tell(about=document, reason=reason, message=words, warning=True),)
    return (*show(document, status), *told)


def never_submitted(document: Document, *, at: float) -> tuple[Action, ...]:
    """Return what an object's status says that was cancelled before its run was submitted."""
    words = "it was cancelled before it began"
    made = (
        Condition("Submitted", "False", "Cancelled", words),
        Condition("Succeeded", "False", "Cancelled", words),
    )
    return show(
        document,
        {
            "observedGeneration": document["metadata"].get("generation", 0),
            "phase": "Cancelled",
            "message": words,
            "conditions": conditions(document, made, at=at),
        },
    )


def wishes(
    document: Document,
    spec: FlowRunSpec,
    run: Mapping[str, Any],  # Any: JSON
) -> tuple[Ask, ...]:
    """Return what an object asks of its run that has not been asked.

    Whoever paused a run beside the object is not contradicted: it goes on when the object changes.
    """
    path = f"/v1/runs/{run['id']}"
    by = {"by": f"FlowRun {spec.namespace}/{spec.name}"}
    if run["state"] in OVER or run["ending"] or run["wants"] == "cancel":
        return ()
    if spec.cancel:
        return (Ask(method="POST", path=f"{path}/cancel", body=by),)
    if spec.pause and not run["wants"]:
        return (Ask(method="POST", path=f"{path}/pause", body=by),)
    changed = _wishes_left(document, document.get("status") or {})
    if not spec.pause and run["wants"] == "pause" and changed:
        return (Ask(method="POST", path=f"{path}/resume", body=by),)
    return ()


def mirror(
    document: Document,
    found: Mapping[str, Any],  # Any: JSON
    *,
    at: float,
) -> tuple[Action, ...]:
    """Return what makes an object's status say how its run stands, and tells that its phase is another."""
    run, steps = found["run"], found["steps"]
    state, failure = str(run["state"]), str(run["failure"])
    status: Document = {
        "observedGeneration": document["metadata"].get("generation", 0),
        "phase": state,
        "run": run["id"],
        "progress": _progress(found),
        "steps": [_step(one) for one in steps[:STEPS_MAX]],
        "bytes": int(_moved(steps)),
        "conditions": conditions(document, _conditions(run), at=at),
    }
    for name, value in (("startedAt", run["started_at"]), ("endedAt", run["ended_at"])):
        if value:
            status[name] = moment(value)
    message = failure or _waits(run, steps)
    if message:
        status["message"] = message[:_MESSAGE_LENGTH_MAX]
    before = (document.get("status") or {}).get("phase")
    told: tuple[Action, ...] = ()
    if before != state:
        words = f"run {run['id']} is {state}" + (f": {failure}" if failure else "")
        told = (Tell(about=document, reason=state, message=words, warning=state in _BAD),)
    return (*show(document, status), *told)


def forgotten(document: Document, *, at: float) -> tuple[Action, ...]:
    """Return what an object's status says whose run the coordinator does not know any more."""
    words = "the coordinator knows no such run any more"
    status = dict(document.get("status") or {})
    if status.get("phase") in OVER:
        return ()
    made = (
        Condition("Submitted", "True", "Submitted", ""),
        Condition("Succeeded", "False", "Forgotten", words),
    )
    told = {"phase": "Failed", "message": words, "conditions": conditions(document, made, at=at)}
    return show(document, {**status, **told})


def _conditions(run: Mapping[str, Any]) -> Sequence[Condition]:  # Any: JSON
    submitted = Condition("Submitted", "True", "Submitted", "")
    state, failure = str(run["state"]), str(run["failure"])
    if state == "Succeeded":
        return submitted, Condition("Succeeded", "True", state, "")
    status = "False" if state in OVER else "Unknown"
    return submitted, Condition("Succeeded", status, state, failure)  # type: ignore[arg-type]


def _progress(found: Mapping[str, Any]) -> str:  # Any: JSON
    """Return how far a run is, for people: ``3/7 steps, 1.2 GiB of 4.0 GiB, 30 s left``."""
    whole = [one for one in found["steps"] if "[" not in one["id"]]
    good = sum(one["state"] in ("Succeeded", "Skipped") for one in whole)
    words = [f"{good}/{len(whole)} steps"]
    moving = found["progress"]
    if moving["total"]:
        words.append(f"{format_size(moving['done'])} of {format_size(moving['total'])}")
    if moving["seconds_left"] is not None and found["run"]["state"] not in OVER:
        words.append(f"{format_duration(moving['seconds_left'])} left")
    return ", ".join(words)


def _step(step: Mapping[str, Any]) -> Document:  # Any: JSON
    shown: Document = {"id": step["id"], "phase": step["state"]}
    moving = step["progress"]
    done, total = moving["done"], moving["total"]
    if moving["unit"] == "bytes" and total:
        shown["progress"] = f"{format_size(done)} of {format_size(total)}"
    elif moving["unit"] not in ("bytes", "seconds") and total:
        shown["progress"] = f"{done:g} of {total:g} {moving['unit']}"
    message = step["failure"] or ("" if step["state"] == "Succeeded" else moving["note"])
    if message:
        shown["message"] = message[:_STEP_MESSAGE_LENGTH_MAX]
    return shown


def _moved(steps: Sequence[Mapping[str, Any]]) -> float:  # Any: JSON
    expanded = {one["id"].partition("[")[0] for one in steps if "[" in one["id"]}
    return float(
        sum(
            one["progress"]["done"]
            for one in steps
            if one["id"] not in expanded and one["progress"]["unit"] == "bytes"
        )
    )


def _waits(run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON
    if run["wants"] and run["state"] not in OVER:
        return f"{run['wants']} is asked for"
    blocked = [one["id"] for one in steps if one["state"] == "Blocked"]
    return f"waits for an approval: {', '.join(blocked[:5])}" if blocked else ""
