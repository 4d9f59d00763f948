"""Running: the thread of one attempt of a step, and how it ended.

An attempt observes, applies, and observes again, until the world is as the step wants it. Whatever
ends it is told as an :class:`~cachefs.dataflow.machine.decisions.Outcome`, once. One that is told to
stop and does not look is left behind: it is answered for, what it still notes is refused, and its
end is nobody's business any more.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Literal

from cachefs.core.names import printable
from cachefs.dataflow.engine.context import AttemptContext
from cachefs.dataflow.machine.decisions import Outcome, Why
from cachefs.dataflow.ports import Observed, StepContext, StepKind
from cachefs.dataflow.spec.model import Value
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    ConfigError,
    CoordinatorUnavailableError,
    DeadlineError,
    OriginUnavailableError,
    StepCancelledError,
)
from cachefs.ports import Task

_LOG = logging.getLogger("cachefs.flows")

GRACE_SECONDS = 2.0
"""How long an attempt may take to end after it was told to; then it is left behind."""
_OUTPUTS_BYTES_MAX = 256 * 1024
_PAUSE_SECONDS = 0.1
"""Between an ``apply`` after which the world is not yet as wanted, and the next; it doubles."""
_PAUSE_SECONDS_MAX = 2.0


class Attempt:
    """One attempt at doing or undoing a step."""

    def __init__(
        self,
        context: AttemptContext,
        kind: StepKind,
        arguments: Mapping[str, Value],
        *,
        how: Mapping[str, Value] | None,
        on_end: Callable[["Attempt", Outcome], None],
    ) -> None:
        """Prepare it.

        Args:
            context: What the step has.
            kind: What it is.
            arguments: What it was begun with.
            how: How to undo it; ``None`` to do it.
            on_end: Called once, from any thread, unless the attempt was forgotten.
        """
        self.context = context
        self.stopped: Why | None = None
        self.leave_at = float("inf")
        """When it is left behind, on the monotonic clock."""
        self._kind = kind
        self._arguments = arguments
        self._how = how
        self._on_end = on_end
        self._turn = context.runtime.condition()
        self._answered = False
        self._task: Task | None = None

    def start(self) -> None:
        """Begin, in a thread."""
        self._task = self.context.runtime.start(f"step {self.context.key}", self._run)

    def stop(self, why: Why) -> None:
        """Have it end."""
        if self.stopped is None:
            self.stopped = why
            self.leave_at = self.context.runtime.monotonic() + GRACE_SECONDS
            self.context.stop()

    def forget(self) -> None:
        """Have it end, and never say how: the run is in other hands, or will be."""
        with self._turn:
            self._answered = True
        self.context.abandon()

    def leave(self) -> bool:
        """Answer for it: it was told to stop, and did not; ``False`` if it has answered itself."""
        self.context.revoke()
        return self._answer(self._stopped_outcome("it did not stop, and was left behind"))

    def join(self, timeout_seconds: float) -> bool:
        """Wait for its thread; ``False`` if that goes on."""
        return self._task is None or self._task.join(timeout_seconds)

    def _answer(self, outcome: Outcome) -> bool:
        with self._turn:
            if self._answered:
                return False
            self._answered = True
        self._on_end(self, outcome)
        return True

    def _run(self) -> None:
        try:
            outcome = self._patiently(self._do if self._how is None else self._undo)
        except CacheFSError as error:
            outcome = self._outcome_of(error)
        except Exception as error:  # noqa: BLE001 - the step boundary: a bug fails its step, no more
            _LOG.exception("a step met a bug", extra={"step": self.context.key})
            text = printable(f"{type(error).__name__}: {error}")
            outcome = Outcome(state="failed", failure=f"a bug in cachefs: {text}")
        self._answer(outcome)

    def _patiently(self, attempt: Callable[[], Outcome | None]) -> Outcome:
        """Try until the world is as wanted; our own store being away is no failure of the step.

        While it is, nothing can be known, nor could it be written that the step had failed.
        """
        pause = _PAUSE_SECONDS
        while True:
            self.context.check()
            try:
                outcome = attempt()
            except CoordinatorUnavailableError as error:
                extra = {"step": self.context.key, "failure": str(error)}
                _LOG.warning("a step waits for the coordinator's store", extra=extra)
                outcome = None
            if outcome is not None:
                return outcome
            self.context.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)

    def _do(self) -> Outcome | None:
        observed = self._kind.observe(self.context, self._arguments)
        if not observed.done:
            self.context.check()
            self._kind.apply(self.context, self._arguments)
            observed = self._kind.observe(self.context, self._arguments)
        self.context.report(observed.progress)
        if not observed.done:
            return None
        outputs = dict(observed.outputs)
        if len(json.dumps(outputs)) > _OUTPUTS_BYTES_MAX:
            raise CapacityError("a step has too long outputs", subject=self.context.step)
        return Outcome(state="done", outputs=outputs)

    def _undo(self) -> Outcome:
        assert self._how is not None  # noqa: S101 - for the type checker
        self._kind.compensate(self.context, self._arguments, self._how)
        return Outcome(state="done")

    def _outcome_of(self, error: CacheFSError) -> Outcome:
        if self.stopped is not None:
            # Whatever it says: what it waited for was aborted under its hands.
            own = isinstance(error, StepCancelledError | DeadlineError)
            return self._stopped_outcome("" if own else printable(str(error)))
        late = self.context.runtime.monotonic() >= self.context.deadline
        if isinstance(error, DeadlineError) and late:
            return Outcome(state="timeout", failure=str(error))
        after = error.retry_after_seconds if isinstance(error, OriginUnavailableError) else None
        return Outcome(
            state="failed",
            failure=printable(str(error)),
            retryable=error.retryable,
            retry_after_seconds=after,
        )

    def _stopped_outcome(self, failure: str) -> Outcome:
        state: Literal["timeout", "cancelled"] = (
            "timeout" if self.stopped == "timeout" else "cancelled"
        )
        return Outcome(state=state, failure=failure)


class UnknownKind(StepKind):
    """Stands for a kind that is not known here: a newer cachefs accepted the flow."""

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Raise ``ConfigError``."""
        del arguments
        raise ConfigError("no such kind of step in this version", subject=context.step)

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Raise ``ConfigError``."""
        self.observe(context, arguments)

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Raise ``ConfigError``."""
        del how
        self.observe(context, arguments)
