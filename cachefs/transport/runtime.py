"""The real runtime: threads, the system's clocks, and its randomness."""

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType

from cachefs.ports import Condition, Task


class ThreadRuntime:
    """Implements :class:`cachefs.ports.Runtime` on operating-system threads."""

    def __init__(self) -> None:
        """Ask the operating system for randomness: ids are made of it, too, and nobody shall guess them."""
        self._random = random.SystemRandom()

    @property
    def random(self) -> random.Random:
        """The source of jitter, and of ids."""
        return self._random

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps."""
        return time.monotonic()  # noqa: TID251 - here is where it comes from

    def wall(self) -> float:
        """Return seconds since 1970."""
        return time.time()  # noqa: TID251 - likewise

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(0.0, seconds))  # noqa: TID251 - likewise

    def condition(self) -> Condition:
        """Make a condition with a lock of its own, which is not re-entrant."""
        return _ThreadCondition()

    def start(self, name: str, body: Callable[[], None]) -> Task:
        """Run ``body`` in a daemon thread."""
        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        return _ThreadTask(thread)


class _ThreadCondition:
    """``threading.Condition`` in the words of the port, over a plain lock."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())

    def __enter__(self) -> bool:
        return self._condition.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._condition.__exit__(kind, error, trace)

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Release the lock, wait for a notification, take the lock again."""
        return self._condition.wait(timeout_seconds)

    def notify_all(self) -> None:
        """Wake every waiter."""
        self._condition.notify_all()


class _ThreadTask:
    """A thread that was started."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it has ended."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()
