"""Asking both ends of a copy: again when that helps, and only while somebody wants the answer.

A request for bytes is as long as about half a second's worth of what came before, so that between two of
them a thread looks whether it shall stop, on slow links too. The rate is one for all threads.
"""

from collections.abc import Callable
from typing import TypeVar

from cachefs.core.backoff import Backoff
from cachefs.core.manifest import FileEntry
from cachefs.core.ratelimits import TokenBucket
from cachefs.errors import (
    CacheFSError,
    IntegrityError,
    OriginUnavailableError,
    StepCancelledError,
)
from cachefs.ports import Origin, Runtime

_BACKOFF = Backoff(attempts_limit=5, first_seconds=0.5)
_REQUEST_SECONDS = 0.5
REQUEST_BYTES_MIN = 256 * 1024
_FIRST_REQUEST_BYTES = 1024 * 1024

Result = TypeVar("Result")


class Lane:
    """What one thread has."""

    __slots__ = ("_buffer", "request_bytes", "unnoted")

    def __init__(self) -> None:
        """Have fetched nothing."""
        self.unnoted = 0
        """Bytes at the destination that a successor would fetch again."""
        self.request_bytes = _FIRST_REQUEST_BYTES
        self._buffer = memoryview(b"")

    def room(self, length: int) -> memoryview:
        """Return a buffer; the one before is not used any more."""
        if len(self._buffer) < length:
            self._buffer = memoryview(bytearray(length))
        return self._buffer[:length]


class Asker:
    """Asks, until it is stopped. Safe from any thread."""

    def __init__(
        self, runtime: Runtime, *, rate: int, subject: str, least: int = REQUEST_BYTES_MIN
    ) -> None:
        """Begin.

        Args:
            runtime: Time and waiting.
            rate: Bytes a second, of all threads; 0 for no limit.
            subject: What is stopped, for the error that says so.
            least: Bytes of a request, however slow it is.
        """
        self._runtime = runtime
        self._subject = subject
        self._least = least
        self._turn = runtime.condition()
        # A quarter of a second's worth at once: what is read shall not come in bursts.
        self._bucket = TokenBucket(rate, now=runtime.monotonic(), burst=rate / 4)
        self._stopped = False

    def stop(self) -> None:
        """End every wait, and refuse every question from now on."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()

    def is_stopped(self) -> bool:
        """Say whether :meth:`stop` was called."""
        return self._stopped

    def check(self) -> None:
        """Raise ``StepCancelledError`` if it was."""
        if self._stopped:
            raise StepCancelledError("the copy was stopped", subject=self._subject)

    def again(self, ask: Callable[[], Result]) -> Result:
        """Ask until it succeeds, or there is no point in it."""
        attempt = 0
        while True:
            attempt += 1
            self.check()
            try:
                return ask()
            except CacheFSError as error:
                after = (
                    error.retry_after_seconds if isinstance(error, OriginUnavailableError) else None
                )
                wait = _BACKOFF.wait_after(
                    attempt, draw=self._runtime.random.random(), retry_after_seconds=after
                )
                if not error.retryable or isinstance(error, IntegrityError) or wait is None:
                    raise
            self._pause(wait)

    def fetch(
        self, lane: Lane, source: Origin, entry: FileEntry, *, offset: int, length: int
    ) -> memoryview:
        """Return a range of a source's file, in the lane's buffer."""
        data = lane.room(length)
        done = 0
        while done < length:
            part = data[done : done + max(self._least, lane.request_bytes)]
            self._pace(len(part))
            began = self._runtime.monotonic()
            self.again(lambda at=offset + done, into=part: _read(source, entry, at, into))  # type: ignore[misc]  # the defaults are bound here
            seconds = max(1e-3, self._runtime.monotonic() - began)
            fitting = int(len(part) / seconds * _REQUEST_SECONDS)
            lane.request_bytes = max(self._least, fitting)
            done += len(part)
        return data

    def _pace(self, length: int) -> None:
        with self._turn:
            wait = self._bucket.reserve(length, now=self._runtime.monotonic())
        self._pause(wait)

    def _pause(self, seconds: float) -> None:
        until = self._runtime.monotonic() + seconds
        with self._turn:
            while (left := until - self._runtime.monotonic()) > 0 and not self._stopped:
                self._turn.wait(left)
        self.check()


def _read(source: Origin, entry: FileEntry, offset: int, into: memoryview) -> None:
    got = source.read_range(entry, offset, len(into), into)
    if got.obj is not into.obj:
        into[:] = got
