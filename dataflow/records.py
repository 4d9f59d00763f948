"""Runs and steps as they stand: what is stored, what is shown, what decisions are made from.

A step of a flow has one record; with ``foreach`` it has one more for each value, whose id is
``ID[0]``, ``ID[1]``, … in the order of the values. The record of the step itself then sums them up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from cachefs.dataflow.spec.model import Value

StepState = Literal[
    "Pending",
    "Blocked",
    "Running",
    "Retrying",
    "Succeeded",
    "Failed",
    "Skipped",
    "UpstreamFailed",
    "Cancelled",
    "TimedOut",
    "Compensating",
    "Compensated",
]
RunState = Literal[
    "Planned", "Queued", "Running", "Paused", "Succeeded", "Failed", "Cancelled", "RolledBack"
]

STEP_STATES: tuple[StepState, ...] = get_args(StepState)
STEP_OVER: frozenset[StepState] = frozenset(
    ("Succeeded", "Failed", "Skipped", "UpstreamFailed", "Cancelled", "TimedOut", "Compensated")
)
"""States in which a step stays unless somebody retries it or undoes it."""
STEP_GOOD: frozenset[StepState] = frozenset(("Succeeded", "Skipped"))
"""What satisfies those that need the step."""
RUN_OVER: frozenset[RunState] = frozenset(("Succeeded", "Failed", "Cancelled", "RolledBack"))
WITHIN = "flow "
"""How the cause of a run begins that a step of another run has started."""
OUTER = "run"
"""In its ``trigger``: that other run."""
DEPTH = "depth"
"""In its ``trigger``: how many flows it is within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a step has come. Units are bytes where bytes move, else what the step counts."""

    done: float = 0.0
    total: float = 0.0
    """0 while it is not known."""
    unit: str = "bytes"
    rate: float = 0.0
    """Units a second, lately."""
    note: str = ""
    """What a person should see: ``approve: waiting for alice``."""
    origin_bytes: int = 0
    """Taken from an origin for it, in all attempts; what the run's budget is held against."""
    egress_bytes: int = 0
    """Of these, what the origin may charge for: see :mod:`.costs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A step, or one instance of it, in a run."""

    id: str
    state: StepState = "Pending"
    value: Value = None
    """Of ``foreach``, for an instance."""
    attempt: int = 0
    """Tries begun, in all."""
    tries: int = 0
    """Tries begun of what it does now: counts anew when it is set back by a retry, or undone."""
    not_before: float = 0.0
    """Seconds since 1970; a retry waits for it."""
    arguments: Mapping[str, Value] = field(default_factory=dict)
    """What the attempt was begun with: ``with``, rendered."""
    checkpoint: Mapping[str, Value] = field(default_factory=dict)
    """What the step noted for whoever goes on after a crash."""
    outputs: Mapping[str, Value] = field(default_factory=dict)
    progress: Progress = Progress()
    failure: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0

    @property
    def over(self) -> bool:
        """Whether it stays as it is."""
        return self.state in STEP_OVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a flow."""

    id: str
    flow: str
    """``namespace/name``."""
    state: RunState = "Queued"
    document: str = ""
    """The flow as it was submitted; a run never changes its flow."""
    params: Mapping[str, Value] = field(default_factory=dict)
    group: str = ""
    """Of concurrency, rendered; empty for none."""
    key: str = ""
    """Of idempotency: a second submission with it returns this run."""
    cause: str = "manual"
    """Who or what started it: ``manual``, ``cron``, ``event dataset-version 3f…``, ``webhook``; or the
    step of another run that it is within: ``flow RUN/STEP``."""
    wants: Literal["", "pause", "cancel"] = ""
    """What somebody asked of it."""
    ending: Literal["", "Succeeded", "Failed", "Cancelled", "RolledBack"] = ""
    """What it will end as: set once its steps are over, while it undoes some and runs ``finally``."""
    trigger: Mapping[str, Value] = field(default_factory=dict)
    """What started it, for expressions: ``trigger.dataset``, ``trigger.version``, ``trigger.body`` …"""
    plan: Mapping[str, Value] = field(default_factory=dict)
    """What was estimated beforehand, for expressions: see ``PLAN_NAMES`` of :mod:`..spec.names`."""
    keep_cache: bool = False
    """A cancelled run leaves what it has done, instead of compensating."""
    failure: str = ""
    created_at: float = 0.0
    """Seconds since 1970, as the two that follow."""
    started_at: float = 0.0
    ended_at: float = 0.0
    fence: int = 0
    """Grows with each coordinator that takes the run over; who holds an older one writes nothing."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in RUN_OVER

    @property
    def begun(self) -> bool:
        """Whether its turn has come; one that has not waits in the queue, ``Queued`` or ``Paused``."""
        return self.state != "Queued" and not (self.state == "Paused" and not self.started_at)

    @property
    def outer(self) -> str:
        """The run that it is within; empty for one that a person or a trigger started."""
        return str(self.trigger.get(OUTER, "")) if self.cause.startswith(WITHIN) else ""

    @property
    def depth(self) -> int:
        """How many flows it is within."""
        return int(self.trigger.get(DEPTH, 0)) if self.outer else 0
