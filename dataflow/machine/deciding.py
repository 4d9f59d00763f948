"""One run while decisions are made about it: its book, and the decisions so far."""

from dataclasses import replace

from cachefs.dataflow.machine.book import Book
from cachefs.dataflow.machine.decisions import Begin, Decision, Settle, Stop, Turn, Undo, Why
from cachefs.dataflow.machine.meanings import Meanings
from cachefs.dataflow.records import Run, RunState, StepRecord, StepState
from cachefs.dataflow.spec.model import Flow


class Deciding:
    """What the parts of the machine share. Whatever is decided is taken as done at once."""

    def __init__(self, flow: Flow, run: Run, book: Book) -> None:
        """Begin with nothing decided."""
        self.flow = flow
        self.run = run
        self.book = book
        self.meanings = Meanings(flow, book.steps, book.records)
        self.stopped: dict[str, Why] = {}
        """What was told to end, and has not ended."""
        self.decisions: list[Decision] = []
        self.now = 0.0
        self._slots: int | None = None

    def begin(self, now: float, slots: int | None) -> None:
        """Begin to decide anew."""
        self.decisions, self.now, self._slots = [], now, slots

    @property
    def may_begin(self) -> bool:
        """Whether there is room for another step, and nobody has paused the run."""
        return self.run.state != "Paused" and self._slots != 0

    def carry_out(self, decision: Begin | Undo) -> None:
        """Have a step carried out."""
        self.book.put(decision.record)
        self.decisions.append(decision)
        if self._slots is not None:
            self._slots -= 1

    def turn(
        self, state: RunState, *, ending: RunState | None = None, failure: str | None = None
    ) -> None:
        """Have the run go on to another state or part; what is not given stays."""
        run = replace(
            self.run,
            state=state,
            ending=self.run.ending if ending is None else ending,  # type: ignore[arg-type]  # four of them
            failure=self.run.failure if failure is None else failure,
        )
        self.run = replace(run, ended_at=self.now) if run.over else run
        self.decisions.append(Turn(self.run))

    def put(self, record: StepRecord) -> None:
        """Have a step in another state, with nothing to carry out."""
        self.decisions.append(Settle(self.book.put(record)))

    def settle(self, record: StepRecord, state: StepState, failure: str = "") -> None:
        """Have a step be over."""
        self.put(replace(record, state=state, failure=failure, ended_at=self.now))

    def stop(self, step: str, why: Why) -> None:
        """Have a thread end, if it was not told before."""
        if step not in self.stopped:
            self.stopped[step] = why
            self.decisions.append(Stop(step, why))
