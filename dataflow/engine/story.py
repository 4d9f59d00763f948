"""The story of a run: which event goes with what was decided and with what happened."""

import re

from cachefs.dataflow.engine.store import RunEvent
from cachefs.dataflow.machine.decisions import Begin, Decision, Expand, Settle, Stop, Undo
from cachefs.dataflow.records import Run, StepRecord

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


def of_decision(decision: Decision, *, now: float) -> RunEvent:
    """Return the event of a decision."""
    if isinstance(decision, Expand):
        count = len(decision.instances)
        message = "1 instance" if count == 1 else f"{count} instances"
        return RunEvent(now, "step-expanded", decision.record.id, message)
    if isinstance(decision, Begin):
        return RunEvent(now, "step-began", decision.record.id, f"attempt {decision.record.attempt}")
    if isinstance(decision, Undo):
        return RunEvent(now, "step-compensating", decision.record.id, "")
    if isinstance(decision, Stop):
        return RunEvent(now, "step-stopped", decision.step, decision.why)
    if isinstance(decision, Settle):
        return of_record(decision.record, now=now)
    return of_run(decision.run, now=now)


def of_record(record: StepRecord, *, now: float) -> RunEvent:
    """Return the event of a step that has come into another state."""
    return RunEvent(now, f"step-{_kebab(record.state)}", record.id, record.failure)


def of_run(run: Run, *, now: float) -> RunEvent:
    """Return the event of a run that has come into another state, or to its ending."""
    if run.ending and not run.over:
        return RunEvent(now, "run-ending", "", f"as {run.ending}{_because(run)}")
    return RunEvent(now, f"run-{_kebab(run.state)}", "", run.failure)


def _because(run: Run) -> str:
    return f": {run.failure}" if run.failure else ""


def _kebab(state: str) -> str:
    return _WORD_START.sub("-", state).lower()
