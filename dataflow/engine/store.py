"""Runs, their steps and events in the store: statements, as functions of a connection.

What happened in a run is written by :func:`write`, which refuses whoever does not know the run's
fence. What people ask of a run (a wish, an answer) is written by anybody, and makes ``changes`` grow,
which the owner watches.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)

from cachefs.coordinator.store import counters
from cachefs.coordinator.store.tables import RUN_EVENTS, RUN_STEPS, RUNS
from cachefs.dataflow.records import RUN_OVER, Progress, Run, StepRecord
from cachefs.dataflow.spec.model import Value
from cachefs.errors import LeaseExpiredError

ACTIVE = ("Planned", "Queued", "Running", "Paused")
"""Every state that is not over: what an index can look for."""
_PER_STATEMENT = 500
_FAILURE_LENGTH_MAX = 4000
_MESSAGE_LENGTH_MAX = 1000
_UPDATE_STEP = update(RUN_STEPS).where(
    RUN_STEPS.c.run == bindparam("of_run"), RUN_STEPS.c.id == bindparam("of_id")
)


class RunEvent(NamedTuple):
    """Something that happened in a run."""

    at: float
    """Seconds since 1970."""
    kind: str
    """Such as ``step-began``; one word with hyphens."""
    step: str
    """The step or the instance that it is about; empty for the run."""
    message: str
    number: int = 0
    """From 1 on, without gaps, in each run."""


# ---- runs ---------------------------------------------------------------------------------------


def next_number(connection: Connection) -> int:
    """Return the next place in the queue; no other submission happens until this transaction ends."""
    return counters.add(connection, "runs")


def add(connection: Connection, run: Run, records: Iterable[StepRecord], *, number: int) -> None:
    """Store a new run with its steps, at a place in the queue."""
    values = _columns(run) | {"number": number, "owner": "", "events": 0, "changes": 0}
    connection.execute(RUNS.insert().values(**values))
    _insert_steps(connection, run.id, list(records))


def find(connection: Connection, run: str, *, lock: bool = False) -> Run | None:
    """Return a run, or ``None``; nobody else changes a locked one until the transaction ends."""
    query = select(RUNS).where(RUNS.c.id == run)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else run_of(row)


def find_key(connection: Connection, flow: str, key: str) -> Run | None:
    """Return the run of a flow that was submitted with a key, or ``None``."""
    query = select(RUNS).where(RUNS.c.flow == flow, RUNS.c.key == key)
    row = connection.execute(query).one_or_none()
    return None if row is None else run_of(row)


def every(
    connection: Connection, *, flow: str = "", active: bool = False, limit: int
) -> tuple[Run, ...]:
    """Return the newest runs, the newest first; of one flow, or of all."""
    query = select(RUNS).order_by(RUNS.c.number.desc()).limit(limit)
    if flow:
        query = query.where(RUNS.c.flow == flow)
    if active:
        query = query.where(RUNS.c.state.in_(ACTIVE))
    return tuple(run_of(row) for row in connection.execute(query))


def last_event(connection: Connection, run: str) -> int:
    """Return the number of a run's last event; 0 for a run that is not there."""
    query = select(RUNS.c.events).where(RUNS.c.id == run)
    return int(connection.execute(query).scalar() or 0)


def counts(connection: Connection) -> dict[str, int]:
    """Return how many runs there are in each state."""
    query = select(RUNS.c.state, func.count().label("runs")).group_by(RUNS.c.state)
    return {row.state: int(row.runs) for row in connection.execute(query)}


def unbegun() -> ColumnElement[bool]:
    """Return the condition that is :attr:`.Run.begun`'s opposite, of runs that are not over."""
    aside = and_(RUNS.c.state == "Paused", RUNS.c.started_at == 0)
    return or_(RUNS.c.state == "Queued", aside)


def queued_counts(connection: Connection) -> Counter[str]:
    """Return how many runs of each namespace wait for their turn."""
    query = select(RUNS.c.flow, func.count().label("runs")).where(unbegun()).group_by(RUNS.c.flow)
    found: Counter[str] = Counter()
    for row in connection.execute(query):
        found[str(row.flow).partition("/")[0]] += int(row.runs)
    return found


def group_members(connection: Connection, group: str) -> tuple[Run, ...]:
    """Return the runs of a concurrency group that are not over, the first in the queue first."""
    query = (
        select(RUNS)
        .where(RUNS.c.group_name == group, RUNS.c.state.in_(ACTIVE))
        .order_by(RUNS.c.number)
    )
    return tuple(run_of(row) for row in connection.execute(query))


