"""The heartbeat: a sign of life that a process leaves in memory which its keeper can read.

It is a time on the machine's monotonic clock, which all processes share. The keeper never compares
it with its own clock, only with what it saw before: whoever stopped both processes, or the whole
machine, has not shown that one of them is frozen.
"""

import mmap
import os
import struct

_TIME = struct.Struct("<d")
_BYTES = mmap.PAGESIZE


def make_heartbeat() -> int:
    """Return a descriptor of memory for a heartbeat, which a child may inherit."""
    descriptor = os.memfd_create("cachefs-heartbeat")
    os.ftruncate(descriptor, _BYTES)
    return descriptor


class Heartbeat:
    """One end of the heartbeat, of either process."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory; the descriptor stays the caller's."""
        self._memory = mmap.mmap(descriptor, _BYTES)

    def beat(self, now: float) -> None:
        """Leave a sign of life."""
        _TIME.pack_into(self._memory, 0, now)

    def last(self) -> float:
        """Return the last one; 0 if there was none yet."""
        return float(_TIME.unpack_from(self._memory, 0)[0])

    def close(self) -> None:
        """Give the mapping back; idempotent."""
        self._memory.close()


class Watchdog:
    """Says when a heartbeat has stood still for too long, as seen by one who looks often."""

    def __init__(self, limit_seconds: float, *, look_seconds: float) -> None:
        """Begin anew.

        Args:
            limit_seconds: How long it may stand still.
            look_seconds: How often :meth:`look` is called; one that comes much later counts as
                this, because then we have been standing still ourselves.
        """
        self._limit_seconds = limit_seconds
        self._step_max = 2 * look_seconds
        self._still_seconds = 0.0
        self._last: float | None = None
        self._looked_at: float | None = None

    def look(self, beat: float, now: float) -> bool:
        """Return whether the process is frozen.

        Args:
            beat: What :meth:`Heartbeat.last` says.
            now: On the caller's monotonic clock.
        """
        if beat != self._last:
            self._still_seconds = 0.0
        elif self._looked_at is not None:
            self._still_seconds += min(now - self._looked_at, self._step_max)
        self._last, self._looked_at = beat, now
        return self._still_seconds > self._limit_seconds
