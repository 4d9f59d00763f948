"""Time and threads: what a simulation must own to replay a run."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from random import Random
from typing import Protocol


class Condition(AbstractContextManager[bool], Protocol):
    """A lock with waiting, as ``threading.Condition``."""

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Release the lock, wait for a notification, take it again; ``False`` on time-out."""
        ...

    def notify_all(self) -> None:
        """Wake every waiter."""
        ...


class Task(Protocol):
    """A thread of control that was started."""

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it has ended; ``False`` on time-out."""
        ...


class Runtime(Protocol):
    """Time, threads and randomness: what a simulation must own to replay a run."""

    @property
    def random(self) -> Random:
        """The source of jitter and of identities that need not be secret."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970, for people; it may jump."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def condition(self) -> Condition:
        """Make a condition with a lock of its own."""
        ...

    def start(self, name: str, body: Callable[[], None]) -> Task:
        """Run ``body`` in a thread of its own, which never keeps the process alive."""
        ...


class CancelToken:
    """Tells a call in another thread that nobody wants its answer any more.

    The call registers what aborts it (a socket's shutdown). Both methods are safe from any thread;
    an abort registered after the cancellation runs at once, and no abort runs twice.
    """

    def __init__(self) -> None:
        """Make a token that is not cancelled."""
        self._abort: Callable[[], None] | None = None
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Abort the call."""
        self._cancelled = True
        self._run()

    def on_cancel(self, abort: Callable[[], None] | None) -> None:
        """Say what aborts the call now; ``None`` when there is nothing to abort any more."""
        self._abort = abort
        if self._cancelled:
            self._run()

    def _run(self) -> None:
        # Both threads may get here; the swap is atomic under the interpreter's lock, and so one
        # of them finds the function and the other finds nothing.
        abort, self._abort = self._abort, None
        if abort is not None:
            abort()
