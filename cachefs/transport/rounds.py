"""Rounds: something that is looked at again and again, in a thread of its own, for as long as a process lives.

A look that fails is logged, and the next one comes. So does one that meets a bug, with its trace: it must
not end all later ones, or leases would never run out and pools never change again.
"""

import logging
from collections.abc import Callable

from cachefs.errors import CacheFSError
from cachefs.ports import Runtime, Task

_LOG = logging.getLogger("cachefs.rounds")


class Rounds:
    """Calls one function every so many seconds."""

    def __init__(
        self, runtime: Runtime, name: str, look: Callable[[], None], *, every_seconds: float
    ) -> None:
        """Prepare; :meth:`start` begins.

        Args:
            runtime: For its clock and the thread.
            name: Of the thread, and of what is looked at, in the log.
            look: Called by that thread only.
            every_seconds: How long it waits between two looks, and before the first.
        """
        self._runtime = runtime
        self._name = name
        self._look = look
        self._every_seconds = every_seconds
        self._ending = runtime.condition()
        self._ended = False
        self._task: Task | None = None

    @property
    def ended(self) -> bool:
        """Whether :meth:`close` was called: a look that takes long should come to its end."""
        return self._ended

    def start(self) -> None:
        """Begin."""
        self._task = self._runtime.start(self._name, self._run)

    def look(self) -> None:
        """Look once, now, in the caller's thread; nothing is raised."""
        try:
            self._look()
        except CacheFSError as error:
            _LOG.warning("a look failed", extra={"look": self._name, "failure": str(error)})
        except Exception:  # noqa: BLE001 - it is logged with its trace
            _LOG.exception("a look met a bug", extra={"look": self._name})

    def close(self, *, wait_seconds: float) -> None:
        """Have no more looks, and wait so long for the one that is under way."""
        with self._ending:
            self._ended = True
            self._ending.notify_all()
        if self._task is not None:
            self._task.join(wait_seconds)

    def _run(self) -> None:
        while True:
            with self._ending:
                if not self._ended:
                    self._ending.wait(self._every_seconds)
                if self._ended:
                    return
            self.look()
