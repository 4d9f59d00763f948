"""What the machine decides, for the engine to carry out.

Each decision holds the record as it shall be written. What :meth:`.Machine.decide` returned at once is
written in one transaction, together with its events; after that, and not before, the engine does what
each of them says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cachefs.dataflow.records import Run, StepRecord
from cachefs.dataflow.spec.model import Value

Why = Literal["cancel", "timeout", "budget", "rollback"]


@dataclass(frozen=True, slots=True)
class Expand:
    """A step with ``foreach`` has begun: store a record for each instance. Nothing to carry out."""

    record: StepRecord
    """Of the step itself, ``Running`` until its instances are over."""
    instances: tuple[StepRecord, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """Carry out a step, or an instance of one: observe it, apply it if need be."""

    record: StepRecord
    """``Running``, with its arguments rendered and checked."""
    timeout_seconds: float | None
    """Of this attempt."""


@dataclass(frozen=True, slots=True)
class Undo:
    """Carry out the compensation of a step. The next is not undone before this one has ended."""

    record: StepRecord
    """``Compensating``; its arguments are those that it was begun with."""
    how: Mapping[str, Value]
    """Its ``compensate``, rendered and checked."""
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Have the thread that carries out a step end; it reports how it ended, as ever."""

    step: str
    why: Why


@dataclass(frozen=True, slots=True)
class Settle:
    """A step has another state, and nothing is carried out for it.

    ``Blocked``: an approval that somebody must give. Else it is over: skipped, ended because of others,
    the sum of its instances, or it could not even begin.
    """

    record: StepRecord


@dataclass(frozen=True, slots=True)
class Turn:
    """The run has another state, or goes on to another part of itself (:attr:`.Run.ending`)."""

    run: Run


Decision = Expand | Begin | Undo | Stop | Settle | Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a thread ended that carried out a :class:`Begin` or an :class:`Undo`."""

    state: Literal["done", "failed", "timeout", "cancelled"]
    """``done``: it was *observed* to be as wanted (or undone)."""
    outputs: Mapping[str, Value] | None = None
    failure: str = ""
    """For people: the error's text."""
    retryable: bool = False
    """``retryable`` of the error."""
    retry_after_seconds: float | None = None
    """What the other side asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run has cost so far, as far as the engine has counted; to be held against its budget."""

    origin_bytes: int = 0
    egress_usd: float = 0.0
