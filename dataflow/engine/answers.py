"""What is answered about flows and runs: a plan, a submission, a run as it stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cachefs.dataflow.records import Progress, Run, StepRecord
from cachefs.dataflow.spec.model import Flow, Value


@dataclass(frozen=True, slots=True)
class Planned:
    """What a run would take."""

    names: Mapping[str, Value]
    """For expressions (``plan.…``): see ``PLAN_NAMES`` of :mod:`cachefs.dataflow.spec.names`."""
    document: Mapping[str, Value]
    """For people and programs: all that is known."""
    refusals: tuple[str, ...] = ()
    """Why it cannot be run as it is: what is over its budget or does not fit."""


class Planner(Protocol):
    """Estimates a run before it begins."""

    def plan(self, flow: Flow, params: Mapping[str, Value]) -> Planned:
        """Say what a run would take; changes nothing.

        Raises:
            CacheFSError: That cannot be known now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Submitted:
    """A run, and whether it is a new one."""

    run: Run
    is_new: bool


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run as it stands at this moment."""

    run: Run
    steps: tuple[StepRecord, ...]
    """As they were written; each is followed by its instances."""
    progress: Progress
    """Of all that moves bytes."""
    egress_usd: float
    """What origins charge for what was taken from them, as far as it is counted."""
    last_event: int
    """The number of the last event that led here."""


def total_progress(steps: Sequence[StepRecord]) -> Progress:
    """Return the progress of a run: the bytes of its steps, instances counted and their sums not."""
    expanded = {step.id.partition("[")[0] for step in steps if "[" in step.id}
    moving = [
        step.progress
        for step in steps
        if step.id not in expanded and step.progress.unit == "bytes" and step.progress.total
    ]
    return Progress(
        done=sum(one.done for one in moving),
        total=sum(one.total for one in moving),
        rate=sum(
            step.progress.rate
            for step in steps
            if step.id not in expanded and step.state == "Running" and step.progress.unit == "bytes"
        ),
        origin_bytes=sum(step.progress.origin_bytes for step in steps if step.id not in expanded),
        egress_bytes=sum(step.progress.egress_bytes for step in steps if step.id not in expanded),
    )
