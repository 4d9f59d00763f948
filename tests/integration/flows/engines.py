"""Engines on a real store, with steps whose effects are counted outside of it.

A ``process`` step whose command is ``[VERB, …]`` does what :class:`Acting` says. Each effect is a row of a
file of its own, under the step's key: it is there once, however often it was applied.
"""

import sqlite3
from contextlib import closing, contextmanager

from cachefs.config.schema import FlowConfig
from cachefs.coordinator.store.engine import Store
from cachefs.core.tenants import EVERYBODY
from cachefs.dataflow.engine.documents import Documents
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.engine.ticking import Engine
from cachefs.dataflow.ports import Observed
from cachefs.dataflow.records import Progress
from cachefs.errors import CoordinatorUnavailableError, FlowError, OriginUnavailableError
from cachefs.transport.runtime import ThreadRuntime

HEAD = """
apiVersion: cachefs/v1
kind: Flow
metadata: {name: test, namespace: team}
spec:
"""


def flow(*steps, finally_=(), head=""):
    """Return a document; each step is what stands between its braces."""
    lines = [HEAD, head, "  steps:", *(f"  - {{{step}}}" for step in steps)]
    if finally_:
        lines += ["  finally:", *(f"  - {{{step}}}" for step in finally_)]
    return "\n".join(lines)


def step(name, *command, needs=(), rest=""):
    """Return a ``process`` step that does a command."""
    words = ", ".join(command or ("do",))
    text = f"id: {name}, kind: process, with: {{command: [{words}]}}"
    text += f", needs: [{', '.join(needs)}]" if needs else ""
    return f"{text}, {rest}" if rest else text


class Effects:
    """What steps have done to the world, in a file."""

    def __init__(self, path):
        self._path = path
        with self._open() as file:
            file.execute(
                "CREATE TABLE IF NOT EXISTS effects (n INTEGER PRIMARY KEY, key TEXT UNIQUE)"
            )
            file.execute("CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, key TEXT)")

    @contextmanager
    def _open(self):
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as file:
            yield file

    def apply(self, key):
        with self._open() as file:
            file.execute("INSERT INTO calls (key) VALUES (?)", (key,))
            file.execute("INSERT OR IGNORE INTO effects (key) VALUES (?)", (key,))

    def has(self, key):
        with self._open() as file:
            query = "SELECT 1 FROM effects WHERE key = ?"
            return file.execute(query, (key,)).fetchone() is not None

    def keys(self):
        """Return the keys of all effects without their run, in the order of being."""
        with self._open() as file:
            return [
                row[0].partition("/")[2]
                for row in file.execute("SELECT key FROM effects ORDER BY n")
            ]

    def calls(self, key):
        with self._open() as file:
            return file.execute(
                "SELECT count(*) FROM calls WHERE key LIKE ?", (f"%/{key}",)
            ).fetchone()[0]


class Acting:
    """A kind of step that does what its command says.

    ``do`` has an effect. ``fail`` fails for good; ``flaky N`` fails N times, in a way that may pass.
    ``sleep S`` takes so long, and notes how long it has slept; ``rest S`` notes nothing; ``spend N``
    takes N bytes from an origin, and ``charity N`` from one that never charges; ``stuck S`` does not look
    whether it is told to stop. ``bug`` is one.
    """

    def __init__(self, effects, before_effect=lambda: None):
        self._effects = effects
        self._before_effect = before_effect
        self.spans = []
        """Of each ``apply``: its key, when it began and when it ended."""

    def observe(self, context, arguments):
        return Observed(
            self._effects.has(context.key), Progress(), {"did": arguments["command"][0]}
        )

    def apply(self, context, arguments):
        began = context.runtime.monotonic()
        try:
            self._act(context, arguments)
        finally:
            self.spans.append((context.key, began, context.runtime.monotonic()))

    def _act(self, context, arguments):
        verb, *rest = arguments["command"]
        if verb == "fail":
            raise FlowError("it fails", subject=context.step)
        if verb == "bug":
            raise ZeroDivisionError("a bug")
        if verb == "flaky":
            tries = context.checkpoint().get("tries", 0)
            if tries < int(rest[0]):
                context.note({"tries": tries + 1})
                raise OriginUnavailableError("not now", subject=context.step)
        if verb == "stuck":
            context.runtime.sleep(float(rest[0]))
        if verb in ("spend", "charity"):
            spent = int(rest[0])
            charged = spent if verb == "spend" else 0
            context.report(Progress(origin_bytes=spent, egress_bytes=charged))
            context.sleep(60.0)
        if verb == "rest":
            context.sleep(float(rest[0]))
        if verb == "sleep":
            self._sleep(context, float(rest[0]))
        context.tell(f"{verb} is about to have its effect")
        self._apply(context.key)

    def compensate(self, context, arguments, how):
        self._apply(context.key)

    def _apply(self, key):
        self._before_effect()
        self._effects.apply(key)
        self._before_effect()

    @staticmethod
    def _sleep(context, seconds):
        slept = context.checkpoint().get("slept", 0.0)
        while slept < seconds:
            context.sleep(0.05)
            slept += 0.05
            context.note({"slept": slept})
            context.report(Progress(done=slept * 100, total=seconds * 100, rate=100.0))