def again(
    connection: Connection, run: Run, records: Iterable[StepRecord], events: Sequence[RunEvent]
) -> bool:
    """Put a run that is over at the end of the queue; ``False`` if it is not over any more."""
    number = next_number(connection)
    values = _columns(run) | {"number": number, "owner": "", "fence": RUNS.c.fence + 1}
    del values["id"]
    changed = connection.execute(
        update(RUNS).where(RUNS.c.id == run.id, RUNS.c.state.in_(RUN_OVER)).values(**values)
    )
    if changed.rowcount == 0:
        return False
    # What a step had noted stays only if the step is to go on: then the record holds it.
    connection.execute(delete(RUN_STEPS).where(RUN_STEPS.c.run == run.id))
    _insert_steps(connection, run.id, list(records))
    tell(connection, run.id, events)
    return True


def ask(connection: Connection, run: str, events: Sequence[RunEvent], **values: Value) -> bool:
    """Write what somebody wants of a run; ``False`` if it is over."""
    changed = connection.execute(
        update(RUNS)
        .where(RUNS.c.id == run, RUNS.c.state.in_(ACTIVE))
        .values(changes=RUNS.c.changes + 1, **values)
    )
    if changed.rowcount:
        tell(connection, run, events)
    return bool(changed.rowcount)


def tell(connection: Connection, run: str, events: Sequence[RunEvent]) -> None:
    """Append events to a run, whoever owns it."""
    if events:
        last = connection.execute(
            update(RUNS)
            .where(RUNS.c.id == run)
            .values(events=RUNS.c.events + len(events))
            .returning(RUNS.c.events)
        ).scalar_one()
        _insert_events(connection, run, events, last=int(last))


def write(
    connection: Connection,
    run: Run,
    *,
    steps: Iterable[StepRecord] = (),
    new_steps: Iterable[StepRecord] = (),
    events: Sequence[RunEvent] = (),
) -> None:
    """Write what happened, as the run's owner.

    ``wants``, ``keep_cache``, answers and checkpoints are not written: others and the steps do.

    Raises:
        LeaseExpiredError: Another coordinator has taken the run over; nothing was written.
    """
    # This locks the row: whoever takes the run over waits for us, or we find the fence changed.
    values = {
        "events": RUNS.c.events + len(events),
        "state": run.state,
        "ending": run.ending,
        "failure": run.failure[:_FAILURE_LENGTH_MAX],
        "started_at": run.started_at,
        "ended_at": run.ended_at,
    }
    row = connection.execute(
        update(RUNS)
        .where(RUNS.c.id == run.id, RUNS.c.fence == run.fence)
        .values(**values, **({"owner": ""} if run.over else {}))
        .returning(RUNS.c.events)
    ).one_or_none()
    if row is None:
        raise LeaseExpiredError("another coordinator has taken the run over", subject=run.id)
    changed = [_step_columns(record) | {"of_run": run.id, "of_id": record.id} for record in steps]
    if changed:
        connection.execute(_UPDATE_STEP, changed)
    _insert_steps(connection, run.id, list(new_steps))
    _insert_events(connection, run.id, events, last=int(row.events))


def lock(connection: Connection, run: str, fence: int) -> None:
    """Keep a run from being taken over until the transaction ends.

    Raises:
        LeaseExpiredError: It has been taken over.
    """
    query = select(RUNS.c.id).where(RUNS.c.id == run, RUNS.c.fence == fence).with_for_update()
    if connection.execute(query).first() is None:
        raise LeaseExpiredError("another coordinator has taken the run over", subject=run)


def remove(connection: Connection, *, ended_before: float, kept: int) -> int:
    """Delete runs that are over: those of long ago, and all but the newest; return how many."""
    over = select(RUNS.c.id).where(RUNS.c.state.in_(RUN_OVER))
    old = over.where(RUNS.c.ended_at < ended_before).limit(_PER_STATEMENT)
    many = over.order_by(RUNS.c.number.desc()).offset(kept).limit(_PER_STATEMENT)
    ids = {*connection.execute(old).scalars(), *connection.execute(many).scalars()}
    for run in ids:
        connection.execute(delete(RUNS).where(RUNS.c.id == run))
    return len(ids)


# ---- steps and events ---------------------------------------------------------------------------


def steps(connection: Connection, run: str) -> tuple[StepRecord, ...]:
    """Return the records of a run's steps as they were written, each followed by its instances."""
    query = select(RUN_STEPS).where(RUN_STEPS.c.run == run).order_by(RUN_STEPS.c.place)
    rows = sorted(connection.execute(query), key=lambda row: (row.place, _instance(row.id)))
    return tuple(_record(row) for row in rows)


def answers(connection: Connection, run: str) -> dict[str, dict[str, Value]]:
    """Return what people said to the steps of a run that ask."""
    query = select(RUN_STEPS.c.id, RUN_STEPS.c.answer).where(
        RUN_STEPS.c.run == run, RUN_STEPS.c.answer != ""
    )
    return {row.id: json.loads(row.answer) for row in connection.execute(query)}


def answer(connection: Connection, run: str, step: str, given: Mapping[str, Value]) -> None:
    """Write what a person said to a step."""
    connection.execute(
        update(RUN_STEPS)
        .where(RUN_STEPS.c.run == run, RUN_STEPS.c.id == step)
        .values(answer=_text(given))
    )


