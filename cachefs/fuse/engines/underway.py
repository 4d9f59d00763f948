"""Requests under way: for how long the one that is served for the longest has been.

Whoever looks from outside cannot tell a process that is stuck from one that waits for the network,
but by the time that passes: everything that a request may wait for has a deadline.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cachefs.ports import Runtime


class Underway:
    """What the threads of an engine are serving. Safe from any thread."""

    def __init__(self, runtime: Runtime) -> None:
        """Nothing is served yet."""
        self._runtime = runtime
        self._since: dict[int, float] = {}
        """By thread: since when it serves what it serves."""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Note that this thread serves a request in the body of the ``with`` statement.

        Within such a body, another one begins anew.
        """
        thread = threading.get_ident()
        self._since[thread] = self._runtime.monotonic()
        try:
            yield
        finally:
            self._since.pop(thread, None)

    def longest_seconds(self) -> float:
        """Return for how long the oldest request has been served; 0 if there is none."""
        since = list(self._since.values())
        return self._runtime.monotonic() - min(since) if since else 0.0
