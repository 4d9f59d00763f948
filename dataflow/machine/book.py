"""The book: the records of a run, with counts that follow each change, so that nothing is ever recounted.

Whatever becomes of a step goes through :meth:`Book.put`, which checks that the one state may follow the
other, and notes who has to be looked at again because of it. So a decision costs what has changed, not
what the flow has.
"""

from collections.abc import Iterable, Iterator, Mapping

from cachefs.dataflow.machine.instances import Group
from cachefs.dataflow.machine.meanings import index_of, step_of
from cachefs.dataflow.machine.preparing import satisfies
from cachefs.dataflow.machine.queues import Order, Ready, Timers
from cachefs.dataflow.machine.states import FAILED, check_follows
from cachefs.dataflow.records import StepRecord
from cachefs.dataflow.spec.graph import Graph
from cachefs.dataflow.spec.model import Flow, Step
from cachefs.errors import check


class Book:
    """Of one run."""

    def __init__(self, flow: Flow, records: Iterable[StepRecord]) -> None:
        """Count what there is."""
        every = (*flow.steps, *flow.finally_)
        self.steps: Mapping[str, Step] = {step.id: step for step in every}
        self.last = frozenset(step.id for step in flow.finally_)
        self.graph = Graph({step.id: step.needs for step in every})
        self.records: dict[str, StepRecord] = {record.id: record for record in records}
        missing = [step for step in self.steps if step not in self.records]
        check(not missing, f"no record of the steps {missing[:3]}")
        self._place = {step.id: index for index, step in enumerate(every)}
        self.look = Ready(self.order)
        """Steps that have to be looked at: what they need has changed."""
        self.ready = Ready(self.order)
        """Steps and instances that may begin, as soon as there is room."""
        self.timers = Timers(self._holds)
        self.groups: dict[str, Group] = {}
        self.busy: set[str] = set()
        """What threads carry out."""
        self.left = {True: 0, False: 0}
        """Steps that are not over: of ``finally``, and of the others."""
        self.rollback = ""
        """The first step of the flow that has failed and whose failure undoes all; empty for none."""
        self._open: dict[str, int] = {}
        self._count()

    def _count(self) -> None:
        instances: dict[str, list[StepRecord]] = {}
        for record in self.records.values():
            step = step_of(record.id)
            if record.id != step:
                instances.setdefault(step, []).append(record)
            else:
                self.left[step in self.last] += not record.over
            if self.carried_out(record):
                self.busy.add(record.id)
            self._note_time(record)
        for step, needs in self.graph.needs.items():
            self._open[step] = sum(not self.records[need].over for need in needs)
            foreach = self.steps[step].foreach
            if foreach is not None and self.records[step].state != "Pending":
                self.groups[step] = Group.of(foreach, instances.get(step, ()))
            self._note_rollback(self.records[step])
            self.look.add(step)

    def order(self, record: str) -> Order:
        """Return the place of a step or instance in the flow."""
        return self._place[step_of(record)], index_of(record)

    def step(self, record: str) -> Step:
        """Return the step that a record is of."""
        return self.steps[step_of(record)]

    def carried_out(self, record: StepRecord) -> bool:
        """Say whether a thread carries it out; a step with instances has none, a retry of an undo waits."""
        if record.state == "Compensating":
            return not record.not_before
        return record.state == "Running" and not self.is_whole(record.id)

    def is_whole(self, record: str) -> bool:
        """Say whether it is a step that has instances, not one of them."""
        return self.step(record).foreach is not None and "[" not in record

    def open_needs(self, step: str) -> int:
        """Return how many of a step's needs are not over."""
        return self._open[step]

    def unsatisfied(self, step: str) -> list[str]:
        """Return the needs of a step that are over and do not let it begin."""
        return [
            need
            for need in self.graph.needs[step]
            if self.records[need].over and not satisfies(self.steps[need], self.records[need])
        ]

    def add_instances(self, step: str, records: Iterable[StepRecord]) -> None:
        """Note the instances of a step that begins."""
        known = tuple(records)
        self.records.update((record.id, record) for record in known)
        foreach = self.steps[step].foreach
        if foreach is not None:
            self.groups[step] = Group.of(foreach, known)

    def of_group(self, step: str) -> Iterator[StepRecord]:
        """Yield the instances of a step, in the order of the values."""
        group = self.groups.get(step)
        return (self.records[one] for one in (group.ids if group else ()))

    def put(self, record: StepRecord) -> StepRecord:
        """Take a record in the place of what was there; return it."""
        before = self.records[record.id]
        check_follows(before, record)
        self.records[record.id] = record
        if self.carried_out(record):
            self.busy.add(record.id)
        else:
            self.busy.discard(record.id)
        self._note_time(record)
        step = step_of(record.id)
        if step != record.id:
            self.groups[step].change(before, record)
            self.look.add(step)
            return record
        if before.over != record.over:
            gain = 1 if before.over else -1
            self.left[step in self.last] += gain
            for below in self.graph.dependants[step]:
                self._open[below] += gain
                self.look.add(below)
        self._note_rollback(record)
        return record

    def _note_rollback(self, record: StepRecord) -> None:
        step = self.steps[record.id]
        if record.state not in FAILED or step.on_failure != "rollback":
            return
        if not self.rollback or self._place[record.id] < self._place[self.rollback]:
            self.rollback = record.id

    def _note_time(self, record: StepRecord) -> None:
        at = self._moment(record)
        if at is not None:
            self.timers.add(at, record.id)

    def _moment(self, record: StepRecord) -> float | None:
        """Return when a record is to be looked at again, if nothing happens before."""
        if record.state == "Retrying":
            return record.not_before
        if record.state in ("Blocked", "Compensating") and record.not_before:
            return record.not_before
        timeout = self.step(record.id).timeout_seconds
        carried_out = record.state == "Blocked" or self.carried_out(record)
        return None if timeout is None or not carried_out else record.started_at + timeout

    def _holds(self, at: float, step: str) -> bool:
        return self._moment(self.records[step]) == at
