"""Random flows with random fates: whatever happens, runs end, and no rule is broken on the way."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachefs.dataflow.machine.advance import Machine
from cachefs.dataflow.machine.decisions import Begin, Outcome, Turn, Undo
from cachefs.dataflow.machine.meanings import step_of
from cachefs.dataflow.machine.preparing import satisfies
from cachefs.dataflow.records import RUN_OVER
from cachefs.dataflow.spec.model import Budget, Flow, Foreach, Retry, Step
from tests.unit.dataflow.machine.engines import PaperEngine

OUTCOMES = st.sampled_from(
    [
        *[Outcome(state="done")] * 4,
        Outcome(state="failed", failure="boom"),
        Outcome(state="failed", failure="busy", retryable=True),
        Outcome(state="timeout"),
        Outcome(state="cancelled"),
    ]
)
CONDITIONS = st.sampled_from(
    [*[""] * 5, "always()", "failed()", "succeeded()", "1 > 2", "always() && run.id == 'run'"]
)


@st.composite
def steps(draw, prefix, *, last):
    count = draw(st.integers(0 if last else 1, 3 if last else 7))
    made = []
    for index in range(count):
        before = [step.id for step in made]
        needs = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
        approve = draw(st.integers(0, 9)) == 0
        foreach = None
        if not approve and draw(st.integers(0, 4)) == 0:
            foreach = Foreach(
                name="i",
                values=list(range(draw(st.integers(0, 4)))),
                max_parallel=draw(st.integers(0, 2)),
                fail_fast=draw(st.booleans()),
            )
        undone = not last and not approve and draw(st.booleans())
        on_failure = st.sampled_from(["fail", "fail", "continue", *([] if last else ["rollback"])])
        made.append(
            Step(
                id=f"{prefix}{index}",
                kind="approve" if approve else "process",
                needs=tuple(needs),
                condition=draw(CONDITIONS),
                foreach=foreach,
                arguments={} if approve else {"command": ["x"]},
                retry=Retry(max=draw(st.integers(0, 2)), base_seconds=4.0),
                timeout_seconds=draw(st.sampled_from([None, 10.0])),
                on_failure=draw(on_failure),
                compensate={"command": ["undo"]} if undone else None,
            )
        )
    return tuple(made)


@st.composite
def flows(draw):
    budget = Budget(wall_seconds=draw(st.sampled_from([None, None, 50.0])))
    return Flow(
        namespace="default",
        name="random",
        budget=budget,
        steps=draw(steps("s", last=False)),
        finally_=draw(steps("f", last=True)),
    )


class Watched(PaperEngine):
    """Asserts at each decision what must hold."""

    def __init__(self, flow, **of_run):
        super().__init__(flow, **of_run)
        self.steps = {step.id: step for step in (*flow.steps, *flow.finally_)}
        self.last = {step.id for step in flow.finally_}
        self.halted = False

    def write(self, decision):
        if isinstance(decision, Begin):
            self.watch_begin(decision.record)
        elif isinstance(decision, Undo):
            assert not any(isinstance(one, Undo) for one in self.threads.values())
            assert step_of(decision.record.id) not in self.last
            assert not any(step_of(one) in self.last for one in self.threads)
            self.halted = True
        elif isinstance(decision, Turn):
            assert self.stored_run.state not in RUN_OVER
            if decision.run.ending:
                self.halted = True
        super().write(decision)

    def watch_begin(self, record):
        step = self.steps[step_of(record.id)]
        assert self.stored_run.state == "Running"
        assert record.tries <= step.retry.max + 1
        if step.id in self.last:
            assert self.machine.run.ending
            assert all(
                self.store[one].over or self.store[one].state == "Compensated"
                for one in self.steps
                if one not in self.last
            )
        else:
            assert not self.halted, "a step began after the run was cancelled or rolled back"
        for need in step.needs:
            assert self.store[need].over
            if not any(word in step.condition for word in ("always", "failed")):
                assert satisfies(self.steps[need], self.store[need])
        if step.foreach and step.foreach.max_parallel:
            busy = [one for one in self.threads if step_of(one) == step.id]
            assert len(busy) < step.foreach.max_parallel

    def check_same_from_the_store(self):
        """A machine that is made anew decides what this one would."""
        anew = Machine(self.flow, self.stored_run, self.store.values())
        assert dict(anew.records) == dict(self.machine.records)
        wanted = anew.decide(self.now)
        told_before = set(self.machine._deciding.stopped)
        got = self.machine.decide(self.now)
        wanted = [one for one in wanted if getattr(one, "step", None) not in told_before]
        assert list(got) == wanted
        for decision in got:
            self.write(decision)
        self.told.extend(got)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(flow=flows(), data=st.data())
def test_every_run_ends_and_keeps_the_rules(flow, data):
    engine = Watched(flow)
    slots = data.draw(st.sampled_from([None, 1, 2]))
    cancel_at = data.draw(st.integers(0, 30))
    for turn in range(400):
        if turn == cancel_at and data.draw(st.booleans()) and not engine.machine.run.ending:
            engine.want("cancel", keep_cache=data.draw(st.booleans()))
            engine.halted = True
        if slots is None:
            engine.check_same_from_the_store()
        else:
            engine.tick(slots=max(slots - len(engine.threads), 0))
        if engine.machine.run.over:
            break
        what = data.draw(st.integers(0, 9))
        waiting = [one for one in engine.store.values() if one.state == "Blocked"]
        if engine.threads and what < 8:
            step = data.draw(st.sampled_from(sorted(engine.threads)))
            engine.end(step, data.draw(OUTCOMES), draw=data.draw(st.floats(0, 1)))
        elif waiting:
            granted = data.draw(st.booleans())
            record = engine.machine.approved(
                waiting[0].id, by="ann", now=engine.now, granted=granted
            )
            engine.store[record.id] = record
        elif what == 9:
            engine.crash()
        at = engine.machine.next_at()
        if at is not None and (what == 8 or not engine.threads):
            engine.now = max(engine.now, at)
        else:
            engine.now += 0.5
    check_end(engine)


def check_end(engine):
    run = engine.machine.run
    assert run.over, f"it does not end: {engine.states()}"
    assert not engine.threads
    assert engine.machine.next_at() is None
    assert engine.tick() == ()
    assert all(one.over for one in engine.store.values())
    for step in engine.flow.finally_:
        record = engine.store[step.id]
        bad_need = any(not satisfies(engine.steps[n], engine.store[n]) for n in step.needs)
        if not bad_need and not step.condition and not (step.foreach and not step.foreach.values):
            assert record.state in ("Succeeded", "Failed", "TimedOut", "Cancelled")
    if run.state == "Succeeded":
        assert all(satisfies(engine.steps[one], engine.store[one]) for one in engine.steps)
    if run.state == "RolledBack":
        for record in engine.store.values():
            step = engine.steps[step_of(record.id)]
            is_whole = step.foreach and "[" not in record.id
            if step.compensate and record.attempt and not is_whole:
                assert record.state == "Compensated"
    assert engine.store == dict(engine.machine.records)
    assert engine.stored_run == run
