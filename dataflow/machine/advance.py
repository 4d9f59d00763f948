"""What happens next: :class:`Machine` holds a run's records and says what follows from them."""

from collections.abc import Iterable, Mapping

from cachefs.dataflow.machine.decisions import Decision, Outcome, Spent
from cachefs.dataflow.records import Run, StepRecord
from cachefs.dataflow.spec.model import Flow

_NOTHING_SPENT = Spent()


class Machine:
    """One run. Made from what is stored; afterwards it keeps count of what it decided and was told.

    ``decide`` and ``ended`` take what they return as done. The caller writes it in one transaction; if
    that fails, the machine is thrown away and made again from what is stored. The same records lead to
    the same decisions, whichever way they came about.

    Not thread-safe: one thread of the engine decides about a run.
    """

    run: Run
    """As it stands, with what was decided."""
    records: Mapping[str, StepRecord]
    """By id, those of instances included."""

    def __init__(self, flow: Flow, run: Run, records: Iterable[StepRecord]) -> None:
        """Take a run up as it is stored.

        Records that are ``Running`` or ``Compensating`` are taken to have a thread: whoever takes a
        run over starts those itself, as :class:`Begin` and :class:`Undo` say (:meth:`resumed`).
        """
        raise NotImplementedError

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
        raise NotImplementedError

    def next_at(self) -> float | None:
        """Return when time alone will make a decision (a retry, a timeout, the budget's wall time)."""
        raise NotImplementedError

    def ended(self, step: str, outcome: Outcome, *, now: float, draw: float) -> StepRecord:
        """Return what becomes of a ``Running`` or ``Compensating`` step whose thread has ended.

        ``Succeeded``, ``Retrying`` (with ``not_before``), ``Failed``, ``TimedOut``, ``Cancelled``,
        ``Compensated``.

        Args:
            step: Its id.
            outcome: How it ended.
            now: Seconds since 1970.
            draw: A random number from 0 to 1, for the jitter of a retry.
        """
        raise NotImplementedError

    def resumed(self, now: float) -> tuple[Decision, ...]:
        """Return a ``Begin`` or ``Undo`` for each step that was being carried out when we took over.

        The attempt is the same; its timeout counts anew.
        """
        raise NotImplementedError

    def approved(self, step: str, *, by: str, now: float, granted: bool) -> StepRecord:
        """Return what becomes of an approval that somebody gave or refused.

        Raises:
            ConflictError: The step waits for no approval.
        """
        raise NotImplementedError

    def note_run(self, run: Run) -> None:
        """Take note that somebody else wrote the run: ``wants``, ``keep_cache``, ``state``."""
        raise NotImplementedError

    def note(self, record: StepRecord) -> None:
        """Take note that the engine wrote a record: progress, a checkpoint; never another state."""
        raise NotImplementedError


def first_records(flow: Flow) -> tuple[StepRecord, ...]:
    """Return the records of a new run: every step of the flow and of its ``finally``, ``Pending``."""
    return tuple(StepRecord(id=step.id) for step in (*flow.steps, *flow.finally_))


def decide(flow: Flow, run: Run, records: Iterable[StepRecord], now: float) -> tuple[Decision, ...]:
    """Return what :meth:`Machine.decide` of a machine made from these says."""
    return Machine(flow, run, records).decide(now)
