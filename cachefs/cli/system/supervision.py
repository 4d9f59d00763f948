"""Supervision: keep a few processes of one machine running, and stop them in good order.

One thread and one selector watch the children's pipes, their ends, and our own signals; nothing
here waits anywhere else, so a signal is always acted upon at once. Other threads give orders (a service
more, one less), which this one carries out: the kernel ties a child's life to the thread that started it. A child that ends is started
again after a wait that doubles with each short life, at the addresses that it had: a client that
knows the old ones need not learn new ones. On a cluster of machines Kubernetes does
this; this is for one machine.
"""

import os
import selectors
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cachefs.cli.system.children import Child, Service
from cachefs.errors import CacheFSError, ClusterError, check
from cachefs.ports import Runtime
from cachefs.transport.events import handle_events, taking_signals
from cachefs.transport.processes import ProcessRecord

_BACKOFF_SECONDS = 0.2
_BACKOFF_SECONDS_MAX = 10.0
_STABLE_SECONDS = 30.0
"""A child that ran for so long begins again with the shortest wait."""
_GRACE_SECONDS = 10.0
"""After SIGTERM, so long until SIGKILL."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Runs services until it is told to stop."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        environment: Mapping[str, str],
        on_change: Callable[[Sequence[ProcessRecord]], None],
        on_message: Callable[[str], None],
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        """Set up, without starting anything.

        Args:
            runtime: The clock.
            environment: What the children get.
            on_change: Called with the running children after each start and end.
            on_message: Called with what a person should know.
            grace_seconds: How long a child may take to end by itself.
        """
        self._runtime = runtime
        self._environment = environment
        self._on_change = on_change
        self._on_message = on_message
        self._grace_seconds = grace_seconds
        self._selector = selectors.DefaultSelector()
        self._children: dict[str, Child] = {}
        self._due: dict[str, tuple[float, int, Service]] = {}
        """Services that wait for their restart: when, after how many failures."""
        self._stopping: set[str] = set()
        """Services that are not started again."""
        self._last_words: dict[str, str] = {}
        self._signals_seen = 0
        self._orders: deque[Callable[[], None]] = deque()
        """What other threads want done in this one."""
        self._retiring: dict[str, tuple[float, Callable[[], None]]] = {}
        """Services that end for good: when they are killed, and what is called then."""
        self._waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._waker, selectors.EVENT_READ, self._obey)

    def close(self) -> None:
        """Release the descriptors; nobody may give orders any more."""
        self._selector.close()
        os.close(self._waker)

    def add(self, service: Service) -> None:
        """Start one more service, soon; from any thread. It is started again if it ends."""
        self._order(lambda: self._spawn_or_retry(service))

    def retire(self, name: str, on_end: Callable[[], None]) -> None:
        """End a service for good, soon; from any thread.

        Args:
            name: Which; one that does not run is over at once.
            on_end: Called in the supervisor's thread once it has ended.
        """
        self._order(lambda: self._retire(name, on_end))

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP as the wish to stop, as long as the context lasts."""
        with taking_signals(self._selector, _SIGNALS, self._note_signal):
            yield

    def start(self, services: Sequence[Service], *, deadline: float) -> None:
        """Start services and wait until all are ready.

        Raises:
            ClusterError: One ended first, or was not ready in time; says what it said last.
            KeyboardInterrupt: A signal came first.
        """
        for service in services:
            self._spawn(service, failures=0)
        names = [service.name for service in services]
        while waiting := [name for name in names if not self._is_ready(name)]:
            self._raise_failure(waiting)
            if self._signals_seen:
                raise KeyboardInterrupt
            remaining = deadline - self._runtime.monotonic()
            if remaining <= 0:
                raise ClusterError(
                    f"{' and '.join(waiting)} did not become ready in time",
                    hint=f"see {self._children[waiting[0]].service.log}",
                )
            self._pump(remaining)

    def supervise(self) -> None:
        """Keep everything running until a signal comes."""
        while not self._signals_seen:
            self._pump(self._until_due())
            now = self._runtime.monotonic()
            for name in [name for name, (at, _) in self._retiring.items() if at <= now]:
                self._kill_retired(name)
            for name in [name for name, (due, _, _) in self._due.items() if due <= now]:
                _, failures, service = self._due.pop(name)
                self._on_message(f"starting {name} again")
                self._spawn(service, failures=failures)

    def stop(self, names: Sequence[str] | None = None) -> None:
        """End children, all by default: SIGTERM, a bounded wait, SIGKILL. A second signal hurries."""
        self._stopping |= {*self._children, *self._due} if names is None else set(names)
        for name in self._stopping:
            self._due.pop(name, None)
        ending = self._stopping & set(self._children)
        for name in ending:
            self._children[name].record.send(signal.SIGTERM)
        for _ in ("by itself", "killed"):
            give_up = self._runtime.monotonic() + self._grace_seconds
            signals_before = self._signals_seen
            while ending & set(self._children) and self._signals_seen == signals_before:
                remaining = give_up - self._runtime.monotonic()
                if remaining <= 0:
                    break
                self._pump(remaining)
            for name in ending & set(self._children):
                self._on_message(f"{name} does not stop; killing it")
                self._children[name].process.kill()

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        os.eventfd_write(self._waker, 1)

    def _obey(self) -> None:
        os.eventfd_read(self._waker)
        while self._orders:
            self._orders.popleft()()

    def _spawn_or_retry(self, service: Service) -> None:
        self._stopping.discard(service.name)
        try:
            self._spawn(service, failures=0)
        except (OSError, CacheFSError) as error:
            self._on_message(f"{service.name} cannot be started now: {error}")
            now = self._runtime.monotonic()
            self._due[service.name] = (now + _BACKOFF_SECONDS_MAX, 0, service)

    def _retire(self, name: str, on_end: Callable[[], None]) -> None:
        self._stopping.add(name)
        self._due.pop(name, None)
        child = self._children.get(name)
        if child is None:
            on_end()
            return
        child.record.send(signal.SIGTERM)
        self._retiring[name] = (self._runtime.monotonic() + self._grace_seconds, on_end)

    def _kill_retired(self, name: str) -> None:
        self._on_message(f"{name} does not stop; killing it")
        self._children[name].process.kill()
        at = self._runtime.monotonic() + self._grace_seconds
        self._retiring[name] = (at, self._retiring[name][1])

    def _is_ready(self, name: str) -> bool:
        child = self._children.get(name)
        return child is not None and child.addresses is not None

    def _raise_failure(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._due:
                service = self._due[name][2]
                words = self._last_words.get(name, "it said nothing")
                raise ClusterError(
                    f"did not start: {words}", subject=name, hint=f"its log is {service.log}"
                )

    def _spawn(self, service: Service, *, failures: int) -> None:
        check(service.name not in self._children, f"{service.name} runs already")
        now = self._runtime.monotonic()
        child = Child(service, failures=failures, environment=self._environment, now=now)
        self._children[service.name] = child
        register = self._selector.register
        register(child.output, selectors.EVENT_READ, lambda: self._drain_output(child))
        register(child.errors, selectors.EVENT_READ, lambda: self._drain_errors(child))
        register(child.ended, selectors.EVENT_READ, lambda: self._ended(child))
        self._changed()

    def _pump(self, timeout_seconds: float | None) -> None:
        """Wait for something to happen, and handle what did."""
        handle_events(self._selector, timeout_seconds)

    def _drain_output(self, child: Child) -> None:
        if not child.read_output():
            self._selector.unregister(child.output)

    def _drain_errors(self, child: Child) -> None:
        if not child.read_errors():
            self._selector.unregister(child.errors)

    def _ended(self, child: Child) -> None:
        child.read_output()
        for descriptor in (child.output, child.errors, child.ended):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        status = child.reap()
        name = child.service.name
        del self._children[name]
        if name not in self._stopping:
            now = self._runtime.monotonic()
            lived = now - child.started_at
            failures = 0 if lived > _STABLE_SECONDS else child.failures + 1
            wait = min(_BACKOFF_SECONDS_MAX, _BACKOFF_SECONDS * 2.0 ** min(failures, 10))
            self._due[name] = (now + wait, failures, child.service)
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            self._on_message(f"{name} {how}" + (f": {child.last_words}" if status > 0 else ""))
            self._last_words[name] = child.last_words
        self._changed()
        if name in self._retiring:
            self._retiring.pop(name)[1]()

    def _until_due(self) -> float | None:
        times = [due for due, _, _ in self._due.values()]
        times += [at for at, _ in self._retiring.values()]
        if not times:
            return None
        soonest = min(times)
        return max(0.0, soonest - self._runtime.monotonic())

    def _changed(self) -> None:
        self._on_change([child.record for child in self._children.values()])

    def _note_signal(self, _number: int) -> None:
        self._signals_seen += 1
