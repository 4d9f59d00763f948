"""One run in the hands of its owner: what happened, what follows, what is to be written.

An :class:`OwnedRun` belongs to the engine's one thread. :meth:`~OwnedRun.advance` gathers how attempts
have ended and what they said, asks the machine what follows, and returns all of it as a
:class:`Change`: it is written in one transaction, and only then carried out. If writing fails, the
run is read again from the store, and hears the same once more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cachefs.dataflow import costs
from cachefs.dataflow.engine import story
from cachefs.dataflow.engine.owners import Position
from cachefs.dataflow.engine.running import Attempt
from cachefs.dataflow.engine.store import RunEvent
from cachefs.dataflow.machine.advance import Machine
from cachefs.dataflow.machine.decisions import (
    Begin,
    Decision,
    Expand,
    Outcome,
    Settle,
    Spent,
    Turn,
    Undo,
)
from cachefs.dataflow.machine.meanings import step_of
from cachefs.dataflow.records import Run, StepRecord
from cachefs.dataflow.spec.model import Flow, Value
from cachefs.errors import ConflictError

TOLD = "step-told"
"""The kind of events that steps tell."""


@dataclass(slots=True)
class Change:
    """What is to be written of a run, and then to be done."""

    run: Run
    steps: dict[str, StepRecord] = field(default_factory=dict)
    new_steps: dict[str, StepRecord] = field(default_factory=dict)
    events: list[RunEvent] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    heard: list[tuple[Attempt, Outcome]] = field(default_factory=list)
    """What to hear again if it cannot be written."""
    begun: int = 0
    """Of the decisions: how many steps are to be carried out."""

    def put(self, record: StepRecord) -> None:
        """Have a record written as it is now."""
        (self.new_steps if record.id in self.new_steps else self.steps)[record.id] = record

    @property
    def empty(self) -> bool:
        """Whether nothing needs to be written."""
        return not (self.steps or self.new_steps or self.events or self.decisions)


class OwnedRun:
    """A run that we own and that has begun."""

    def __init__(
        self,
        flow: Flow,
        run: Run,
        records: Iterable[StepRecord],
        position: Position,
        *,
        usd_per_gb: float = 0.0,
    ) -> None:
        """Take a run up as it is stored.

        Args:
            flow: Its flow.
            run: The run.
            records: Of its steps.
            position: Where it stands for us.
            usd_per_gb: What origins charge.
        """
        self.depth = run.depth
        self.flow = flow
        self.position = position
        self.kinds = {step.id: step.kind for step in (*flow.steps, *flow.finally_)}
        self.machine = Machine(flow, run, records)
        self.attempts: dict[str, Attempt] = {}
        """By step."""
        self.dirty = True
        self.starved = False
        """Whether more steps could begin than there were threads for."""
        self.reload = False
        """Whether the store knows better than we do."""
        self._outcomes: list[tuple[Attempt, Outcome]] = []
        self._untold: list[RunEvent] = []
        self._answers: Mapping[str, Mapping[str, Value]] = {}
        self._usd_per_gb = usd_per_gb
        self._spent = {
            step: record.progress
            for step, record in self.machine.records.items()
            if record.progress.origin_bytes
        }
        """What steps have taken from origins, by step."""

    @property
    def only_waits(self) -> bool:
        """Whether nothing of it is carried out but waiting for runs within it."""
        return bool(self.attempts) and all(
            self.kinds[step_of(step)] == "flow" for step in self.attempts
        )

    def take_up(
        self, run: Run, records: Iterable[StepRecord], position: Position, *, now: float
    ) -> list[Begin | Undo]:
        """Believe the store; return what must be carried out and has no thread."""
        if not self.reload and any(record.attempt for record in self.machine.records.values()):
            self._untold = [RunEvent(now, "run-taken-up", "", "a coordinator goes on with it")]
        self.machine = Machine(self.flow, run, records)
        self.position = position
        self.reload = False
        self.dirty = True
        known = self.machine.records
        for step, attempt in list(self.attempts.items()):
            if not _carries(attempt, known.get(step)):
                del self.attempts[step]
                attempt.forget()
        return [
            decision
            for decision in self.machine.resumed(now)
            if isinstance(decision, Begin | Undo) and decision.record.id not in self.attempts
        ]

    def hear(self, attempt: Attempt, outcome: Outcome) -> None:
        """Note that an attempt has ended."""
        self._outcomes.append((attempt, outcome))
        self.dirty = True

    def unsaid(self, change: Change) -> None:
        """Take back what could not be written; the store is to be read before anything else."""
        self.reload = True
        self._untold = [*self._untold, *(e for e in change.events if e.kind == TOLD)]
        for attempt, outcome in change.heard:
            self.attempts.setdefault(attempt.context.step, attempt)
            self.hear(attempt, outcome)

    def note_wishes(
        self, run: Run, answers: Mapping[str, Mapping[str, Value]], position: Position
    ) -> None:
        """Take in what people want of the run."""
        self.position = position
        self.dirty = True
        self._answers = answers
        current = self.machine.run
        self.machine.note_run(replace(current, wants=run.wants, keep_cache=run.keep_cache))

    def advance(self, *, now: float, draw: float, slots: int, flush: bool) -> Change:
        """Return what has happened and what follows from it.

        Args:
            now: Seconds since 1970.
            draw: A random number from 0 to 1.
            slots: How many attempts may begin.
            flush: Whether progress and messages of attempts that go on are written, too.
        """
        change = Change(self.machine.run, events=self._untold)
        self._untold = []
        heard, self._outcomes = self._outcomes, []
        for attempt, outcome in heard:
            self._note_attempt(attempt, change)
            if self._end(attempt, outcome, change, now=now, draw=draw):
                change.heard.append((attempt, outcome))
        if flush:
            for attempt in self.attempts.values():
                self._note_attempt(attempt, change)
        self._hear_answers(change, now=now)
        decisions = self.machine.decide(now, spent=self._spent_so_far(), slots=slots)
        change.begun = sum(isinstance(decision, Begin | Undo) for decision in decisions)
        self.starved = change.begun >= slots
        for decision in decisions:
            self._put(decision, change, now=now)
        change.decisions.extend(decisions)
        change.run = self.machine.run
        self.dirty = False
        return change

    def _spent_so_far(self) -> Spent:
        spent = self._spent.values()
        return Spent(
            origin_bytes=sum(one.origin_bytes for one in spent),
            egress_usd=costs.usd(sum(one.egress_bytes for one in spent), self._usd_per_gb),
        )

    def _hear_answers(self, change: Change, *, now: float) -> None:
        answers, self._answers = self._answers, {}
        for step, answer in answers.items():
            by, granted = str(answer.get("by", "")), bool(answer.get("granted"))
            try:
                record = self.machine.approved(step, by=by, now=now, granted=granted)
            except ConflictError:
                continue  # it was heard before
            change.put(record)
            change.events.append(story.of_record(record, now=now))

    def _put(self, decision: Decision, change: Change, *, now: float) -> None:
        change.events.append(story.of_decision(decision, now=now))
        if isinstance(decision, Expand):
            change.put(decision.record)
            change.new_steps.update((one.id, one) for one in decision.instances)
        elif isinstance(decision, Begin | Undo | Settle):
            change.put(decision.record)
        elif isinstance(decision, Turn):
            change.run = decision.run

    def _end(
        self, attempt: Attempt, outcome: Outcome, change: Change, *, now: float, draw: float
    ) -> bool:
        """Say what becomes of a step; ``False`` if its attempt is not the one that counts."""
        step = attempt.context.step
        if self.attempts.get(step) is attempt:
            del self.attempts[step]
        if not _carries(attempt, self.machine.records.get(step)):
            return False
        record = self.machine.ended(step, outcome, now=now, draw=draw)
        change.put(record)
        change.events.append(story.of_record(record, now=now))
        return True

    def _note_attempt(self, attempt: Attempt, change: Change) -> None:
        """Take over what an attempt has told, noted and reported."""
        context = attempt.context
        for at, message in context.take_told():
            change.events.append(RunEvent(at, TOLD, context.step, message))
        record = self.machine.records.get(context.step)
        if record is None or not _carries(attempt, record):
            return
        found = context.progress
        if found is not None and found != record.progress:
            record = replace(record, progress=found, checkpoint=context.checkpoint())
            if found.origin_bytes:
                self._spent[context.step] = found
            self.machine.note(record)
            change.put(record)
        else:
            self.machine.note(replace(record, checkpoint=context.checkpoint()))


def _carries(attempt: Attempt, record: StepRecord | None) -> bool:
    """Say whether a record is about this very attempt."""
    identity = attempt.context.identity
    return (
        record is not None
        and record.attempt == identity.attempt
        and record.state == ("Compensating" if identity.undo else "Running")
    )
