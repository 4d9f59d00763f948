"""The desk: the names of objects that want to be looked at, and the threads that look.

A name lies on the desk once, however often it was put there; an object is looked at by one thread at a time. Each
look says when the next is due. One that failed is repeated after pauses that grow from one second to five
minutes, so that a coordinator that is away is not asked by everybody all the time. A look that meets a bug is
logged with its trace, and counts as one that failed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
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
_NEVER = float("inf")
_BACKOFF = Backoff(attempts_limit=1 << 30, first_seconds=1.0, wait_seconds_max=300.0)
_log = logging.getLogger("cachefs.operator")

Name = tuple[str, str, str]
"""A keeper's name, a namespace, a name."""


@dataclass(frozen=True, slots=True)
class DeskStatistics:
    """What the desk has seen, by keeper."""

    looks: dict[str, int]
    failures: dict[str, int]
    seconds: dict[str, float]
    waiting: int
    """Objects whose turn it is."""


@dataclass(slots=True)
class _Line:
    """One object on the desk."""

    due_at: float
    failures: int = 0
    is_looked_at: bool = False
    again: bool = False
    """It was put on the desk while somebody looked at it."""


@dataclass(slots=True)
class _Count:
    looks: int = 0
    failures: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _State:
    lines: dict[Name, _Line] = field(default_factory=dict)
    counts: dict[str, _Count] = field(default_factory=dict)
    closed: bool = False


class Desk(Closing):
    """Has keepers look at objects. It owns its threads."""

    def __init__(self, runtime: Runtime, keepers: Sequence[Keeper]) -> None:
        """Prepare; :meth:`start` begins."""
        self._runtime = runtime
        self._keepers = {keeper.name: keeper for keeper in keepers}
        self._state = _State(counts={keeper.name: _Count() for keeper in keepers})
        self._changed = runtime.condition()
        self._tasks: list[Task] = []

    def start(self) -> None:
        """Begin: sweep, then look at all that is there."""
        for keeper in self._keepers.values():
            for number in range(_THREADS):
                body = partial(self._run, keeper)
                self._tasks.append(self._runtime.start(f"{keeper.name}-{number}", body))
        self._tasks.append(self._runtime.start("sweep", self._sweep_on))

    def close(self) -> None:
        """Take no more names; wait for those that are being looked at, but not for ever."""
        with self._changed:
            self._state.closed = True
            self._changed.notify_all()
        deadline = self._runtime.monotonic() + _CLOSE_SECONDS
        for task in self._tasks:
            task.join(max(0.0, deadline - self._runtime.monotonic()))

    def put(self, keeper: str, namespace: str, name: str) -> None:
        """Have an object looked at as soon as somebody is free, however often that failed: it is another now."""
        with self._changed:
            now = self._runtime.monotonic()
            line = self._state.lines.setdefault((keeper, namespace, name), _Line(now))
            line.again = line.is_looked_at
            line.due_at = min(line.due_at, now)
            self._changed.notify_all()

    def keep(self, keeper: str, namespace: str, name: str) -> None:
        """Have an object looked at from now on; one that lies here already has its time."""
        with self._changed:
            now = self._runtime.monotonic()
            self._state.lines.setdefault((keeper, namespace, name), _Line(now))
            self._changed.notify_all()

    def statistics(self) -> DeskStatistics:
        """Return what was seen so far."""
        with self._changed:
            now = self._runtime.monotonic()
            counts = self._state.counts
            return DeskStatistics(
                {name: one.looks for name, one in counts.items()},
                {name: one.failures for name, one in counts.items()},
                {name: one.seconds for name, one in counts.items()},
                sum(
                    1
                    for line in self._state.lines.values()
                    if line.due_at <= now and not line.is_looked_at
                ),
            )

    def _run(self, keeper: Keeper) -> None:
        while True:
            name = self._take(keeper)
            if name is None:
                return
            began = self._runtime.monotonic()
            again, failed = self._look(keeper, name)
            self._put_back(name, again, failed=failed, seconds=self._runtime.monotonic() - began)

    def _take(self, keeper: Keeper) -> Name | None:
        """Wait for an object of a keeper's whose turn it is; ``None`` at the end."""
        with self._changed:
            while not self._state.closed:
                now = self._runtime.monotonic()
                free = [
                    (line.due_at, name)
                    for name, line in self._state.lines.items()
                    if name[0] == keeper.name and not line.is_looked_at
                ]
                due_at, name = min(free, default=(_NEVER, ("", "", "")))
                if due_at <= now:
                    self._state.lines[name].is_looked_at = True
                    return name
                self._changed.wait(min(due_at - now, SWEEP_SECONDS))
        return None

    @staticmethod
    def _look(keeper: Keeper, name: Name) -> tuple[float | None, bool]:
        """Look at an object; return when to look again, and whether it failed."""
        _, namespace, own = name
        what = {"keeper": keeper.name, "object": f"{namespace}/{own}"}
        try:
            return keeper.keep(namespace, own), False
        except CacheFSError as error:
            _log.warning("an object is not as it shall be", extra={**what, "failure": str(error)})
        except Exception:  # noqa: BLE001 - a bug in one object's look is not all others' end
            _log.exception("a look met a bug", extra=what)
        return None, True

    def _put_back(self, name: Name, again: float | None, *, failed: bool, seconds: float) -> None:
        with self._changed:
            count, line = self._state.counts[name[0]], self._state.lines[name]
            count.looks += 1
            count.seconds += seconds
            count.failures += failed
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
                del self._state.lines[name]
            else:
                line.due_at = self._runtime.monotonic() + wait
            self._changed.notify_all()

    def _sweep_on(self) -> None:
        while True:
            for keeper in self._keepers.values():
                self._sweep(keeper)
            next_at = self._runtime.monotonic() + SWEEP_SECONDS
            with self._changed:
                # Whatever else happens on the desk wakes us, too.
                while (left := next_at - self._runtime.monotonic()) > 0:
                    if self._state.closed:
                        return
                    self._changed.wait(left)

    def _sweep(self, keeper: Keeper) -> None:
        try:
            for namespace, name in keeper.sweep():
                self.keep(keeper.name, namespace, name)
        except CacheFSError as error:
            _log.warning(
                "what there is cannot be seen",
                extra={"keeper": keeper.name, "failure": str(error)},
            )
        except Exception:  # noqa: BLE001 - as above
            _log.exception("a sweep met a bug", extra={"keeper": keeper.name})
