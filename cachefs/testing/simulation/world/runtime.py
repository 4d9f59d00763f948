"""A runtime whose time, order and chances come from a seed.

Theory of operation. Every task is a greenlet, and one loop, the scheduler, decides which of them
runs. A task runs until it waits: in ``sleep``, for a condition or its lock, for another task. Where
a thread could be preempted (taking or leaving a lock) the seed may also take the turn away. Among
the tasks that can run, the seed chooses; when none can, the clock jumps to the next time-out. So one
seed is one interleaving, a second costs nothing, and the same seed gives the same run again.

A simulated *process* is a :class:`SimRuntime` of its own on the same scheduler, with tasks that die
together. ``kill`` raises ``GreenletExit`` in each of them where it waits; the ``finally`` blocks that
then run find a dead process, in which every lock, wait, disk and connection refuses by raising
``GreenletExit`` again. What a process does after its death is therefore invisible to the world, as
it is after a real ``kill -9``. ``stop`` and ``resume`` are SIGSTOP and SIGCONT.

What would be a hang is an error here: when every task waits without a time-out, ``DeadlockError``
lists who waits where; when tasks keep running without time passing, it is ``LivelockError``; a task
that outlives the run, or that ended with an exception, fails the run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import TracebackType

from greenlet import GreenletExit

from cachefs.errors import InvariantError, check
from cachefs.testing.simulation.world.scheduling import (
    LeakedTaskError,
    Scheduler,
    SimTask,
    TaskFailedError,
)

WALL_START = 1_700_000_000.0
"""What the simulated calendar shows at the beginning."""


class SimCondition:
    """A lock with waiting; implements :class:`cachefs.ports.Condition`."""

    def __init__(self, scheduler: Scheduler, process: "SimRuntime") -> None:
        """Make a free lock."""
        self._scheduler = scheduler
        self._process = process
        self._owner: SimTask | None = None
        self._entered_outside = False
        self._wanting: list[SimTask] = []
        self._waiting: list[SimTask] = []

    def __enter__(self) -> bool:
        """Take the lock."""
        task = self._scheduler.current
        if task is None:  # a test that builds or inspects objects between runs
            check(self._owner is None, "the lock is held by a task")
            self._entered_outside = True
            return True
        self._check_alive()
        if self._owner is task:
            raise InvariantError(f"{task} takes a lock twice")
        self._scheduler.preempt()
        self._acquire(task)
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lock back."""
        if self._entered_outside:
            self._entered_outside = False
        elif self._owner is not None and self._owner is self._scheduler.current:
            self._release()
            if kind is None and not self._owner_is_dead():
                self._scheduler.preempt()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Release the lock, wait for a notification, take the lock again."""
        self._check_alive()
        task = self._scheduler.current
        check(task is not None and self._owner is task, "wait without the lock")
        assert task is not None
        self._waiting.append(task)
        self._release()
        try:
            notified = self._scheduler.park(timeout_seconds)
        finally:
            if task in self._waiting:
                self._waiting.remove(task)
        self._acquire(task)
        return notified

    def notify_all(self) -> None:
        """Wake every waiter."""
        if self._owner_is_dead():
            return
        check(
            self._entered_outside or self._owner is self._scheduler.current,
            "notify without the lock",
        )
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._scheduler.wake(task)

    def _acquire(self, task: SimTask) -> None:
        while self._owner is not None:
            self._wanting.append(task)
            try:
                self._scheduler.park(None)
            finally:
                if task in self._wanting:
                    self._wanting.remove(task)
        self._owner = task

    def _release(self) -> None:
        self._owner = None
        if self._wanting:
            # All of them wake and the seed decides who is first; the others wait again.
            for task in tuple(self._wanting):
                self._scheduler.wake(task)

    def _owner_is_dead(self) -> bool:
        current = self._scheduler.current
        return self._process.dead or (current is not None and current.process.dead)

    def _check_alive(self) -> None:
        if self._owner_is_dead():
            raise GreenletExit


class SimSignal:
    """Something that happens once, and that tasks of any process may wait for."""

    def __init__(self, scheduler: Scheduler) -> None:
        """Make a signal that is not set."""
        self._scheduler = scheduler
        self._waiting: list[SimTask] = []
        self.is_set = False

    def set(self) -> None:
        """Wake everybody who waits; later waits return at once."""
        self.is_set = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._scheduler.wake(task)

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it is set; ``False`` on time-out."""
        if self.is_set:
            return True
        task = self._scheduler.current
        check(task is not None, "only a task of the simulation can wait")
        assert task is not None
        self._waiting.append(task)
        try:
            self._scheduler.park(timeout_seconds)
        finally:
            if task in self._waiting:
                self._waiting.remove(task)
        return self.is_set


