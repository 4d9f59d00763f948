"""What happens next: :class:`Machine` holds a run's records and says what follows from them.

Theory of operation. A run has three parts, one after the other. First its *steps*: each begins when all
that it needs is over and its ``if`` holds. Then, if the run was cancelled or a step failed whose
``on_failure`` is ``rollback``, what has begun is *undone*, the newest first, one at a time. Then
*finally*, whatever happened. What the run will end as is known when its steps are over, and is kept with
the run (:attr:`.Run.ending`), so that a machine made anew from what is stored is in the same part.

Three things halt the steps: a wish to cancel, a failure that rolls back, a budget that is exceeded. Then
nothing more of them begins, what runs is told to stop, and the rest is ``Cancelled``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cachefs.dataflow.machine import endings, instances, preparing
from cachefs.dataflow.machine.beginning import Beginning
from cachefs.dataflow.machine.book import Book
from cachefs.dataflow.machine.deciding import Deciding
from cachefs.dataflow.machine.decisions import Begin, Decision, Outcome, Spent, Undo, Why
from cachefs.dataflow.machine.meanings import step_of
from cachefs.dataflow.machine.states import BAD
from cachefs.dataflow.machine.undoing import Undoing
from cachefs.dataflow.records import Run, StepRecord
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.model import Flow, Step
from cachefs.errors import ConflictError, check

_NOTHING_SPENT = Spent()


class Machine:
    """One run. Made from what is stored; afterwards it keeps count of what it decided and was told.

    ``decide``, ``ended`` and ``approved`` take what they return as done. The caller writes it in one
    transaction; if that fails, the machine is thrown away and made again from what is stored. The same
    records lead to the same decisions, whichever way they came about.

    Not thread-safe: one thread of the engine decides about a run.
    """

    def __init__(self, flow: Flow, run: Run, records: Iterable[StepRecord]) -> None:
        """Take a run up as it is stored.

        Records that are ``Running`` or ``Compensating`` are taken to have a thread: whoever takes a
        run over starts those itself, as :meth:`resumed` says.
        """
        self.flow = flow
        self._book = Book(flow, records)
        self._deciding = Deciding(flow, run, self._book)
        self._beginning = Beginning(self._deciding)
        self._undoing = Undoing(self._deciding)
        self._over_budget = ""
        self._halted = False
        """Whether what a halt cancels has been cancelled."""
        self._finally_begun = False

    @property
    def run(self) -> Run:
        """As it stands, with what was decided."""
        return self._deciding.run

    @property
    def records(self) -> Mapping[str, StepRecord]:
        """By id, those of instances included."""
        return self._book.records

    # ---- what the engine asks ------------------------------------------------------------------

    def decide(
        self, now: float, *, spent: Spent = _NOTHING_SPENT, slots: int | None = None
    ) -> tuple[Decision, ...]:
        """Return all that follows from the records at this moment, in the order of doing.

        Cheap if little has changed: the engine calls it whenever something did, and at :meth:`next_at`.

        Args:
            now: Seconds since 1970.
            spent: What the run has cost so far.
            slots: How many steps may begin now; ``None`` for as many as can. The others begin later.
        """
        self._deciding.begin(now, slots)
        if self.run.over:
            return ()
        if self.run.state in ("Planned", "Queued"):
            if self.run.wants == "cancel":
                self._cancel_unbegun()
            return tuple(self._deciding.decisions)
        self._pause()
        self._pass_time()
        if not self.run.ending:
            self._hold_against_budget(spent)
            self._steps()
        if self.run.ending and self._undoing.next():
            self._finally()
        return tuple(self._deciding.decisions)

    def next_at(self) -> float | None:
        """Return when time alone will make a decision (a retry, a timeout, the budget's wall time)."""
        moments = [self._book.timers.first()]
        wall = self.flow.budget.wall_seconds
        if wall is not None and not self.run.ending and not self._over_budget:
            moments.append(self.run.started_at + wall)
        known = [moment for moment in moments if moment is not None]
        return min(known) if known and not self.run.over else None

    def ended(self, step: str, outcome: Outcome, *, now: float, draw: float) -> StepRecord:
        """Return what becomes of a ``Running`` or ``Compensating`` step whose thread has ended.

        ``Succeeded``, ``Retrying`` (with ``not_before``), ``Failed``, ``TimedOut``, ``Cancelled``,
        ``Compensated``; or still ``Compensating``, to be tried again at ``not_before``.

        Args:
            step: Its id.
            outcome: How it ended.
            now: Seconds since 1970.
            draw: A random number from 0 to 1, for the jitter of a retry.
        """
        record = self.records[step]
        check(step in self._book.busy, f"{step}: nothing is carried out for it")
        why = self._deciding.stopped.pop(step, None)
        if outcome.state == "cancelled" and why == "timeout":
            outcome = replace(outcome, state="timeout", failure="")
        rules = self._book.step(step)
        wait = endings.wait_before_retry(rules.retry, record.tries, outcome, draw=draw)
        if record.state == "Compensating":
            return self._book.put(endings.after_undo(record, outcome, now=now, wait=wait))
        if outcome.state == "done":
            names = self._deciding.meanings.of_step(self.run, rules, record)
            return self._book.put(endings.after_success(rules, record, outcome, names, now=now))
        if self._halt() and step_of(step) not in self._book.last:
            wait = None
        return self._book.put(endings.after_try(rules, record, outcome, now=now, wait=wait))

    def resumed(self, now: float) -> tuple[Decision, ...]:
        """Return a ``Begin`` or ``Undo`` for each step that was being carried out when we took over.

        The attempt is the same; its timeout counts anew.
        """
        found: list[Decision] = []
        for step in sorted(self._book.busy, key=self._book.order):
            record = self._book.put(replace(self.records[step], started_at=now))
            rules = self._book.step(step)
            if record.state == "Running":
                found.append(Begin(record, rules.timeout_seconds))
                continue
            names = self._deciding.meanings.of_step(self.run, rules, record)
            how = preparing.compensation(rules, names)
            found.append(Undo(record, how, rules.timeout_seconds))
        return tuple(found)

    def approved(self, step: str, *, by: str, now: float, granted: bool) -> StepRecord:
        """Return what becomes of an approval that somebody gave or refused.

        Raises:
            ConflictError: The step waits for no approval.
        """
        record = self.records.get(step)
        if record is None or record.state != "Blocked" or self._book.step(step).kind != "approve":
            raise ConflictError("it waits for no approval", subject=step)
        if not granted:
            failure = f"refused by {by}"
            return self._book.put(replace(record, state="Failed", failure=failure, ended_at=now))
        return self._book.put(replace(record, state="Succeeded", outputs={"by": by}, ended_at=now))

    def note_run(self, run: Run) -> None:
        """Take note that somebody else wrote the run: ``wants``, ``keep_cache``, ``state``."""
        self._deciding.run = run

    def note(self, record: StepRecord) -> None:
        """Take note that the engine wrote a record: progress, a checkpoint; never another state.

        What :meth:`ended` returns has the progress and the checkpoint that were noted last.
        """
        check(record.state == self.records[record.id].state, f"{record.id}: another state is noted")
        self._book.records[record.id] = record

    # ---- the run -------------------------------------------------------------------------------

    def _cancel_unbegun(self) -> None:
        for record in list(self.records.values()):
            if not record.over:
                self._deciding.settle(record, "Cancelled", "the run was cancelled before it began")
        self._deciding.turn("Cancelled", ending="Cancelled")

    def _pause(self) -> None:
        paused = self.run.wants == "pause"
        if paused != (self.run.state == "Paused"):
            self._deciding.turn("Paused" if paused else "Running")

    def _pass_time(self) -> None:
        """Let what waited for this moment go on, and stop what is out of time."""
        for step in self._book.timers.due(self._deciding.now):
            record = self.records[step]
            rules = self._book.step(step)
            if record.state == "Retrying" or (record.state == "Blocked" and record.not_before):
                self._book.ready.add(step)
            elif record.state == "Compensating" and record.not_before:
                self._undoing.begin(record)
            elif record.state == "Blocked":
                self._deciding.settle(
                    record, "TimedOut", f"not approved within {rules.timeout_seconds:g} s"
                )
            else:
                self._deciding.stop(step, "timeout")

    def _hold_against_budget(self, spent: Spent) -> None:
        budget = self.flow.budget
        if budget.origin_bytes is not None and spent.origin_bytes > budget.origin_bytes:
            told = f"{spent.origin_bytes} bytes from origins, of {budget.origin_bytes}"
        elif budget.egress_usd is not None and spent.egress_usd > budget.egress_usd:
            told = f"{spent.egress_usd:.2f} USD of egress, of {budget.egress_usd:.2f}"
        elif (
            budget.wall_seconds is not None
            and self._deciding.now >= self.run.started_at + budget.wall_seconds
        ):
            told = f"longer than {budget.wall_seconds:g} s"
        else:
            return
        self._over_budget = f"over budget: {told}"

    # ---- steps ---------------------------------------------------------------------------------

    def _halt(self) -> Why | None:
        """Return why no more steps begin, if so."""
        if self.run.ending:
            return None
        if self.run.wants == "cancel":
            return "cancel"
        if self._book.rollback:
            return "rollback"
        return "budget" if self._over_budget else None

    def _steps(self) -> None:
        self._work(last=False)
        why = self._halt()
        if why:
            self._halt_steps(why)
        if not self._book.left[False]:
            self._close(why)

    def _work(self, *, last: bool) -> None:
        """Look at what has changed, and begin what can, until nothing more follows."""
        book = self._book
        while book.look or book.ready:
            halted = not last and self._halt() is not None
            if book.look:
                step = book.look.pop()
                if (step in book.last) == last:
                    self._look_at(step, halted=halted)
            elif halted or not self._deciding.may_begin:
                return
            else:
                self._beginning.begin(self.records[book.ready.pop()])

    def _look_at(self, step: str, *, halted: bool) -> None:
        record = self.records[step]
        if step in self._book.groups:
            if record.state == "Running":
                self._look_at_group(record, halted=halted)
        elif record.state == "Pending" and not halted:
            self._look_at_needs(record)

    def _look_at_needs(self, record: StepRecord) -> None:
        book, step = self._book, self._book.steps[record.id]
        unsatisfied = book.unsatisfied(step.id)
        expression, asked = preparing.condition(step.condition)
        last = step.id in book.last
        # Whoever does not ask how others ended need not wait for the rest of them to end.
        if unsatisfied and not (asked & {"always"} if last else asked):
            self._deciding.settle(record, "UpstreamFailed", self._because(unsatisfied))
            return
        if book.open_needs(step.id):
            return
        holds = True
        if expression is not None:
            needs = [self.records[need] for need in book.graph.needs[step.id]]
            status = preparing.status_of_needs(needs, good=not unsatisfied)
            if last:
                status = preparing.status_of_run(self.run)
            try:
                holds = expression.truth(self._deciding.meanings.of(self.run), status)
            except ExpressionError as error:
                self._deciding.settle(record, "Failed", f"if: {error}")
                return
        if holds:
            book.ready.add(step.id)
        elif unsatisfied:
            self._deciding.settle(record, "UpstreamFailed", self._because(unsatisfied))
        else:
            self._deciding.settle(record, "Skipped")

    def _because(self, needs: list[str]) -> str:
        return ", ".join(f"{need} is {self.records[need].state}" for need in needs[:3])

    def _look_at_group(self, record: StepRecord, *, halted: bool) -> None:
        group = self._book.groups[record.id]
        if group.stopped and not group.swept:
            group.swept = True
            for one in group.ids:
                if self.records[one].state == "Pending":
                    self._deciding.settle(self.records[one], "Cancelled", "another instance failed")
        if not group.open:
            summed = instances.sum_of(
                record, self._book.of_group(record.id), now=self._deciding.now
            )
            self._deciding.put(summed)
        elif not halted:
            self._beginning.offer(record.id)

    def _halt_steps(self, why: Why) -> None:
        """Cancel what has not begun, and stop what runs."""
        book = self._book
        if not self._halted:
            self._halted = True
            book.ready.clear()
            for one in sorted(self.records, key=book.order):
                record = self.records[one]
                if step_of(one) in book.last or record.over or one in book.busy:
                    continue
                if record.state != "Running":
                    self._deciding.settle(record, "Cancelled", _HALTED[why])
            for one in sorted(book.busy, key=book.order):
                self._deciding.stop(one, why)
        self._work(last=False)

    def _close(self, why: Why | None) -> None:
        """Say what the run will end as, now that its steps are over."""
        if why == "cancel":
            self._deciding.turn(self.run.state, ending="Cancelled")
            return
        if why == "rollback":
            first = self._book.rollback
            told = f"{first}: {self.records[first].failure}"
            self._deciding.turn(self.run.state, ending="RolledBack", failure=told)
            return
        if why == "budget":
            self._deciding.turn(self.run.state, ending="Failed", failure=self._over_budget)
            return
        told = self._first_failure(self.flow.steps)
        self._deciding.turn(self.run.state, ending="Failed" if told else "Succeeded", failure=told)

    def _first_failure(self, steps: Iterable[Step]) -> str:
        """Return what went wrong first, in the order of the flow; empty if nothing did."""
        for step in steps:
            record = self.records[step.id]
            if record.state in BAD and not preparing.satisfies(step, record):
                return f"{step.id}: {record.failure or record.state}"
        return ""

    def _finally(self) -> None:
        if not self._finally_begun:
            self._finally_begun = True
            for step in self._book.last:
                self._book.look.add(step)
        self._work(last=True)
        if self._book.left[True]:
            return
        told = self._first_failure(self.flow.finally_)
        if told and self.run.ending == "Succeeded":
            self._deciding.turn("Failed", failure=told)
        elif self.run.ending:
            self._deciding.turn(self.run.ending)


_HALTED: Mapping[Why, str] = {
    "cancel": "the run was cancelled",
    "rollback": "the run is rolled back",
    "budget": "the run is over budget",
    "timeout": "out of time",
}


def first_records(flow: Flow) -> tuple[StepRecord, ...]:
    """Return the records of a new run: every step of the flow and of its ``finally``, ``Pending``."""
    return tuple(StepRecord(id=step.id) for step in (*flow.steps, *flow.finally_))


def decide(flow: Flow, run: Run, records: Iterable[StepRecord], now: float) -> tuple[Decision, ...]:
    """Return what :meth:`Machine.decide` of a machine made from these says."""
    return Machine(flow, run, records).decide(now)
