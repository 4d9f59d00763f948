"""What becomes of a step whose thread has ended: done, tried again, or over."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from cachefs.core.backoff import Backoff
from cachefs.dataflow.machine.decisions import Outcome
from cachefs.dataflow.machine.states import NOT_UNDONE
from cachefs.dataflow.records import StepRecord, StepState
from cachefs.dataflow.spec.expressions import parse
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.model import Retry, Step, Value

_ENDS: Mapping[str, StepState] = {
    "failed": "Failed",
    "timeout": "TimedOut",
    "cancelled": "Cancelled",
}


def wait_before_retry(retry: Retry, tries: int, outcome: Outcome, *, draw: float) -> float | None:
    """Return the seconds until a step is tried again, or ``None`` if it is not.

    The wait grows by the factor from one try to the next up to its limit; with jitter it is drawn
    evenly from nothing to that, so that instances that failed together do not come back together.
    """
    if not _may_help(retry, outcome):
        return None
    backoff = Backoff(
        attempts_limit=retry.max + 1,
        first_seconds=retry.base_seconds,
        factor=retry.factor,
        wait_seconds_max=retry.max_seconds,
    )
    return backoff.wait_after(
        tries,
        draw=draw if retry.jitter else 1.0,
        retry_after_seconds=outcome.retry_after_seconds,
    )


def _may_help(retry: Retry, outcome: Outcome) -> bool:
    if outcome.state == "cancelled":
        return False
    if "any" in retry.when:
        return True
    kind: Literal["timeout", "transient"] = "timeout"
    if outcome.state == "failed":
        if not outcome.retryable:
            return False
        kind = "transient"
    return kind in retry.when


def after_try(
    step: Step, record: StepRecord, outcome: Outcome, *, now: float, wait: float | None
) -> StepRecord:
    """Return a ``Running`` step as it is after its thread has ended.

    Args:
        step: The step.
        record: As it was.
        outcome: How its thread ended; not ``done``.
        now: Seconds since 1970.
        wait: Seconds until it is tried again; ``None`` if it is not.
    """
    failure = outcome.failure or ("out of time" if outcome.state == "timeout" else "")
    if wait is not None:
        return replace(record, state="Retrying", not_before=now + wait, failure=failure)
    if outcome.state == "timeout" and step.timeout_seconds is not None and not outcome.failure:
        failure = f"not done within {step.timeout_seconds:g} s"
    return replace(record, state=_ENDS[outcome.state], failure=failure, ended_at=now)


def after_success(
    step: Step, record: StepRecord, outcome: Outcome, names: dict[str, Value], *, now: float
) -> StepRecord:
    """Return a step that has done what it should, with what it returned and what was made of that."""
    result = dict(outcome.outputs or {})
    outputs = dict(result)
    for name, text in step.outputs.items():
        try:
            outputs[name] = parse(text).evaluate({**names, "result": result})
        except ExpressionError as error:
            failure = f"outputs.{name}: {error}"
            return replace(record, state="Failed", failure=failure, ended_at=now)
    return replace(record, state="Succeeded", outputs=outputs, failure="", ended_at=now)


def after_undo(
    record: StepRecord, outcome: Outcome, *, now: float, wait: float | None
) -> StepRecord:
    """Return a ``Compensating`` step as it is after its thread has ended."""
    if outcome.state == "done":
        return replace(record, state="Compensated", not_before=0.0, ended_at=now)
    if wait is not None:
        return replace(record, not_before=now + wait, failure=outcome.failure)
    failure = NOT_UNDONE + (outcome.failure or outcome.state)
    return replace(record, state="Failed", failure=failure, ended_at=now)
