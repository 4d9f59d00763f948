"""What a step has while it is carried out: its key, its time, its checkpoint, and who listens to it."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cachefs.dataflow.ports import StepContext
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec.model import Value
from cachefs.errors import CapacityError, DeadlineError, LeaseExpiredError, StepCancelledError
from cachefs.ports import CancelToken, Runtime

CHECKPOINT_BYTES_MAX = 1024 * 1024
_MESSAGES_MAX = 1000
"""Of one attempt; a step that tells more is told about once, and then not heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIdentity:
    """Which attempt of which step this is."""

    run: str
    step: str
    attempt: int
    namespace: str
    undo: bool = False
    """Whether the step is undone, not done."""

    @property
    def key(self) -> str:
        """Of idempotency: the same for each attempt; undoing is another effect than doing."""
        return f"{self.run}/{self.step}{'/undo' if self.undo else ''}"


WriteNote = Callable[[StepIdentity, str], None]
"""Stores a checkpoint (JSON) durably; raises ``LeaseExpiredError`` if the attempt is not the one that
the store knows."""


class AttemptContext(StepContext):
    """The context of one attempt. Safe from any thread."""

    def __init__(
        self,
        identity: StepIdentity,
        runtime: Runtime,
        *,
        deadline: float,
        checkpoint: Mapping[str, Value],
        write_note: WriteNote,
    ) -> None:
        """Begin an attempt.

        Args:
            identity: Which one.
            runtime: The clock.
            deadline: On its monotonic clock.
            checkpoint: What was noted last.
            write_note: Stores what is noted.
        """
        self.identity = identity
        self.run = identity.run
        self.step = identity.step
        self.key = identity.key
        self.attempt = identity.attempt
        self.namespace = identity.namespace
        self.runtime = runtime
        self.cancel = CancelToken()
        self.deadline = deadline
        self.abandoned = False
        self.progress: Progress | None = None
        """As it was reported last."""
        self._checkpoint = dict(checkpoint)
        self._write_note = write_note
        self._turn = runtime.condition()
        self._told: deque[tuple[float, str]] = deque()
        self._told_count = 0
        self._revoked = False

    def report(self, progress: Progress) -> None:
        """Note how far it is: in memory, from where it is stored now and then."""
        self.progress = progress

    def checkpoint(self) -> Mapping[str, Value]:
        """Return what was noted last, by this attempt or an earlier one."""
        with self._turn:
            return dict(self._checkpoint)

    def note(self, checkpoint: Mapping[str, Value]) -> None:
        """Store a checkpoint; it is durable when this returns.

        Raises:
            CapacityError: It is too long.
            LeaseExpiredError: The run, or the step, goes on without this attempt.
        """
        text = json.dumps(checkpoint, ensure_ascii=False, separators=(",", ":"))
        if len(text) > CHECKPOINT_BYTES_MAX:
            raise CapacityError("a step noted too long a checkpoint", subject=self.key)
        if self._revoked:
            raise LeaseExpiredError("the step goes on without this attempt", subject=self.key)
        self._write_note(self.identity, text)
        with self._turn:
            self._checkpoint = dict(checkpoint)

    def tell(self, message: str) -> None:
        """Append an event to the run; it is stored within a second."""
        with self._turn:
            self._told_count += 1
            if self._told_count > _MESSAGES_MAX:
                return
            if self._told_count == _MESSAGES_MAX:
                message = "further messages of this attempt are left out"
            self._told.append((self.runtime.wall(), message))

    def take_told(self) -> list[tuple[float, str]]:
        """Return what was told since the last call: when, and what."""
        with self._turn:
            told = list(self._told)
            self._told.clear()
            return told

    def sleep(self, seconds: float) -> None:
        """Wait, unless cancelled or out of time.

        Raises:
            DeadlineError: The attempt's time is over.
            StepCancelledError: The step was cancelled.
        """
        until = self.runtime.monotonic() + seconds
        with self._turn:
            while True:
                now = self.runtime.monotonic()
                if self.cancel.cancelled:
                    raise StepCancelledError("the step was cancelled", subject=self.step)
                if now >= self.deadline:
                    raise DeadlineError("the step's time is over", subject=self.step)
                if now >= until:
                    return
                self._turn.wait(min(until, self.deadline) - now)

    def check(self) -> None:
        """Raise as :meth:`sleep` does if there is a reason to."""
        self.sleep(0.0)

    def stop(self) -> None:
        """Cancel the attempt, and wake whoever sleeps in it."""
        self.cancel.cancel()
        with self._turn:
            self._turn.notify_all()

    def abandon(self) -> None:
        """Have it end as it is: whoever has the run next goes on with the attempt."""
        self.abandoned = True
        self.revoke()
        self.stop()

    def revoke(self) -> None:
        """Refuse what the attempt notes from now on."""
        self._revoked = True
