"""The threads that carry out fills: few, started when they are needed, and kept for a moment.

One read's blocks follow each other within milliseconds, and to start a thread for each costs about as
much as all the rest of a fill's bookkeeping. So a thread that finds no work *rests*: it waits to be
called for ``REST_SECONDS``, and then ends. The one that went to rest last is called first, because
what it needs is in the processor's cache; so those that are not needed do end.

The interleaving to keep in mind: a thread looks for work and finds none; work comes in, and whoever
brought it calls, and sees every thread busy; the thread goes to rest, and the work is left lying. So
calls are counted, and a thread goes to rest only if there was none since it began to look.
"""

import logging
import threading
from collections.abc import Callable

from cachefs.ports import Condition, Runtime

REST_SECONDS = 1.0
"""Longer than the pause between two reads of a program that loads a model."""

_log = logging.getLogger("cachefs.worker")


class _Rest:
    """Where one thread waits to be called; ``called`` is guarded by ``changed``."""

    def __init__(self, changed: Condition) -> None:
        self.changed = changed
        self.called = False

    def wait(self, runtime: Runtime, seconds: float) -> bool:
        """Return whether somebody has called within the time."""
        until = runtime.monotonic() + seconds
        with self.changed:
            while not self.called and (left := until - runtime.monotonic()) > 0:
                self.changed.wait(left)
            called, self.called = self.called, False
            return called

    def end(self) -> None:
        """Call the thread that waits here."""
        with self.changed:
            self.called = True
            self.changed.notify_all()


class FillThreads:
    """Runs ``work`` in up to ``limit`` threads until it says that there is none. Safe from any thread."""

    def __init__(self, runtime: Runtime, limit: int, work: Callable[[], bool]) -> None:
        """Start none yet.

        Args:
            runtime: Starts the threads.
            limit: How many work at once.
            work: Does one piece of work, or returns ``False`` at once if there is none; raises
                only what may end the thread.
        """
        self._runtime = runtime
        self._limit = limit
        self._work = work
        # Straight-line code only under this lock.
        self._lock = threading.Lock()
        self._calls = 0
        self._busy = 0
        self._resting: list[_Rest] = []
        self._closed = False
        self._ended = runtime.condition()
        self._alive = 0
        """Guarded by ``ended``."""

    @property
    def busy(self) -> int:
        """How many threads are at work."""
        return self._busy

    def call(self) -> None:
        """Have one more thread look for work; if all are at it already, one of them looks again."""
        with self._lock:
            self._calls += 1
            if self._closed or self._busy >= self._limit:
                return
            self._busy += 1
            rest = self._resting.pop() if self._resting else None
        if rest is not None:
            rest.end()
            return
        with self._ended:
            self._alive += 1
        try:
            self._runtime.start("fill", self._run)
        except RuntimeError as error:
            # The system has no thread left. If others run, they will get to the work; those who
            # wait for it have deadlines in any case.
            self._leave(busy=True)
            _log.error("cannot start a thread", extra={"failure": str(error)})

    def close(self, seconds: float) -> None:
        """End the threads that rest, and wait so long for those that work; idempotent."""
        with self._lock:
            self._closed = True
            resting, self._resting = self._resting, []
            self._busy += len(resting)
        for rest in resting:
            rest.end()
        until = self._runtime.monotonic() + seconds
        with self._ended:
            while self._alive and (left := until - self._runtime.monotonic()) > 0:
                self._ended.wait(left)

    def _run(self) -> None:
        rest = _Rest(self._runtime.condition())
        busy = True
        try:
            while busy:
                seen = self._calls
                if not self._work():
                    busy = self._stay(rest, seen)
        finally:
            self._leave(busy=busy)

    def _stay(self, rest: _Rest, seen: int) -> bool:
        """Rest until there is work; ``False`` when this thread, now one of the busy no more, shall end."""
        with self._lock:
            if self._calls != seen:
                return True
            self._busy -= 1
            if self._closed:
                return False
            self._resting.append(rest)
        while not rest.wait(self._runtime, REST_SECONDS):
            with self._lock:
                if rest in self._resting:
                    self._resting.remove(rest)
                    return False
            # Somebody has taken it out to call it, and does so in a moment.
        return True

    def _leave(self, *, busy: bool) -> None:
        with self._lock:
            self._busy -= busy
        with self._ended:
            self._alive -= 1
            self._ended.notify_all()
