"""Attempts at a proof: one for each file, waited for by everyone who wants a block of it."""

from collections.abc import Callable

from cachefs.core.names import printable
from cachefs.errors import CacheFSError, DeadlineError
from cachefs.ports import Condition, FileRef, Runtime
from cachefs.wire import failures
from cachefs.wire.http import PROGRESS_SECONDS
from cachefs.workers.proving.proofs import Proof


class Attempt:
    """A proof that is being made, or asked for. Those who wait give up one by one, it goes on."""

    def __init__(self, file: FileRef, changed: Condition) -> None:
        """Begin without a result."""
        self.file = file
        self.progress = "about to verify the file against its known digest"
        """What is being done, as a continuation of "it was"."""
        self._changed = changed
        self._ended = False
        self._proof: Proof | None = None
        self._error: CacheFSError | None = None

    def end(self, proof: Proof | None, error: CacheFSError | None) -> None:
        """Give everyone who waits the result, or what there is instead."""
        with self._changed:
            self._proof = proof
            self._error = error
            self._ended = True
            self._changed.notify_all()

    def wait(self, runtime: Runtime, deadline: float, on_wait: Callable[[], None] | None) -> Proof:
        """Return the result; ``on_wait`` is called every ``PROGRESS_SECONDS``.

        Raises:
            DeadlineError: It has not ended by then.
            CacheFSError: What it ended with.
        """
        while True:
            with self._changed:
                now = runtime.monotonic()
                until = min(deadline, now + PROGRESS_SECONDS)
                while not self._ended and now < until:
                    self._changed.wait(until - now)
                    now = runtime.monotonic()
                if self._error is not None:
                    raise copy_of(self._error)
                if self._proof is not None:
                    return self._proof
            if now >= deadline:
                raise DeadlineError(
                    f"the deadline passed while it was {self.progress}", subject=name_of(self.file)
                )
            if on_wait is not None:
                on_wait()


def name_of(file: FileRef) -> str:
    """Return what a file is called in messages."""
    return f"{file.dataset}/{printable(file.entry.path)}"


def copy_of(error: CacheFSError) -> CacheFSError:
    """Return a new object: two threads that raise one object mix up its traceback."""
    return failures.from_document(failures.to_document(error))
