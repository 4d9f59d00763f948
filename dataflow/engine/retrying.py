"""Retrying a run that is over: which steps are set back, and what they keep.

A step that did not succeed goes on from its checkpoint: what it had done is not done again. One that
succeeded, and is done again because somebody says so or because what it needs is, begins anew. What
``finally`` holds belongs to the end of a run, which comes once more; with ``only_failed`` what
succeeded there is left alone, as everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cachefs.dataflow.records import STEP_GOOD, Progress, StepRecord
from cachefs.dataflow.spec.graph import Graph
from cachefs.dataflow.spec.model import Flow


def set_back(
    flow: Flow, records: Sequence[StepRecord], *, start: str, only_failed: bool
) -> tuple[tuple[StepRecord, ...], frozenset[str]]:
    """Return the records with which a run goes on, and the steps that are done again.

    Args:
        flow: The flow.
        records: As the run ended.
        start: Do this step and what depends on it again; empty for what did not succeed.
        only_failed: Leave alone what succeeded although something that it needs had not.
    """
    own = {record.id: record for record in records if "[" not in record.id}
    failed = {step for step, record in own.items() if record.state not in STEP_GOOD}
    first = {start.partition("[")[0]} if start else failed
    again = set(first)
    if not only_failed:
        again |= _dependants(flow, first) | {step.id for step in flow.finally_}
    if start:
        again |= {step for step in failed if own[step].state == "UpstreamFailed"}
    if not first & own.keys():
        return tuple(records), frozenset()
    # An expanded step whose instances failed goes on with those; one that is done anew expands anew.
    kept = {step for step in again & failed if not start or step not in first}
    result = []
    for record in records:
        step = record.id.partition("[")[0]
        if step not in again:
            result.append(record)
        elif "[" in record.id:
            if step in kept:
                result.append(record if record.state in STEP_GOOD else _again(record))
        else:
            result.append(_parent(record, records) if step in kept else _again(record))
    return tuple(result), frozenset(again)


def _parent(record: StepRecord, records: Sequence[StepRecord]) -> StepRecord:
    prefix = f"{record.id}["
    expanded = any(other.id.startswith(prefix) for other in records)
    fresh = _again(record)
    return replace(fresh, state="Running", started_at=record.started_at) if expanded else fresh


def _again(record: StepRecord) -> StepRecord:
    unfinished = record.state not in ("Succeeded", "Compensated")
    return replace(
        record,
        state="Pending",
        tries=0,
        not_before=0.0,
        outputs={},
        progress=Progress(),
        checkpoint=record.checkpoint if unfinished else {},
        failure="",
        started_at=0.0,
        ended_at=0.0,
    )


def _dependants(flow: Flow, first: set[str]) -> set[str]:
    """Return every step that depends on one of these, directly or through others."""
    needs: Mapping[str, Sequence[str]] = {
        step.id: step.needs for step in (*flow.steps, *flow.finally_)
    }
    graph = Graph(needs)
    found: set[str] = set()
    waiting = list(first)
    while waiting:
        for dependent in graph.dependants.get(waiting.pop(), ()):
            if dependent not in found:
                found.add(dependent)
                waiting.append(dependent)
    return found