class SimRuntime:
    """Implements :class:`cachefs.ports.Runtime` for one simulated process."""

    def __init__(self, seed: int, *, preempt_chance: float = 0.3) -> None:
        """Make a world with one process in it.

        Args:
            seed: Decides everything.
            preempt_chance: How often a task that takes or leaves a lock loses its turn.
        """
        self._become(Scheduler(seed, preempt_chance), "main")

    def _become(self, scheduler: Scheduler, name: str) -> None:
        self._scheduler = scheduler
        scheduler.processes += 1
        self._random = Random(f"{name} {scheduler.processes} {scheduler.seed}")
        self.name = name
        self.dead = False
        self.stopped = False
        self.skew_seconds = 0.0
        """By how much the process's calendar is wrong; what leases and deadlines rest on is not."""
        self.held: list[SimTask] = []
        """Tasks that could run if the process were not stopped."""

    def process(self, name: str) -> "SimRuntime":
        """Make another process in the same world."""
        other = SimRuntime.__new__(SimRuntime)
        other._become(self._scheduler, name)
        return other

    @property
    def random(self) -> Random:
        """The process's own chances, from the world's seed and the process's name."""
        return self._random

    @property
    def switches(self) -> int:
        """How many turns tasks had."""
        return self._scheduler.switches

    @property
    def trace(self) -> list[tuple[float, str, str]]:
        """What happened: when, in which process, what."""
        return self._scheduler.trace

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        self._scheduler.trace.append((self._scheduler.now, self.name, text))

    def monotonic(self) -> float:
        """Return the simulated seconds since the beginning."""
        return self._scheduler.now

    def wall(self) -> float:
        """Return the simulated seconds since 1970."""
        return WALL_START + self._scheduler.now + self.skew_seconds

    def sleep(self, seconds: float) -> None:
        """Wait, at no cost."""
        self.check_alive()
        self._scheduler.park(seconds)

    def condition(self) -> SimCondition:
        """Make a condition with a lock of its own, which is not re-entrant."""
        return SimCondition(self._scheduler, self)

    def signal(self) -> SimSignal:
        """Make a signal."""
        return SimSignal(self._scheduler)

    def start(self, name: str, body: Callable[[], None]) -> SimTask:
        """Run ``body`` in a task of its own."""
        self.check_alive()
        return self._scheduler.spawn(self, name, body)

    def preempt(self) -> None:
        """Perhaps let other tasks run first, where a thread could lose its turn."""
        self.check_alive()
        self._scheduler.preempt()

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Let nobody lose a turn meanwhile, in the whole world."""
        self._scheduler.uninterrupted += 1
        try:
            yield
        finally:
            self._scheduler.uninterrupted -= 1

    def check_alive(self) -> None:
        """Refuse to do anything for a process that is dead.

        Raises:
            GreenletExit: It is; or the task that asks belongs to one that is.
        """
        current = self._scheduler.current
        if self.dead or (current is not None and current.process.dead):
            raise GreenletExit

    def tasks(self) -> list[SimTask]:
        """Return the process's tasks that have not ended."""
        return [task for task in self._scheduler.alive.values() if task.process is self]

    def kill(self) -> None:
        """End the process as ``kill -9`` does; idempotent."""
        if self.dead:
            return
        self.dead = True
        current = self._scheduler.current
        for task in self.tasks():
            if task is not current:
                task.kill()
        self.held.clear()
        if current is not None and current.process is self:
            raise GreenletExit

    def stop(self) -> None:
        """Freeze the process, as SIGSTOP does."""
        self.stopped = True

    def resume(self) -> None:
        """Let it go on, as SIGCONT does."""
        self.stopped = False
        held, self.held = self.held, []
        for task in held:
            self._scheduler.make_ready(task)

    def run(self, main: Callable[[], None], until_seconds: float = 3600.0) -> None:
        """Run ``main`` as a task, and everything that it starts, until it returns.

        Raises:
            DeadlockError: Everybody waits for ever, or ``main`` is not done at ``until_seconds``.
            LivelockError: Tasks run without time passing.
            TaskFailedError: A task ended with an exception.
            LeakedTaskError: A task of a living process outlived ``main``.
        """
        scheduler = self._scheduler
        task = scheduler.spawn(self, "main", main)
        try:
            scheduler.run(task, until_seconds)
            failures = list(scheduler.failures)
            for failed, error in failures:
                if failed is task:
                    raise error
            if failures:
                failed, error = failures[0]
                raise TaskFailedError(f"{failed.process.name}/{failed.name}: {error!r}") from error
            leaked = [other for other in scheduler.alive.values() if not other.process.dead]
            if leaked:
                raise LeakedTaskError("\n".join(str(other) for other in leaked))
        finally:
            scheduler.current = None
            self._end_all()

    def _end_all(self) -> None:
        scheduler = self._scheduler
        for task in tuple(scheduler.alive.values()):
            task.process.dead = True
        for task in tuple(scheduler.alive.values()):
            task.kill()
        self.dead = False
        scheduler.failures.clear()
        scheduler.ready.clear()
