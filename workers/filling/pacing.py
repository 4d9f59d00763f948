"""Pacing: calls the filling threads when a job that has a rate may go on.

A thread that finds only jobs whose turn has not come goes to rest, like one that finds nothing at all;
it must not wait with a place taken, or a few slow warm-ups would keep reads from filling. So one thread
waits for all of them, until the first of their turns, and ends when there is none.
"""

import math

from cachefs.ports import Condition, Runtime
from cachefs.workers.filling.threads import FillThreads

REST_SECONDS = 1.0
"""The thread stays so long when there is nothing to wait for: the next turn mostly follows soon."""


class Pacer:
    """Waits for the next turn of the jobs that have a rate. Safe from any thread."""

    def __init__(self, runtime: Runtime, threads: FillThreads) -> None:
        """Wait for nothing yet."""
        self._runtime = runtime
        self._threads = threads
        self._changed: Condition = runtime.condition()
        self._at = math.inf
        self._runs = False
        self._closed = False

    def wake_at(self, at: float) -> None:
        """Call a thread at this time, or at an earlier one that was named before; ``inf`` is never."""
        if at == math.inf:
            return
        with self._changed:
            if self._closed or at >= self._at:
                return
            self._at = at
            if self._runs:
                self._changed.notify_all()
                return
            self._runs = True
        self._runtime.start("pace", self._run)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        idle_since = self._runtime.monotonic()
        while True:
            with self._changed:
                now = self._runtime.monotonic()
                due = self._at <= now
                if due:
                    self._at = math.inf
                    idle_since = now
                elif self._closed or (self._at == math.inf and now - idle_since >= REST_SECONDS):
                    self._runs = False
                    return
                else:
                    self._changed.wait(min(self._at, idle_since + REST_SECONDS) - now)
            if due:
                self._threads.call()
