"""Supervision: keep a few processes of one machine running, and stop them in good order.

One thread and one selector watch the children's pipes, their ends, and our own signals; nothing
here waits anywhere else, so a signal is always acted upon at once. A child that ends is started
again after a wait that doubles with each short life, at the addresses that it had: a client that
knows the old ones need not learn new ones. On a cluster of machines Kubernetes does
this; this is for one machine.
"""

import selectors
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cachefs.cli.system.children import Child, Service
from cachefs.errors import ClusterError, check
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

    def _until_due(self) -> float | None:
        if not self._due:
            return None
        soonest = min(due for due, _, _ in self._due.values())
        return max(0.0, soonest - self._runtime.monotonic())

    def _changed(self) -> None:
        self._on_change([child.record for child in self._children.values()])

    def _note_signal(self, _number: int) -> None:
        self._signals_seen += 1
