"""Hedges: a second worker is asked when the first is slow, and the faster one wins.

The fetch itself runs in the reading thread and writes into the caller's buffer. One watcher looks at
all fetches under way; for one that is slower than usual it starts a hedge in a thread of its own,
which fetches the block from another worker *into a buffer of its own*. If the hedge wins, it cancels
the fetch; the reading thread comes back from it, knows that nobody writes into the caller's buffer
any more, and copies the hedge's bytes there. So two writers can never meet in the caller's buffer,
whoever is slow to notice that he has lost. Hedges are ``only_cached``: they never cause a fill.

The watcher wakes for the earliest fetch that becomes slow, and otherwise every ``hedge_seconds_min``
while there are fetches; as none becomes slow sooner than that after its start, a new fetch need not
wake it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from cachefs.core.membership import Member
from cachefs.errors import CacheFSError
from cachefs.ports import CancelToken, FetchedBlock, Runtime, Task

HedgedFetch = Callable[[Member, memoryview, CancelToken], FetchedBlock | None]
"""Fetches and verifies the block from a worker that holds it; ``None`` if it does not."""

_CLOSE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Race:
    """One fetch, and its hedge if it gets one."""

    backup: Member
    length: int
    due: float
    """When the fetch counts as slow."""
    fetch: HedgedFetch
    primary: CancelToken
    hedge: CancelToken = field(default_factory=CancelToken)
    hedging: bool = False
    over: bool = False
    """The reading thread has its answer; a hedge's comes too late."""
    winner: tuple[FetchedBlock, bytearray] | None = None


class Hedges:
    """Watches fetches and hedges the slow ones; safe from any thread."""

    def __init__(self, runtime: Runtime, *, limit: int, seconds_min: float) -> None:
        """Run at most ``limit`` hedges at once, none sooner than ``seconds_min`` after its fetch."""
        self._runtime = runtime
        self._limit = limit
        self._seconds_min = seconds_min
        self._condition = runtime.condition()
        self._races: dict[Race, None] = {}
        """In the order of their begin: a loop over a set would differ from run to run."""
        self._watcher: Task | None = None
        self._watcher_sleeps = False
        self._hedges: dict[Race, Task | None] = {}
        self._closed = False
        self.started = 0
        """Hedges that were started."""
        self.won = 0
        """Hedges that were faster than the fetch."""

    def enter(self, race: Race) -> None:
        """Watch a fetch that begins now."""
        with self._condition:
            self._races[race] = None
            if self._watcher is None and not self._closed:
                self._watcher = self._runtime.start("cachefs-hedges", self._watch)
            elif self._watcher_sleeps:
                self._condition.notify_all()

    def leave(
        self, race: Race, *, failed: bool, deadline: float
    ) -> tuple[FetchedBlock, bytearray] | None:
        """End the watch over a fetch that has returned; returns the hedge's block if that won.

        After a fetch that failed, a hedge that is under way is waited for.
        """
        with self._condition:
            while failed and race.hedging and not self._closed:
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    break
                self._condition.wait(left)
            self._races.pop(race, None)
            race.over = True
        race.hedge.cancel()
        return race.winner

    def close(self) -> None:
        """Cancel hedges and end the watcher."""
        with self._condition:
            self._closed = True
            races = list(self._hedges)
            tasks = [task for task in [*self._hedges.values(), self._watcher] if task is not None]
            self._condition.notify_all()
        for race in races:
            race.hedge.cancel()
        for task in tasks:
            task.join(_CLOSE_SECONDS)

    def _watch(self) -> None:
        with self._condition:
            while not self._closed:
                now = self._runtime.monotonic()
                due = [race for race in self._races if race.due <= now]
                for race in due:
                    del self._races[race]
                    self._start(race)
                self._watcher_sleeps = not self._races and not due
                if self._watcher_sleeps:
                    self._condition.wait()
                else:
                    earliest = min((race.due for race in self._races), default=float("inf"))
                    self._condition.wait(max(0.0, min(earliest - now, self._seconds_min)))

    def _start(self, race: Race) -> None:
        """Start a hedge, if there may be one more; the condition is held."""
        if len(self._hedges) < self._limit:
            self.started += 1
            race.hedging = True
            self._hedges[race] = None
            self._hedges[race] = self._runtime.start("cachefs-hedge", lambda: self._hedge(race))

    def _hedge(self, race: Race) -> None:
        scratch = bytearray(race.length)
        fetched = None
        try:
            fetched = race.fetch(race.backup, memoryview(scratch), race.hedge)
        except CacheFSError:
            # The fetch goes on as if there had been no hedge.
            fetched = None
        finally:
            with self._condition:
                race.hedging = False
                self._hedges.pop(race, None)
                won = fetched is not None and not race.over
                if won and fetched is not None:
                    race.winner = (fetched, scratch)
                    self.won += 1
                self._condition.notify_all()
            if won:
                race.primary.cancel()
