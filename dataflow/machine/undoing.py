"""How steps are undone: those that have begun and say how, the newest first, one at a time."""

from dataclasses import replace

from cachefs.dataflow.machine import preparing
from cachefs.dataflow.machine.deciding import Deciding
from cachefs.dataflow.machine.decisions import Undo
from cachefs.dataflow.machine.meanings import step_of
from cachefs.dataflow.machine.states import NOT_UNDONE, undoable
from cachefs.dataflow.records import StepRecord
from cachefs.errors import ConfigError


class Undoing:
    """Of one run. A step that failed or was stopped half way is undone, too: part of it is done."""

    def __init__(self, deciding: Deciding) -> None:
        """Take what the machine's parts share."""
        self._deciding = deciding
        self._book = deciding.book
        self._left: list[str] | None = None
        """The newest last; ``None`` before it is known."""
        self._over = False

    def next(self) -> bool:
        """Begin to undo the next one; return whether nothing is left to be undone."""
        if self._left is None:
            self._left = self._to_undo()
        while self._left:
            record = self._book.records[self._left[-1]]
            if record.state == "Compensating":
                return False
            if not undoable(record):
                self._left.pop()
            elif not self._deciding.may_begin:
                return False
            else:
                self.begin(record)
        if not self._over:
            self._over = True
            self._sum_undone()
        return True

    def _to_undo(self) -> list[str]:
        """Return what is to be undone, the newest last; what is being undone is the newest."""
        run, book = self._deciding.run, self._book
        kept = run.ending == "Cancelled" and run.keep_cache
        wanted = run.ending in ("Cancelled", "RolledBack") and not kept
        found = [
            one
            for one in book.records.values()
            if one.state == "Compensating" or (wanted and self._counts(one))
        ]
        found.sort(key=lambda one: (one.state == "Compensating", one.ended_at, book.order(one.id)))
        return [one.id for one in found]

    def _counts(self, record: StepRecord) -> bool:
        book = self._book
        if not undoable(record) or book.step(record.id).compensate is None:
            return False
        return step_of(record.id) not in book.last and not book.is_whole(record.id)

    def begin(self, record: StepRecord) -> None:
        """Have one undone, for the first time or once more."""
        step = self._book.step(record.id)
        again = record.state == "Compensating"
        try:
            names = self._deciding.meanings.of_step(self._deciding.run, step, record)
            how = preparing.compensation(step, names)
        except ConfigError as error:
            self._deciding.settle(record, "Failed", f"{NOT_UNDONE}{error}")
            return
        begun = replace(
            record,
            state="Compensating",
            attempt=record.attempt + 1,
            tries=record.tries + 1 if again else 1,
            not_before=0.0,
            started_at=self._deciding.now,
        )
        self._deciding.carry_out(Undo(begun, how, step.timeout_seconds))

    def _sum_undone(self) -> None:
        """Let steps be undone whose instances are, and a run fail that could not go back."""
        for step in self._book.groups:
            undone = [one.state for one in self._book.of_group(step) if one.attempt]
            record = self._book.records[step]
            if undone and set(undone) == {"Compensated"} and record.state != "Compensated":
                self._deciding.settle(record, "Compensated")
        if self._deciding.run.ending != "RolledBack":
            return
        for one in sorted(self._book.records, key=self._book.order):
            failure = self._book.records[one].failure
            if failure.startswith(NOT_UNDONE):
                self._deciding.turn(
                    self._deciding.run.state, ending="Failed", failure=f"{one}: {failure}"
                )
                return
