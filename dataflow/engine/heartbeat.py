"""The heartbeat: the threads that keep an owner's lease, and see in time that it was not kept.

One thread renews, which means asking the store, which may not answer for long. So another one, which
never asks anybody, looks at the clock: when we may not act any more, everything stops.
"""

import logging
from collections.abc import Callable

from cachefs.dataflow.engine.leases import Leases
from cachefs.errors import CacheFSError
from cachefs.ports import Closing, Runtime, Task

_LOG = logging.getLogger("cachefs.flows")

_HEARTBEATS_PER_LEASE = 3
_CLOSE_SECONDS = 12.0
"""A renewal that waits for a lock of the store ends within its time-out."""


class Heartbeat(Closing):
    """Renews a lease a third of it after the last time. The owner closes it."""

    def __init__(
        self,
        leases: Leases,
        runtime: Runtime,
        *,
        lease_seconds: float,
        on_expired: Callable[[], None],
    ) -> None:
        """Prepare the threads.

        Args:
            leases: Of a coordinator that has become an owner.
            runtime: The clock.
            lease_seconds: The length of a lease.
            on_expired: Called, once for each time, when we may act no more.
        """
        self._leases = leases
        self._runtime = runtime
        self._seconds = lease_seconds / _HEARTBEATS_PER_LEASE
        self._on_expired = on_expired
        self._turn = runtime.condition()
        self._ended = False
        self._tasks: list[Task] = []

    def start(self) -> None:
        """Begin."""
        self._tasks = [
            self._runtime.start("flows-lease", self._renew),
            self._runtime.start("flows-watch", self._watch),
        ]

    def close(self) -> None:
        """End the threads."""
        with self._turn:
            self._ended = True
            self._turn.notify_all()
        for task in self._tasks:
            task.join(_CLOSE_SECONDS)

    def _pause(self, seconds: float) -> bool:
        """Wait; ``False`` at the end."""
        with self._turn:
            if not self._ended:
                self._turn.wait(seconds)
            return not self._ended

    def _renew(self) -> None:
        while self._pause(self._seconds):
            try:
                self._leases.heartbeat()
            except CacheFSError as error:
                _LOG.warning("the lease of the runs was not renewed", extra={"failure": str(error)})

    def _watch(self) -> None:
        expired = False
        while True:
            left = self._leases.acts_until - self._runtime.monotonic()
            if left > 0:
                expired = False
            elif not expired:
                expired = True
                _LOG.error("the lease of the runs was not renewed in time; they are given up")
                self._on_expired()
            # Looking often costs nothing, and a lease that was renewed meanwhile ends later.
            if not self._pause(min(max(left, self._seconds / 10), self._seconds)):
                return
