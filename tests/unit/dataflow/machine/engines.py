"""An engine without threads for the tests of the machine: it carries out what is decided, as it is told."""

from collections.abc import Callable
from dataclasses import replace

from cachefs.dataflow.machine.advance import Machine, first_records
from cachefs.dataflow.machine.decisions import (
    Begin,
    Decision,
    Expand,
    Outcome,
    Settle,
    Spent,
    Stop,
    Turn,
    Undo,
)
from cachefs.dataflow.records import Run, StepRecord
from cachefs.dataflow.spec.model import Flow
from cachefs.dataflow.spec.reading import read_flow

DONE = Outcome(state="done")
FAILED = Outcome(state="failed", failure="boom")
BUSY = Outcome(state="failed", failure="busy", retryable=True)
LATE = Outcome(state="timeout")
STOPPED = Outcome(state="cancelled")


def flow_of(steps: str, **sections: str) -> Flow:
    """Return a flow with the steps, and with further sections of its spec."""
    more = "".join(f"  {name.rstrip('_')}: {text}\n" for name, text in sections.items())
    body = "".join(f"  - {line.strip()}\n" for line in steps.strip().splitlines())
    head = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: test}\n"
    return read_flow(f"{head}spec:\n{more}  steps:\n{body}", name="test.yaml")


UNDO = ", compensate: {command: [undo]}"


def step(name, needs="", more=""):
    return f"{{id: {name}, kind: process, needs: [{needs}], with: {{command: [{name}]}} {more}}}"


def fails(*names):
    return lambda one: FAILED if one.record.id in names and one.record.state == "Running" else DONE


def flow_of_steps(*steps, **sections):
    return flow_of("\n".join(steps), **sections)


class PaperEngine:
    """Keeps the store, and the clock; threads end when they are told to."""

    def __init__(self, flow: Flow, **of_run: object) -> None:
        self.flow = flow
        run = Run(id="run", flow=flow.full_name, state="Running", **of_run)
        self.store: dict[str, StepRecord] = {one.id: one for one in first_records(flow)}
        self.stored_run = run
        self.machine = Machine(flow, run, self.store.values())
        self.now = 0.0
        self.threads: dict[str, Begin | Undo] = {}
        self.told: list[Decision] = []
        self.log: list[str] = []
        self.spent = Spent()

    def tick(self, *, slots: int | None = None) -> tuple[Decision, ...]:
        decisions = self.machine.decide(self.now, spent=self.spent, slots=slots)
        for decision in decisions:
            self.write(decision)
        self.told.extend(decisions)
        return decisions

    def write(self, decision: Decision) -> None:
        match decision:
            case Expand(record=record, instances=instances):
                self.store[record.id] = record
                self.store.update({one.id: one for one in instances})
            case Begin(record=record) | Undo(record=record):
                assert record.id not in self.threads, "two threads for one step"
                self.store[record.id] = record
                self.threads[record.id] = decision
                self.log.append(f"{'begin' if isinstance(decision, Begin) else 'undo'} {record.id}")
            case Settle(record=record):
                self.store[record.id] = record
                self.log.append(f"{record.state} {record.id}")
            case Turn(run=run):
                self.stored_run = run
                self.log.append(f"run {run.state} {run.ending}".rstrip())
            case Stop(step=step, why=why):
                assert step in self.threads, "what has no thread is stopped"
                self.log.append(f"stop {step} {why}")

    def end(self, step: str, outcome: Outcome = DONE, *, draw: float = 1.0) -> StepRecord:
        del self.threads[step]
        record = self.machine.ended(step, outcome, now=self.now, draw=draw)
        self.store[step] = record
        return record

    def crash(self) -> None:
        """Forget all but the store, and take the run over."""
        self.machine = Machine(self.flow, self.stored_run, self.store.values())
        resumed = {one.record.id: one for one in self.machine.resumed(self.now)}
        assert resumed.keys() == self.threads.keys()
        self.threads = resumed
        self.store.update({one: decision.record for one, decision in resumed.items()})

    def want(self, wants: str, *, keep_cache: bool = False) -> None:
        run = replace(self.machine.run, wants=wants, keep_cache=keep_cache)
        self.stored_run = run
        self.machine.note_run(run)

    def play(self, outcome_of: Callable[[Begin | Undo], Outcome] = lambda _: DONE) -> str:
        """Go on until the run is over; return its state."""
        for _ in range(100_000):
            self.tick()
            if self.machine.run.over:
                assert not self.threads
                return self.machine.run.state
            if self.threads:
                step = next(iter(self.threads))
                self.end(step, outcome_of(self.threads[step]))
                continue
            at = self.machine.next_at()
            assert at is not None, f"nothing will ever happen: {self.states()}"
            self.now = max(self.now, at)
        raise AssertionError("it does not end")

    def states(self) -> dict[str, str]:
        return {one.id: one.state for one in self.store.values()}
