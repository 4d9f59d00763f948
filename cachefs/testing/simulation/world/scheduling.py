"""The scheduler of simulated tasks: who runs next, and what time it is.

It knows greenlets and a clock, and nothing of locks or processes but whether a task's process is
dead or stopped; :mod:`.runtime` builds those on it, and tells how it all works.
"""

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import FrameType
from typing import Protocol

from greenlet import GreenletExit, getcurrent, greenlet

from cachefs.errors import check

SWITCHES_WITHOUT_TIME_LIMIT = 200_000
"""So many turns at one instant are a busy loop: a whole cluster needs a few hundred."""
FRAMES_SHOWN = 6
"""How deep a message says where a task waits."""


class Process(Protocol):
    """What the scheduler must know of a task's process."""

    name: str
    dead: bool
    stopped: bool
    held: "list[SimTask]"


class DeadlockError(AssertionError):
    """Every task waits, and nothing will ever wake one of them."""


class LivelockError(AssertionError):
    """Tasks run and run, and time does not pass."""


class LeakedTaskError(AssertionError):
    """A task was still alive when the run had ended."""


class TaskFailedError(AssertionError):
    """A task ended with an exception that nobody handles."""


class Scheduler:
    """Who runs next, and what time it is."""

    def __init__(self, seed: int, preempt_chance: float) -> None:
        """Begin at time zero."""
        self.random = Random(f"scheduler {seed}")
        self.seed = seed
        self.preempt_chance = preempt_chance
        self.now = 0.0
        self.uninterrupted = 0
        """While it is not 0, nobody loses a turn."""
        self.current: SimTask | None = None
        self.ready: list[SimTask] = []
        self.alive: dict[int, SimTask] = {}
        self.failures: list[tuple[SimTask, BaseException]] = []
        self.trace: list[tuple[float, str, str]] = []
        self.switches = 0
        self.processes = 0
        self._hub: greenlet | None = None
        self._timers: list[tuple[float, int, SimTask, int]] = []
        self._started = 0
        self._timed = 0

    def spawn(self, process: Process, name: str, body: Callable[[], None]) -> "SimTask":
        """Add a task that can run."""
        self._started += 1
        task = SimTask(self, process, name, self._started, body)
        if self._hub is not None:
            task.greenlet.parent = self._hub  # else its end would return to whoever started it
        self.alive[task.number] = task
        self.make_ready(task)
        return task

    def make_ready(self, task: "SimTask") -> None:
        """Let a task have a turn; that of a stopped process only once it goes on."""
        if task.process.stopped:
            task.process.held.append(task)
        else:
            self.ready.append(task)

    def preempt(self) -> None:
        """Perhaps let others run first."""
        task = self.current
        if (
            task is None
            or not self.ready
            or self.uninterrupted
            or self.random.random() >= self.preempt_chance
        ):
            return
        self.make_ready(task)
        self._to_hub(task)

    def park(self, timeout_seconds: float | None) -> bool:
        """Wait until somebody wakes the current task; ``False`` on time-out."""
        task = self.current
        check(task is not None, "only a task of the simulation can wait")
        assert task is not None
        if task.process.dead:
            raise GreenletExit
        task.parked = True
        task.parks += 1
        if timeout_seconds is not None:
            self._timed += 1
            until = self.now + max(0.0, timeout_seconds)
            heapq.heappush(self._timers, (until, self._timed, task, task.parks))
        self._to_hub(task)
        return task.notified

    def wake(self, task: "SimTask", *, notified: bool = True) -> None:
        """End the wait of a task that waits."""
        if task.parked:
            task.parked = False
            task.notified = notified
            self.make_ready(task)

    def _to_hub(self, task: "SimTask") -> None:
        assert self._hub is not None
        self._hub.switch()
        self.current = task
        if task.process.dead:
            raise GreenletExit

    def run(self, main: "SimTask", until_seconds: float) -> None:
        """Give turns until ``main`` has ended, or any task has failed."""
        self._hub = getcurrent()
        for task in self.alive.values():
            task.greenlet.parent = self._hub
        turns_now = 0
        while not main.ended and not self.failures:
            if self.ready:
                at = int(self.random.random() * len(self.ready))
                task = self.ready[at]
                self.ready[at] = self.ready[-1]
                self.ready.pop()
                if task.process.stopped:
                    task.process.held.append(task)
                elif not task.ended:
                    self.current = task
                    task.greenlet.switch()
                    self.current = None
                    self.switches += 1
                    turns_now += 1
                    if turns_now > SWITCHES_WITHOUT_TIME_LIMIT:
                        raise LivelockError(f"busy at {self.now:.6f}:\n{self.whereabouts()}")
            else:
                self._advance(until_seconds)
                turns_now = 0

    def _advance(self, until_seconds: float) -> None:
        while self._timers:
            until, _, task, parks = heapq.heappop(self._timers)
            if task.ended or not task.parked or task.parks != parks:
                continue  # it was woken before its time-out
            if until > until_seconds:
                raise DeadlockError(f"not done at {until_seconds:g} s:\n{self.whereabouts()}")
            self.now = max(self.now, until)
            self.wake(task, notified=False)
            return
        raise DeadlockError(f"everybody waits at {self.now:.6f}:\n{self.whereabouts()}")

    def whereabouts(self) -> str:
        """Return a line for each task: whose it is and where it waits."""
        return "\n".join(f"  {task}" for task in self.alive.values())


