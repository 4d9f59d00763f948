"""Walking: a run as it would go, if each step took as long as estimated.

The machine that decides about real runs decides here too, on a clock that jumps from the end of one step
to the end of the next; so joins, conditions, instances and limits mean the same as they will. Every step
is taken to succeed, and every approval to be given at once. What a program will return is not known: a
step that needs it is left out, and told as ``Failed`` among those that do not begin.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cachefs.dataflow.machine.advance import Machine, first_records
from cachefs.dataflow.machine.decisions import Begin, Outcome, Settle
from cachefs.dataflow.machine.meanings import step_of
from cachefs.dataflow.planning.estimating import Estimate
from cachefs.dataflow.planning.links import UnderWay
from cachefs.dataflow.records import Run
from cachefs.dataflow.spec.model import Budget, Flow, Kind, Step, Value
from cachefs.errors import FlowError

EstimateStep = Callable[[Kind, Mapping[str, Value]], Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkedStep:
    """A step as it would go."""

    id: str
    kind: Kind
    begins: float
    """Seconds after the run began."""
    estimate: Estimate
    ends: float
    """Likewise, as far as it is known; with others on its link it takes longer than it would alone."""
    after: str
    """The step whose end let it begin; empty for those that begin at once."""

    @property
    def seconds(self) -> float | None:
        """How long it takes; ``None`` if nobody knows."""
        return None if self.estimate.seconds is None else self.ends - self.begins


@dataclass(frozen=True, slots=True)
class Walk:
    """A run as it would go."""

    steps: tuple[WalkedStep, ...]
    """In the order in which they begin."""
    skipped: Mapping[str, str]
    """Steps that would not begin, and why: ``Skipped``, or what is not known beforehand."""

    @property
    def seconds(self) -> float:
        """From the beginning to the end of the last step."""
        return max((step.ends for step in self.steps), default=0.0)

    @property
    def critical_path(self) -> tuple[str, ...]:
        """The steps that make it take so long, in their order."""
        by_id = {step.id: step for step in self.steps}
        path: list[str] = []
        step = max(self.steps, key=lambda one: one.ends, default=None)
        while step is not None:
            path.append(step.id)
            step = by_id.get(step.after)
        return tuple(reversed(path))


def walk(
    flow: Flow,
    params: Mapping[str, Value],
    estimate: EstimateStep,
    *,
    plan: Mapping[str, Value],
) -> Walk:
    """Return a run as it would go.

    Args:
        flow: The flow.
        params: Parameters, merged.
        estimate: Says of one step what it would take; asked in the order in which steps begin.
        plan: What ``plan.…`` means in expressions.

    Raises:
        FlowError: It would not come to an end.
    """
    # What a run may cost is compared with the result; here it must not end the walk.
    flow = replace(
        flow,
        budget=Budget(),
        steps=tuple(map(_unhurried, flow.steps)),
        finally_=tuple(map(_unhurried, flow.finally_)),
    )
    run = Run(id="plan", flow=flow.full_name, state="Running", params=params, plan=plan)
    machine = Machine(flow, run, first_records(flow))
    kinds = {step.id: step.kind for step in (*flow.steps, *flow.finally_)}
    steps: list[WalkedStep] = []
    skipped: dict[str, str] = {}
    going = UnderWay()
    now, after = 0.0, ""
    while not machine.run.over:
        decisions = machine.decide(now)
        for decision in decisions:
            if isinstance(decision, Begin):
                kind = kinds[step_of(decision.record.id)]
                found = estimate(kind, decision.record.arguments)
                going.begin(len(steps), now=now, seconds=found.seconds or 0.0, link=found.link)
                steps.append(_begun(decision.record.id, kind, found, now=now, after=after))
            elif isinstance(decision, Settle) and decision.record.state == "Blocked":
                kind = kinds[step_of(decision.record.id)]
                if kind != "approve":
                    continue  # it waits for a time that it was told
                found = estimate(kind, decision.record.arguments)
                steps.append(_begun(decision.record.id, kind, found, now=now, after=after))
                machine.approved(decision.record.id, by="", now=now, granted=True)
            elif isinstance(decision, Settle) and decision.record.state != "Succeeded":
                record = decision.record
                skipped[record.id] = ": ".join(filter(None, (record.state, record.failure)))
        if decisions:
            continue
        timer = machine.next_at()
        ends_at = going.next_at()
        if timer is not None and (ends_at is None or timer < ends_at):
            now, after = max(now, timer), ""
            continue
        if not going:
            raise FlowError("the run would not come to an end", subject=flow.full_name)
        now, number = going.end()
        steps[number] = replace(steps[number], ends=now)
        after, outputs = steps[number].id, steps[number].estimate.outputs
        machine.ended(after, Outcome(state="done", outputs=outputs), now=now, draw=0.5)
    return Walk(tuple(steps), skipped)


def _begun(step: str, kind: Kind, estimate: Estimate, *, now: float, after: str) -> WalkedStep:
    return WalkedStep(id=step, kind=kind, begins=now, estimate=estimate, ends=now, after=after)


def _unhurried(step: Step) -> Step:
    """Return a step as it is walked: what depends on outputs that nobody knows yet undoes nothing.

    Such a step cannot be begun here, as its arguments cannot be rendered; those after it can.
    """
    return replace(step, timeout_seconds=None, on_failure="continue", compensate=None)
