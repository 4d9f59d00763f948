"""Lanes: the threads that fetch, and the limit on how many fetch at once.

A read hands in its fetches as one batch and works on them itself; threads of the pool help it, as
far as there are free lanes. Who holds a lane goes on with the next fetch without giving it up, so a
large read wakes each thread once and not once a block. Batches take turns, one fetch each; fetches
that nobody waits for (readahead) run when no batch has any.

A batch is over when none of its fetches runs any more, whatever happened: a failure or an
interrupt (Ctrl-C) in the reading thread cancels those that run and then *waits* for them, because
they write into the caller's buffer.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from cachefs.errors import DeadlineError, WorkerUnavailableError, check
from cachefs.ports import CancelToken, Runtime, Task

Fetch = Callable[[CancelToken], None]
"""One unit of work; the token tells it to stop early."""

_BACKGROUND_LIMIT = 64
"""Fetches that wait in the background; more are refused."""
_CLOSE_SECONDS = 5.0


class _Batch:
    """The fetches of one read."""

    def __init__(self, fetches: Iterable[Fetch]) -> None:
        self.waiting = deque(fetches)
        self.running: dict[CancelToken, None] = {}
        """In the order of their begin: a loop over a set would differ from run to run."""
        self.failure: BaseException | None = None

    @property
    def over(self) -> bool:
        return not self.waiting and not self.running

    def begin(self) -> tuple[Fetch, CancelToken]:
        token = CancelToken()
        self.running[token] = None
        return self.waiting.popleft(), token

    def stop(self, failure: BaseException) -> list[CancelToken]:
        """Forget what has not begun and return the tokens of what runs."""
        self.failure = self.failure or failure
        self.waiting.clear()
        return list(self.running)


class Lanes:
    """Runs fetches, at most ``limit`` at once."""

    def __init__(self, runtime: Runtime, limit: int) -> None:
        """Start no thread yet."""
        self._runtime = runtime
        self._limit = limit
        self._background_limit = max(1, limit - 1)
        """One lane is left for whoever waits."""
        self._condition = runtime.condition()
        self._batches: deque[_Batch] = deque()
        self._background = _Batch(())
        self._tasks: list[Task] = []
        self._lanes_used = 0
        self._idle_threads = 0
        self._closed = False

    def run(self, fetches: Sequence[Fetch], *, deadline: float) -> None:
        """Run fetches and return when all have ended.

        Raises:
            DeadlineError: No lane became free in time.
            BaseException: What the first fetch to fail raised; the others were cancelled.
        """
        batch = _Batch(fetches)
        with self._condition:
            check(not self._closed, "a read on a closed reader")
            self._batches.append(batch)
            self._call_threads(len(fetches) - 1)
        try:
            self._work_on(batch, deadline)
        except BaseException as error:  # noqa: BLE001 - raised again when nothing runs any more
            self._stop(batch, error)
        self._wait_until_over(batch)
        if batch.failure is not None:
            raise batch.failure

    def submit(self, fetch: Fetch) -> bool:
        """Run a fetch when nobody waits for a lane; ``False`` if too many wait already."""
        with self._condition:
            if self._closed or len(self._background.waiting) >= _BACKGROUND_LIMIT:
                return False
            self._background.waiting.append(fetch)
            self._call_threads(1)
            return True

    def close(self) -> None:
        """Cancel what runs and end the threads."""
        closed = WorkerUnavailableError("the reader was closed")
        with self._condition:
            self._closed = True
            batches = [*self._batches, self._background]
            tokens = [token for batch in batches for token in batch.stop(closed)]
            self._condition.notify_all()
        for token in tokens:
            token.cancel()
        for task in self._tasks:
            task.join(_CLOSE_SECONDS)

    def _call_threads(self, count: int) -> None:
        """Have up to ``count`` threads look for work; the condition is held."""
        if count <= 0:
            return
        for _ in range(min(count - self._idle_threads, self._limit - len(self._tasks))):
            self._tasks.append(self._runtime.start("cachefs-lane", self._serve))
        if self._idle_threads:
            self._condition.notify_all()

    def _work_on(self, batch: _Batch, deadline: float) -> None:
        """Be a lane for one's own batch."""
        with self._condition:
            while batch.waiting and self._lanes_used >= self._limit:
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    raise DeadlineError("no connection became free in time")
                self._condition.wait(left)
            if not batch.waiting:
                return
            self._lanes_used += 1
        try:
            while self._run_next(lambda: batch if batch.waiting else None):
                pass
        finally:
            self._free_lane()

    def _serve(self) -> None:
        """Be a lane for everybody: the body of a pool thread."""
        while True:
            with self._condition:
                self._idle_threads += 1
                while not self._closed and (self._lanes_used >= self._limit or not self._turn()):
                    self._condition.wait()
                self._idle_threads -= 1
                if self._closed:
                    return
                self._lanes_used += 1
            try:
                while self._run_next(self._turn):
                    pass
            finally:
                self._free_lane()

    def _turn(self) -> _Batch | None:
        """Return the batch whose turn it is; the condition is held."""
        for _ in range(len(self._batches)):
            self._batches.rotate(-1)
            if self._batches[-1].waiting:
                return self._batches[-1]
        if self._background.waiting and len(self._background.running) < self._background_limit:
            return self._background
        return None

    def _free_lane(self) -> None:
        with self._condition:
            self._lanes_used -= 1
            self._condition.notify_all()

    def _run_next(self, choose: Callable[[], _Batch | None]) -> bool:
        """Run one fetch of the chosen batch; ``False`` if none was chosen."""
        with self._condition:
            batch = choose()
            if batch is None:
                return False
            fetch, token = batch.begin()
        try:
            fetch(token)
        except BaseException as error:  # noqa: BLE001 - handed to the reading thread
            if batch is not self._background:
                self._stop(batch, error)
        finally:
            with self._condition:
                batch.running.pop(token, None)
                if batch.over:
                    self._condition.notify_all()
        return True

    def _stop(self, batch: _Batch, failure: BaseException) -> None:
        with self._condition:
            tokens = batch.stop(failure)
        for token in tokens:
            token.cancel()

    def _wait_until_over(self, batch: _Batch) -> None:
        while True:
            try:
                with self._condition:
                    while not batch.over:
                        self._condition.wait()
                    if batch in self._batches:
                        self._batches.remove(batch)
                    return
            except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 - see below
                # A second Ctrl-C, or what a signal handler raises, may not leave a writer behind.
                self._stop(batch, error)
