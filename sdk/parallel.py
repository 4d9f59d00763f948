"""Calls that are made by a few threads at once, and are all over when the caller goes on."""

from collections import deque
from collections.abc import Callable, Sequence

from cachefs.ports import Runtime

THREADS = 4
"""As many as a reader has connections by default."""


def run_all(runtime: Runtime, calls: Sequence[Callable[[], None]], threads: int = THREADS) -> None:
    """Make calls, this thread and some more, and return when none is under way any more.

    Args:
        runtime: Starts the threads.
        calls: Each of which ends by a deadline of its own.
        threads: That make them, this one counted.

    Raises:
        BaseException: What the first call to fail raised; those that had not begun were left out.
    """
    waiting = deque(calls)
    failures: list[BaseException] = []

    def work() -> None:
        while not failures:
            try:
                call = waiting.popleft()
            except IndexError:
                return
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)

    tasks = [runtime.start("cachefs-call", work) for _ in range(min(threads, len(calls)) - 1)]
    work()
    for task in tasks:
        while True:
            try:
                task.join()
                break
            except KeyboardInterrupt as error:  # the calls may write into a buffer of the caller's
                failures.append(error)
    if failures:
        raise failures[0]