def note(connection: Connection, run: str, step: str, checkpoint: str, *, attempt: int) -> None:
    """Write a step's checkpoint; the run is locked.

    Raises:
        LeaseExpiredError: The step is at another attempt.
    """
    changed = connection.execute(
        update(RUN_STEPS)
        .where(
            RUN_STEPS.c.run == run,
            RUN_STEPS.c.id == step,
            RUN_STEPS.c.attempt == attempt,
            RUN_STEPS.c.state.in_(("Running", "Compensating")),
        )
        .values(checkpoint=checkpoint)
    )
    if changed.rowcount == 0:
        raise LeaseExpiredError("the step goes on without this attempt", subject=f"{run}/{step}")


def events_after(
    connection: Connection, run: str, number: int, *, limit: int
) -> tuple[RunEvent, ...]:
    """Return a run's events after one, the oldest first."""
    query = (
        select(RUN_EVENTS)
        .where(RUN_EVENTS.c.run == run, RUN_EVENTS.c.number > number)
        .order_by(RUN_EVENTS.c.number)
        .limit(limit)
    )
    return tuple(
        RunEvent(row.at, row.kind, row.step, row.message, row.number)
        for row in connection.execute(query)
    )


def _insert_steps(connection: Connection, run: str, records: list[StepRecord]) -> None:
    if not records:
        return
    query = select(RUN_STEPS.c.id, RUN_STEPS.c.place).where(RUN_STEPS.c.run == run)
    places = {row.id: row.place for row in connection.execute(query)}
    for record in records:
        if _instance(record.id) < 0:
            places.setdefault(record.id, len(places))
    rows = [
        _step_columns(record)
        | {
            "run": run,
            "id": record.id,
            "place": places[record.id.partition("[")[0]],
            "value": _text(record.value),
            "checkpoint": _text(record.checkpoint),
            "answer": "",
        }
        for record in records
    ]
    for at in range(0, len(rows), _PER_STATEMENT):
        connection.execute(RUN_STEPS.insert(), rows[at : at + _PER_STATEMENT])


def _instance(step: str) -> int:
    """Return the number of an instance; -1 for a step itself."""
    number = step.partition("[")[2].rstrip("]")
    return int(number) if number else -1


def _insert_events(
    connection: Connection, run: str, events: Sequence[RunEvent], *, last: int
) -> None:
    first = last - len(events) + 1
    rows = [
        event._asdict()
        | {"run": run, "number": number, "message": event.message[:_MESSAGE_LENGTH_MAX]}
        for number, event in enumerate(events, first)
    ]
    for at in range(0, len(rows), _PER_STATEMENT):
        connection.execute(RUN_EVENTS.insert(), rows[at : at + _PER_STATEMENT])


def _columns(run: Run) -> dict[str, Any]:  # Any: each as its column
    return {
        "id": run.id,
        "flow": run.flow,
        "state": run.state,
        "document": run.document,
        "params": _text(run.params),
        "group_name": run.group,
        "key": run.key or None,  # many runs have none, and NULL is not equal to NULL
        "cause": run.cause,
        "trigger": _text(run.trigger),
        "plan": _text(run.plan),
        "wants": run.wants,
        "ending": run.ending,
        "keep_cache": run.keep_cache,
        "failure": run.failure,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "fence": run.fence,
    }


def run_of(row: Row[Any]) -> Run:
    """Return the run that a row holds."""
    return Run(
        id=row.id,
        flow=row.flow,
        state=row.state,
        document=row.document,
        params=json.loads(row.params),
        group=row.group_name,
        key=row.key or "",
        cause=row.cause,
        trigger=json.loads(row.trigger),
        plan=json.loads(row.plan),
        wants=row.wants,
        ending=row.ending,
        keep_cache=row.keep_cache,
        failure=row.failure,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        fence=row.fence,
    )


def _step_columns(record: StepRecord) -> dict[str, Any]:  # Any: each as its column
    return {
        "state": record.state,
        "attempt": record.attempt,
        "tries": record.tries,
        "not_before": record.not_before,
        "arguments": _text(record.arguments),
        "outputs": _text(record.outputs),
        "progress": _text(asdict(record.progress)),
        "failure": record.failure[:_FAILURE_LENGTH_MAX],
        "started_at": record.started_at,
        "ended_at": record.ended_at,
    }


def _record(row: Row[Any]) -> StepRecord:
    return StepRecord(
        id=row.id,
        state=row.state,
        value=json.loads(row.value),
        attempt=row.attempt,
        tries=row.tries,
        not_before=row.not_before,
        arguments=json.loads(row.arguments),
        checkpoint=json.loads(row.checkpoint),
        outputs=json.loads(row.outputs),
        progress=Progress(**json.loads(row.progress)),
        failure=row.failure,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _text(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