class SimTask:
    """A task of the simulation; implements :class:`cachefs.ports.Task`."""

    def __init__(
        self,
        scheduler: Scheduler,
        process: Process,
        name: str,
        number: int,
        body: Callable[[], None],
    ) -> None:
        """Prepare a greenlet; the scheduler starts it."""
        self.process = process
        self.name = name
        self.number = number
        self.greenlet = greenlet(self._run)
        self.parked = False
        self.notified = False
        self.parks = 0
        """Counts waits, so that a time-out finds out that its wait is over."""
        self.ended = False
        self._scheduler = scheduler
        self._body = body
        self._joining: list[SimTask] = []

    def _run(self) -> None:
        try:
            self._body()
        except GreenletExit:
            if not self.process.dead:
                self._scheduler.failures.append((self, RuntimeError("GreenletExit while alive")))
        except BaseException as error:  # noqa: BLE001 - reported by the run, whatever it is
            if not self.process.dead:
                self._scheduler.failures.append((self, error))
        self.end()

    def end(self) -> None:
        """Let those go on that wait for the end."""
        self.ended = True
        self._scheduler.alive.pop(self.number, None)
        for task in self._joining:
            self._scheduler.wake(task)

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it has ended."""
        if not self.ended:
            waiter = self._scheduler.current
            check(waiter is not None, "only a task of the simulation can wait")
            assert waiter is not None
            self._joining.append(waiter)
            self._scheduler.park(timeout_seconds)
        return self.ended

    def kill(self) -> None:
        """Raise ``GreenletExit`` where it waits, and let its ``finally`` blocks run."""
        if self.ended:
            return
        here, scheduler = getcurrent(), self._scheduler
        killer, scheduler.current = scheduler.current, self
        self.greenlet.parent = here
        self.greenlet.throw(GreenletExit)
        scheduler.current = killer
        check(self.greenlet.dead, "a killed task goes on")
        if not self.ended:  # it had not begun
            self.end()

    def __hash__(self) -> int:
        """Return its number: a set of tasks has the same order in every run of a seed."""
        return self.number

    def __eq__(self, other: object) -> bool:
        """Say whether it is the same task."""
        return self is other

    def __str__(self) -> str:
        """Return whose task it is and where it waits."""
        state = "stopped" if self.process.stopped else "waits" if self.parked else "ready"
        return f"{self.process.name}/{self.name} {state} in {' < '.join(self._frames()) or 'start'}"

    def _frames(self) -> Iterator[str]:
        frame: FrameType | None = self.greenlet.gr_frame
        shown = 0
        ours = (Path(__file__).name, "runtime.py")
        while frame is not None and shown < FRAMES_SHOWN:
            file = Path(frame.f_code.co_filename)
            if file.name not in ours:
                yield f"{frame.f_code.co_name} ({file.parent.name}/{file.name}:{frame.f_lineno})"
                shown += 1
            frame = frame.f_back
