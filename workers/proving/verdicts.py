"""Verdicts: what became of attempts at a proof that failed, so that it is not found out again and again.

A failure is answered from memory for a while. For a file that was *refuted*, read whole and found
wrong, that while doubles each time, because each attempt reads the whole file from its origin.
"""

from collections import OrderedDict

from cachefs.core.blocks import FileVersionId
from cachefs.errors import CacheFSError
from cachefs.workers.proving.attempts import copy_of

VERDICTS_LIMIT = 1000
"""Files of each kind that are remembered; the oldest is forgotten first."""
REFUTED_SECONDS_MAX = 60.0
"""A refuted file is read from its origin again no more often than this, in the long run."""
DOUBLINGS_LIMIT = 16


class Verdicts:
    """What is remembered of failed attempts. Whoever uses it holds one lock."""

    def __init__(self, *, memory_seconds: float) -> None:
        """Answer a failure from memory for so long, the first time."""
        self._memory_seconds = memory_seconds
        self._failed: OrderedDict[FileVersionId, tuple[CacheFSError, float]] = OrderedDict()
        self._refuted: OrderedDict[FileVersionId, int] = OrderedDict()

    def check(self, name: FileVersionId, now: float) -> None:
        """Raise the failure that is remembered of a file, if there is one."""
        error, until = self._failed.get(name, (None, 0.0))
        if error is not None and now < until:
            raise copy_of(error)

    def is_refuted(self, name: FileVersionId) -> bool:
        """Say whether a file was refuted, and not proven since."""
        return name in self._refuted

    def note(self, name: FileVersionId, error: CacheFSError, now: float) -> None:
        """Remember that an attempt failed."""
        doublings = min(self._refuted.get(name, 1) - 1, DOUBLINGS_LIMIT)
        until = now + min(self._memory_seconds * 2**doublings, REFUTED_SECONDS_MAX)
        if until > self._failed.get(name, (None, 0.0))[1]:
            self._failed[name] = (error, until)
        if len(self._failed) > VERDICTS_LIMIT:
            self._failed.popitem(last=False)

    def refute(self, name: FileVersionId) -> None:
        """Count that a file was read whole and found wrong."""
        self._refuted[name] = self._refuted.pop(name, 0) + 1
        if len(self._refuted) > VERDICTS_LIMIT:
            self._refuted.popitem(last=False)

    def forgive(self, name: FileVersionId) -> None:
        """Forget the failures of a file that was proven."""
        self._refuted.pop(name, None)
        self._failed.pop(name, None)
