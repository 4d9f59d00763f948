"""The desk: the names of objects that want to be looked at, and the threads that look.

A name lies on the desk once, however often it was put there; an object is looked at by one thread at a time. Each
look says when the next is due. One that failed is repeated after pauses that grow from one second to five
minutes, so that a coordinator that is away is not asked by everybody all the time. A look that meets a bug is
logged with its trace, and counts as one that failed.
"""

import heapq
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cachefs.core.backoff import Backoff
from cachefs.errors import CacheFSError
from cachefs.k8s.operator.keepers import Keeper
from cachefs.ports import Closing, Runtime, Task

SWEEP_SECONDS = 60.0
"""How often everything that is there is put on the desk: what no watch has told is found by then."""
_THREADS = 3
"""Of each keeper: origins that take minutes to be listed must not keep pools from being looked at."""
_CLOSE_SECONDS = 10.0
_BACKOFF = Backoff(attempts_limit=1 << 30, first_seconds=1.0, wait_seconds_max=300.0)
_log = logging.getLogger("cachefs.operator")

Name = tuple[str, str]
"""A namespace and a name."""


@dataclass(frozen=True, slots=True)
class DeskStatistics:
    """What the desk has seen, by keeper."""

    looks: dict[str, int]
    failures: dict[str, int]
    seconds: dict[str, float]
    waiting: int
    """Objects whose turn it is."""


class Desk(Closing):
    """Has keepers look at objects. It owns its threads."""

    def __init__(self, runtime: Runtime, keepers: Sequence[Keeper]) -> None:
        """Prepare; :meth:`start` begins."""
        self._runtime = runtime
        self._piles = {keeper.name: _Pile(runtime, keeper) for keeper in keepers}
        self._ending = runtime.condition()
        self._closed = False
        self._tasks: list[Task] = []

    def start(self) -> None:
        """Begin: sweep, then look at all that is there."""
        for name, pile in self._piles.items():
            for number in range(_THREADS):
                self._tasks.append(self._runtime.start(f"{name}-{number}", pile.run))
            sweeping = partial(self._sweep_on, pile)
            self._tasks.append(self._runtime.start(f"{name}-sweep", sweeping))

    def close(self) -> None:
        """Take no more names; wait for those that are being looked at, but not for ever."""
        with self._ending:
            self._closed = True
            self._ending.notify_all()
        for pile in self._piles.values():
            pile.end()
        deadline = self._runtime.monotonic() + _CLOSE_SECONDS
        for task in self._tasks:
            task.join(max(0.0, deadline - self._runtime.monotonic()))

    def put(self, keeper: str, namespace: str, name: str) -> None:
        """Have an object looked at as soon as somebody is free, however often that failed: it is another now."""
        self._piles[keeper].put((namespace, name), at_once=True)

    def statistics(self) -> DeskStatistics:
        """Return what was seen so far."""
        piles = self._piles
        return DeskStatistics(
            {name: pile.looks for name, pile in piles.items()},
            {name: pile.failures for name, pile in piles.items()},
            {name: pile.seconds for name, pile in piles.items()},
            sum(pile.waiting() for pile in piles.values()),
        )

    def _sweep_on(self, pile: "_Pile") -> None:
        while not self._closed:
            pile.sweep()
            with self._ending:
                if not self._closed:
                    self._ending.wait(SWEEP_SECONDS)


@dataclass(slots=True)
class _Line:
    """One object on the desk."""

    due_at: float
    failures: int = 0
    is_looked_at: bool = False
    again: bool = False
    """It was put on the desk while somebody looked at it."""


class _Pile:
    """The objects of one keeper. Whoever is due first lies on top."""

    def __init__(self, runtime: Runtime, keeper: Keeper) -> None:
        self._runtime = runtime
        self._keeper = keeper
        self._changed = runtime.condition()
        self._lines: dict[Name, _Line] = {}
        self._heap: list[tuple[float, Name]] = []
        """When who is due; an entry counts only if its line says the same."""
        self._ended = False
        self.looks = 0
        self.failures = 0
        self.seconds = 0.0

    def put(self, name: Name, *, at_once: bool) -> None:
        with self._changed:
            now = self._runtime.monotonic()
            line = self._lines.get(name)
            if line is None:
                self._lines[name] = line = _Line(now)
            elif not at_once:
                return
            elif line.is_looked_at:
                line.again = True
                return
            self._due(name, line, min(line.due_at, now))

    def run(self) -> None:
        """Look at one after the other, until the end."""
        while True:
            name = self._take()
            if name is None:
                return
            began = self._runtime.monotonic()
            again, failed = self._look(name)
            self._put_back(name, again, failed=failed, seconds=self._runtime.monotonic() - began)

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def waiting(self) -> int:
        with self._changed:
            now = self._runtime.monotonic()
            lines = self._lines.values()
            return sum(1 for line in lines if line.due_at <= now and not line.is_looked_at)

    def sweep(self) -> None:
        """Put all on the pile that there is."""
        what = {"keeper": self._keeper.name}
        try:
            for name in self._keeper.sweep():
                self.put(name, at_once=False)
        except CacheFSError as error:
            _log.warning("what there is cannot be seen", extra={**what, "failure": str(error)})
        except Exception:  # noqa: BLE001 - a bug in one sweep is not all others' end
            _log.exception("a sweep met a bug", extra=what)

    def _take(self) -> Name | None:
        """Wait for an object whose turn it is; ``None`` at the end."""
        with self._changed:
            while not self._ended:
                while self._heap and not self._counts(*self._heap[0]):
                    heapq.heappop(self._heap)
                now = self._runtime.monotonic()
                if self._heap and self._heap[0][0] <= now:
                    _, name = heapq.heappop(self._heap)
                    self._lines[name].is_looked_at = True
                    return name
                self._changed.wait(self._heap[0][0] - now if self._heap else SWEEP_SECONDS)
        return None

    def _counts(self, due_at: float, name: Name) -> bool:
        line = self._lines.get(name)
        return line is not None and line.due_at == due_at and not line.is_looked_at

    def _due(self, name: Name, line: _Line, at: float) -> None:
        """Say when a line is due; the caller holds the condition."""
        line.due_at = at
        heapq.heappush(self._heap, (at, name))
        self._changed.notify_all()

    def _look(self, name: Name) -> tuple[float | None, bool]:
        """Look at an object; return when to look again, and whether it failed."""
        what = {"keeper": self._keeper.name, "object": "/".join(name)}
        try:
            return self._keeper.keep(*name), False
        except CacheFSError as error:
            _log.warning("an object is not as it shall be", extra={**what, "failure": str(error)})
        except Exception:  # noqa: BLE001 - a bug in one object's look is not all others' end
            _log.exception("a look met a bug", extra=what)
        return None, True

    def _put_back(self, name: Name, again: float | None, *, failed: bool, seconds: float) -> None:
        with self._changed:
            line = self._lines[name]
            self.looks += 1
            self.seconds += seconds
            self.failures += failed
            line.failures = line.failures + 1 if failed else 0
            line.is_looked_at = False
            wait = again
            if line.again:
                wait = 0.0
            elif failed:
                draw = self._runtime.random.random()
                # Half of it is certain: a pause of nothing would be none.
                wait = _BACKOFF.wait_after(line.failures, draw=0.5 + draw / 2)
            line.again = False
            if wait is None:
                del self._lines[name]
            else:
                self._due(name, line, self._runtime.monotonic() + wait)
