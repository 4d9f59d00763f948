"""The engine: one thread that brings all runs further, and one for each step that is carried out.

Theory of operation. A tick hears which attempts have ended, asks the machine of each run concerned what
follows, writes all of it, of all runs, in one transaction, and then does it: starts threads, stops
threads. So whatever has an effect was written before it began, and a chain of steps costs one
transaction a step. Between ticks the thread sleeps until an attempt ends, somebody asks something of a
run, or the time comes for a retry or a timeout.

Where the store can be shared, it also looks twice a second whether there are runs of nobody's, and
whether others wrote into ours. Elsewhere everybody who writes is in this process, and pokes it.

What could not be written has not happened: the run is read again and hears the same again. What could
not be written because the fence has grown is another coordinator's: our attempts are forgotten.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cachefs.config.schema import FlowConfig
from cachefs.coordinator.store.engine import Store
from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.dataflow.engine import store as rows
from cachefs.dataflow.engine import story
from cachefs.dataflow.engine.context import AttemptContext, StepIdentity
from cachefs.dataflow.engine.documents import Documents
from cachefs.dataflow.engine.heartbeat import Heartbeat
from cachefs.dataflow.engine.leases import Leases
from cachefs.dataflow.engine.owned import Change, OwnedRun
from cachefs.dataflow.engine.owners import Position
from cachefs.dataflow.engine.queueing import StepPlaces, run_shares, start_queued
from cachefs.dataflow.engine.running import GRACE_SECONDS, Attempt, UnknownKind
from cachefs.dataflow.machine.decisions import Begin, Outcome, Stop, Undo
from cachefs.dataflow.ports import StepKind
from cachefs.dataflow.records import Progress
from cachefs.errors import CacheFSError, ConfigError, LeaseExpiredError
from cachefs.ports import Closing, Runtime, Task

_LOG = logging.getLogger("cachefs.flows")

_LOOK_SECONDS = 0.5
"""How often a shared store is asked for what others wrote."""
_FLUSH_SECONDS = 1.0
"""How often progress is stored."""
_TRIM_SECONDS = 60.0
_PATIENCE_SECONDS = 30.0
_WAIT_SECONDS_MIN = 0.001
"""A moment that rounding puts just after now must not make the thread spin."""
_AGAIN_SECONDS = 0.5
"""Pause after a tick that failed."""
_UNKNOWN = UnknownKind()
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """What the engine does now."""

    runs: int
    attempts: int
    left_behind: int
    """Attempts in all that did not stop when they were told to."""


class Engine(Closing):
    """Carries out the runs that are ours. The owner closes it."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        *,
        kinds: Mapping[str, StepKind],
        documents: Documents,
        config: FlowConfig,
        tenants: Tenants = EVERYBODY,
    ) -> None:
        """Begin nothing yet.

        Args:
            store: Where runs are.
            runtime: The clock.
            kinds: What carries a step out, by its kind.
            documents: Reads flows.
            config: Limits.
            tenants: Says which namespaces may not take them all.
        """
        self._store = store
        self._runtime = runtime
        self._kinds = kinds
        self._documents = documents
        self._config = config
        self._tenants = tenants
        self._leases = Leases(store, runtime, lease_seconds=config.lease_seconds)
        self._heartbeat = Heartbeat(
            self._leases,
            runtime,
            lease_seconds=config.lease_seconds,
            on_expired=self._expire,
        )
        self._turn = runtime.condition()
        # Guarded by the turn; everything below it belongs to the thread that ticks.
        self._inbox: list[tuple[Attempt, Outcome]] = []
        self._poked = True
        self._void = False
        self._ended = False
        self._live: dict[tuple[str, str], Attempt] = {}

        self._task: Task | None = None
        self._started = False
        self._runs: dict[str, OwnedRun] = {}
        self._leaving: list[Attempt] = []
        self._queued = False
        self._looked_at = self._flushed_at = self._trimmed_at = _NEVER
        self._left_behind = 0

    # ---- for any thread -----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick in a thread."""
        if self._store.is_shared:
            self._leases.start()
            self._started = True
            self._heartbeat.start()
        self._task = self._runtime.start("flows", self._loop)

    def poke(self) -> None:
        """Say that something about a run was written: look at once."""
        with self._turn:
            self._poked = True
            self._turn.notify_all()

    def progress(self, run: str) -> dict[str, Progress]:
        """Return how far the steps are that are carried out here, fresher than the store's."""
        with self._turn:
            live = [attempt.context for (of, _), attempt in self._live.items() if of == run]
        return {one.step: one.progress for one in live if one.progress is not None}

    def carries_out(self, run: str) -> bool:
        """Say whether a run is ours: then :meth:`progress` knows more than the store."""
        return run in self._runs

    def statistics(self) -> EngineStatistics:
        """Return what the engine does now."""
        with self._turn:
            return EngineStatistics(len(self._runs), len(self._live), self._left_behind)

    def close(self) -> None:
        """Stop all attempts without a word about them: whoever comes next goes on with them."""
        with self._turn:
            if self._ended:
                return
            self._ended = True
            self._turn.notify_all()
        if self._task is not None:
            self._task.join(2 * _PATIENCE_SECONDS)
        self._heartbeat.close()
        for run in list(self._runs):
            self._drop(run)
        until = self._runtime.monotonic() + GRACE_SECONDS
        for attempt in self._leaving:
            attempt.join(max(0.0, until - self._runtime.monotonic()))
        try:
            self._leases.release()
        except CacheFSError as error:
            _LOG.warning("another must wait for our runs", extra={"failure": str(error)})

    def _expire(self) -> None:
        """Stop everything: we could not renew in time."""
        with self._turn:
            self._void = True
            live, self._live = list(self._live.values()), {}
            self._turn.notify_all()
        for attempt in live:
            attempt.forget()

    def _hear(self, attempt: Attempt, outcome: Outcome) -> None:
        with self._turn:
            self._inbox.append((attempt, outcome))
            self._turn.notify_all()

    def _loop(self) -> None:
        failed = False
        while True:
            with self._turn:
                if failed and not self._ended:
                    self._turn.wait(_AGAIN_SECONDS)
                elif not (self._ended or self._inbox or self._poked):
                    self._turn.wait(self._patience())
                if self._ended:
                    return
            failed = True
            try:
                self.tick()
                failed = False
            except CacheFSError as error:
                _LOG.warning("a tick of the flows failed", extra={"failure": str(error)})
            except Exception:  # noqa: BLE001 - it is logged with its trace
                _LOG.exception("a tick of the flows met a bug")

    def _patience(self) -> float:
        """Return how long nothing can happen that nobody tells us."""
        now, wall = self._runtime.monotonic(), self._runtime.wall()
        waits = [_PATIENCE_SECONDS]
        if self._store.is_shared or self._queued or self._leaving:
            waits.append(self._looked_at + _LOOK_SECONDS - now)
        for owned in self._runs.values():
            at = owned.machine.next_at()
            if at is not None:
                waits.append(at - wall)
            if owned.attempts:
                waits.append(self._flushed_at + _FLUSH_SECONDS - now)
            waits.extend(
                min(attempt.leave_at, attempt.context.deadline) - now
                for attempt in owned.attempts.values()
            )
        return max(_WAIT_SECONDS_MIN, min(waits))

    # ---- the thread that ticks ----------------------------------------------------------------

    def tick(self) -> None:
        """Bring every run as far as it can come now.

        Raises:
            CoordinatorUnavailableError: The store does not answer; the next tick tries again.
        """
        if not self._started:
            self._leases.start()
            self._started = True
        now = self._runtime.monotonic()
        if self._take_notes():
            for run in list(self._runs):
                self._drop(run)
        if now >= self._leases.acts_until:
            return
        if self._is_due_to_look(now):
            self._look(now)
        if now - self._trimmed_at >= _TRIM_SECONDS:
            self._trim(now)
        flush = now - self._flushed_at >= _FLUSH_SECONDS
        if flush:
            self._flushed_at = now
        places = self._step_places()
        changes = []
        for run, owned in sorted(self._runs.items(), key=lambda each: places.taken(each[1])):
            change = self._advance(run, owned, now, slots=places.free(owned), flush=flush)
            if change is not None:
                places.take(owned, change.begun)
                changes.append(change)
        self._save(changes)

    def _step_places(self) -> StepPlaces:
        with self._turn:
            live = [self._runs[run] for run, _ in self._live if run in self._runs]
        return StepPlaces(self._config.steps_limit, self._tenants, live)

    def _take_notes(self) -> bool:
        """Take in what other threads said; return whether our lease has run out meanwhile."""
        with self._turn:
            heard, self._inbox = self._inbox, []
            void, self._void = self._void, False
            poked, self._poked = self._poked, False
        if poked:
            self._looked_at = _NEVER
        for attempt, outcome in heard:
            owned = self._runs.get(attempt.context.run)
            if owned is not None:
                owned.hear(attempt, outcome)
            self._forget_live(attempt)
        return void

    def _advance(
        self, run: str, owned: OwnedRun, now: float, *, slots: int, flush: bool
    ) -> Change | None:
        wall = self._runtime.wall()
        for attempt in list(owned.attempts.values()):
            if now >= attempt.context.deadline:
                attempt.stop("timeout")
            if now >= attempt.leave_at:
                self._left_behind += (
                    attempt.leave()
                )  # heard with the next tick, which comes at once
        at = owned.machine.next_at()
        due = owned.dirty or (at is not None and at <= wall) or (owned.starved and slots > 0)
        if owned.reload or not (due or (flush and owned.attempts)):
            return None
        try:
            change = owned.advance(
                now=wall, draw=self._runtime.random.random(), slots=slots, flush=flush
            )
        except Exception:  # noqa: BLE001 - a bug that one run meets must not stop all others
            _LOG.exception("a run met a bug", extra={"run": run})
            owned.reload, owned.dirty = True, False
            self._queued = True
            return None
        return None if change.empty else change

    def _save(self, changes: list[Change]) -> None:
        """Write what has changed, and do what was decided."""
        left = changes
        while left:
            try:
                with self._store.write() as connection:
                    for change in left:
                        rows.write(
                            connection,
                            change.run,
                            steps=change.steps.values(),
                            new_steps=change.new_steps.values(),
                            events=change.events,
                        )
            except LeaseExpiredError as error:
                _LOG.warning("a run is another coordinator's", extra={"run": error.subject})
                self._drop(error.subject)
                left = [change for change in left if change.run.id != error.subject]
            except CacheFSError:
                for change in left:
                    self._runs[change.run.id].unsaid(change)
                self._queued = True
                raise
            else:
                break
        for change in left:
            self._carry_out(change)

    def _carry_out(self, change: Change) -> None:
        owned = self._runs[change.run.id]
        for decision in change.decisions:
            if isinstance(decision, Begin | Undo):
                self._begin(owned, decision)
            elif isinstance(decision, Stop) and decision.step in owned.attempts:
                owned.attempts[decision.step].stop(decision.why)
        if change.run.over:
            self._drop(change.run.id)
            self._queued = True  # somebody may have waited for its turn
            self._looked_at = _NEVER

    def _begin(self, owned: OwnedRun, decision: Begin | Undo) -> None:
        record = decision.record
        run = owned.machine.run
        kind = owned.kinds[record.id.partition("[")[0]]
        identity = StepIdentity(
            run=run.id,
            step=record.id,
            attempt=record.attempt,
            namespace=owned.flow.namespace,
            undo=isinstance(decision, Undo),
        )
        seconds = decision.timeout_seconds
        if seconds is None:
            seconds = self._config.step_seconds
        fence = owned.position.fence
        context = AttemptContext(
            identity,
            self._runtime,
            deadline=self._runtime.monotonic() + seconds,
            checkpoint=record.checkpoint,
            write_note=lambda which, text: self._write_note(which, text, fence),
        )
        attempt = Attempt(
            context,
            self._kinds.get(kind, _UNKNOWN),
            record.arguments,
            how=decision.how if isinstance(decision, Undo) else None,
            on_end=self._hear,
        )
        with self._turn:
            if self._void or self._runtime.monotonic() >= self._leases.acts_until:
                return  # everything was given up while we wrote; whoever owns it next begins it
            self._live[run.id, record.id] = attempt
        owned.attempts[record.id] = attempt
        attempt.start()

    def _write_note(self, identity: StepIdentity, text: str, fence: int) -> None:
        with self._store.write() as connection:
            rows.lock(connection, identity.run, fence)
            rows.note(connection, identity.run, identity.step, text, attempt=identity.attempt)

    def _forget_live(self, attempt: Attempt) -> None:
        key = (attempt.context.run, attempt.context.step)
        with self._turn:
            if self._live.get(key) is attempt:
                del self._live[key]

    def _drop(self, run: str) -> None:
        """Have nothing to do with a run any more."""
        owned = self._runs.pop(run, None)
        if owned is None:
            return
        for attempt in owned.attempts.values():
            attempt.forget()  # first: it looks why it is told to stop
            attempt.stop("cancel")
            self._forget_live(attempt)
            self._leaving.append(attempt)

    # ---- looking at the store -----------------------------------------------------------------

    def _is_due_to_look(self, now: float) -> bool:
        self._leaving = [
            attempt for attempt in self._leaving if now < attempt.leave_at and not attempt.join(0.0)
        ]
        if self._looked_at == _NEVER:
            return True
        others = self._store.is_shared or self._queued or bool(self._leaving)
        return others and now - self._looked_at >= _LOOK_SECONDS

    def _look(self, now: float) -> None:
        """Take what is nobody's, begin what has its turn, and see what others wrote."""
        found = self._leases.claim()
        if any(not position.begun for position in found.values()):
            shares = run_shares(self._runs.values(), self._config.runs_limit, self._tenants)
            wall = self._runtime.wall()
            start_queued(self._store, self._leases.owner, shares=shares, now=wall)
            found = self._leases.owned()
        for run in [*self._runs]:
            if run not in found or found[run].fence != self._runs[run].position.fence:
                self._drop(run)
        away = {attempt.context.run for attempt in self._leaving}
        for run, position in found.items():
            owned = self._runs.get(run)
            if not position.begun or (owned is None and run in away):
                continue
            if owned is None or owned.reload:
                self._take_up(run, position)
            elif owned.position.changes != position.changes:
                with self._store.read() as connection:
                    stored = rows.find(connection, run)
                    answers = rows.answers(connection, run)
                if stored is not None:
                    owned.note_wishes(stored, answers, position)
        self._queued = any(not position.begun for position in found.values())
        self._looked_at = now  # not before: who was poked must look, however often that fails

    def _take_up(self, run: str, position: Position) -> None:
        """Go on with a run as it is stored."""
        with self._store.read() as connection:
            stored = rows.find(connection, run)
            records = rows.steps(connection, run)
            answers = rows.answers(connection, run)
        if stored is None or stored.fence != position.fence or stored.over:
            return
        owned = self._runs.get(run)
        now = self._runtime.wall()
        try:
            if owned is None:
                flow = self._documents.read(stored.document, file=run)
                rate = self._config.planning.egress_usd_per_gb
                owned = OwnedRun(flow, stored, records, position, usd_per_gb=rate)
        except ConfigError as error:
            # A newer cachefs had accepted it.
            failed = replace(stored, state="Failed", failure=str(error), ended_at=now)
            with self._store.write() as connection:
                rows.write(connection, failed, events=[story.of_run(failed, now=now)])
            return
        self._runs[run] = owned
        for decision in owned.take_up(stored, records, position, now=now):
            self._begin(owned, decision)
        owned.note_wishes(stored, answers, position)

    def _trim(self, now: float) -> None:
        self._trimmed_at = now
        before = self._runtime.wall() - self._config.runs_kept_seconds
        with self._store.write() as connection:
            rows.remove(connection, ended_before=before, kept=self._config.runs_kept)