class MortalStore(Store):
    """A store whose process dies at one of its writes, or when it is told to."""

    def __init__(self, url, *, dies_at=-1):
        self.points = 0
        """Moments so far at which a process may die; none while the store is opened."""
        self.dies_at = dies_at
        self.dead = False
        self.away = False
        self.hiccups = None
        """Draws whether a write fails: before it is made, or after, when it has been made all the same."""
        super().__init__(url)

    def pass_point(self):
        if self.points == self.dies_at:
            self.dead = True
        self.points += 1
        self.check()

    def check(self):
        if self.dead:
            raise CoordinatorUnavailableError("this process is dead")

    def hiccup(self):
        if self.away:
            raise CoordinatorUnavailableError("nobody is there")
        if self.hiccups is not None and self.hiccups.random() < 0.15:
            raise CoordinatorUnavailableError("no answer")

    @contextmanager
    def read(self):
        self.check()
        self.hiccup()
        with super().read() as connection:
            yield connection

    @contextmanager
    def write(self):
        if self.points:
            self.pass_point()
        self.hiccup()
        with super().write() as connection:
            yield connection
            self.check()
        self.hiccup()
        if self.points:
            self.pass_point()


class Kit:
    """An engine with its service, and all that it is made from; a context manager."""

    def __init__(self, url, effects, *, dies_at=-1, runtime=None, tenants=EVERYBODY, **config):
        self.runtime = runtime or ThreadRuntime()
        self.effects = effects
        self.store = MortalStore(url, dies_at=dies_at)
        documents = Documents(self.runtime)
        limits = FlowConfig(**config)
        self.kind = kind = Acting(effects, self.store.pass_point)
        self.engine = Engine(
            self.store,
            self.runtime,
            kinds={"process": kind, "scale": kind, "notify": kind},
            documents=documents,
            config=limits,
            tenants=tenants,
        )
        self.service = FlowService(
            self.store,
            self.runtime,
            self.engine,
            documents=documents,
            config=limits,
            tenants=tenants,
        )
        self.store.points = 1

    def __enter__(self):
        self.engine.start()
        return self

    def __exit__(self, *_):
        self.engine.close()
        self.store.close()

    def submit(self, document, params=(), **options):
        return self.service.submit(document, dict(params), **options).run.id

    def wait(self, run, *states, seconds=10.0):
        """Return a run's status once it is in one of some states; over, if none is named."""
        until = self.runtime.monotonic() + seconds
        while True:
            status = self.service.get(run)
            if status.run.state in states or (not states and status.run.over):
                return status
            events = [tuple(event[1:4]) for event in self.service.events(run, after=0)]
            assert self.runtime.monotonic() < until, (status.run, states_of(status), events)
            self.runtime.sleep(0.01)

    def over(self, run):
        """Say whether a run is over; not if the store does not answer."""
        try:
            return self.service.get(run).run.over
        except CoordinatorUnavailableError:
            return False

    def wait_for_step(self, run, name, *states, seconds=10.0):
        until = self.runtime.monotonic() + seconds
        while states_of(status := self.service.get(run)).get(name) not in states:
            assert self.runtime.monotonic() < until, states_of(status)
            self.runtime.sleep(0.01)

    def kinds(self, run, name=None):
        """Return the kinds of a run's events, or of those about one step."""
        found = self.service.events(run, after=0)
        return [event.kind for event in found if name is None or event.step == name]


def states_of(status):
    return {step.id: step.state for step in status.steps}
