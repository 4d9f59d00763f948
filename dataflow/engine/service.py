"""What people and programs can do with flows: the door that HTTP routes, triggers and sub-flows use.

Submitting takes the queue's counter first, so that submissions happen one after another: of two with
one key the second finds the first, and a group's policy sees every run that is before it. What is asked
of a run that goes on is written beside it and noticed by its owner, whichever coordinator that is.
"""

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection

from cachefs.config.schema import FlowConfig
from cachefs.coordinator.store.engine import Store
from cachefs.core.names import printable
from cachefs.core.nearest import did_you_mean
from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.dataflow import costs
from cachefs.dataflow.engine import admitting, retrying, story
from cachefs.dataflow.engine import store as rows
from cachefs.dataflow.engine.answers import (
    Planned,
    Planner,
    RunStatus,
    Submitted,
    total_progress,
)
from cachefs.dataflow.engine.documents import Documents
from cachefs.dataflow.engine.parameters import merge
from cachefs.dataflow.engine.store import RunEvent
from cachefs.dataflow.engine.ticking import Engine
from cachefs.dataflow.machine.advance import first_records
from cachefs.dataflow.records import Run, StepRecord
from cachefs.dataflow.spec.model import Flow, Value
from cachefs.errors import (
    CapacityError,
    ConfigError,
    ConflictError,
    DeniedError,
    NotKnownError,
)
from cachefs.ports import Runtime

KEY_LENGTH_MAX = 200
_EVENTS_MAX = 1000
_FILE = "flow"


class FlowService:
    """Flows and runs. Safe from any thread."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        engine: Engine,
        *,
        documents: Documents,
        config: FlowConfig,
        planner: Planner | None = None,
        tenants: Tenants = EVERYBODY,
    ) -> None:
        """Serve what an engine carries out.

        Args:
            store: Where runs are.
            runtime: The clock.
            engine: Is poked when something was asked.
            documents: Reads flows.
            config: Limits.
            planner: Estimates runs; without one, nothing is refused beforehand.
            tenants: Says which namespaces may not fill the queue.
        """
        self._store = store
        self._runtime = runtime
        self._engine = engine
        self._documents = documents
        self._config = config
        self._planner = planner
        self._tenants = tenants

    # ---- before a run -------------------------------------------------------------------------

    def validate(self, document: str, *, file: str = _FILE) -> Flow:
        """Return the flow that a document says.

        Args:
            document: YAML or JSON.
            file: Its name, for messages.

        Raises:
            ConfigError: It is none; the message has every problem.
        """
        return self._documents.read(document, file=file)

    def plan(self, document: str, params: Mapping[str, Value], *, file: str = _FILE) -> Planned:
        """Say what a run would take; changes nothing.

        Args:
            document: The flow.
            params: Parameters that differ from the flow's own.
            file: The document's name, for messages.

        Raises:
            ConfigError: The document or a parameter is wrong.
            NotKnownError: Nothing can plan here.
        """
        flow = self.validate(document, file=file)
        if self._planner is None:
            raise NotKnownError("flows cannot be planned here")
        return self._planner.plan(flow, merge(flow, params))

    def submit(
        self,
        document: str,
        params: Mapping[str, Value],
        *,
        key: str = "",
        cause: str = "manual",
        trigger: Mapping[str, Value] | None = None,
        file: str = _FILE,
    ) -> Submitted:
        """Start a run, or return the one that was started with the same key.

        Args:
            document: The flow.
            params: Parameters that differ from the flow's own.
            key: Of idempotency, for this flow; empty for none.
            cause: Who or what starts it.
            trigger: What started it, for expressions.
            file: The document's name, for messages.

        Raises:
            ConfigError: The document or a parameter is wrong.
            ConflictError: The key was used for something else, or the flow's group is busy.
            CapacityError: It is over its budget, or too many runs wait.
        """
        if len(key) > KEY_LENGTH_MAX:
            raise ConfigError(f"a key has at most {KEY_LENGTH_MAX} characters")
        flow = self.validate(document, file=file)
        now = self._runtime.wall()
        run = Run(
            id=f"{flow.name}-{self._runtime.random.getrandbits(40):010x}",
            flow=flow.full_name,
            document=document,
            params=merge(flow, params),
            key=key,
            cause=cause,
            trigger=dict(trigger or {}),
            created_at=now,
        )
        run = replace(run, group=admitting.group_of(flow, run))
        known = self._find_key(run)
        if known is not None:
            return Submitted(known, is_new=False)
        if self._planner is not None:
            planned = self._planner.plan(flow, run.params)
            if planned.refusals:
                raise CapacityError("; ".join(planned.refusals), subject=flow.full_name)
            run = replace(run, plan=planned.names)
        with self._store.write() as connection:
            number = rows.next_number(connection)
            known = admitting.with_key(connection, run)
            if known is not None:
                return Submitted(known, is_new=False)
            limit = self._config.queued_runs_limit
            admitting.admit(connection, flow, run, queued_limit=limit, tenants=self._tenants)
            rows.add(connection, run, first_records(flow), number=number)
            rows.tell(connection, run.id, [RunEvent(now, "run-queued", "", cause)])
        self._engine.poke()
        return Submitted(run, is_new=True)

    def _find_key(self, run: Run) -> Run | None:
        with self._store.read() as connection:
            return admitting.with_key(connection, run)

    # ---- looking at runs ----------------------------------------------------------------------

    def get(self, run: str, *, known: RunStatus | None = None) -> RunStatus:
        """Return a run with its steps.

        Args:
            run: Its id.
            known: As it was when it was last asked for; what is still so is not read again.

        Raises:
            NotKnownError: There is no such run.
        """
        with self._store.read() as connection:
            # Before the steps: they may be newer than this number says, and never older.
            last = rows.last_event(connection, run)
            found = self._found(connection, run)
            steps = known.steps if known is not None else ()
            if known is None or known.last_event != last or not self._engine.carries_out(run):
                steps = rows.steps(connection, run)
        fresh = self._engine.progress(run)
        shown = tuple(
            replace(step, progress=fresh[step.id]) if step.id in fresh and not step.over else step
            for step in steps
        )
        progress = total_progress(shown)
        rate = self._config.planning.egress_usd_per_gb
        return RunStatus(found, shown, progress, costs.usd(progress.egress_bytes, rate), last)

    def every(self, *, flow: str = "", active: bool = False, limit: int) -> tuple[Run, ...]:
        """Return the newest runs, the newest first."""
        with self._store.read() as connection:
            return rows.every(connection, flow=flow, active=active, limit=limit)

    def counts(self) -> dict[str, int]:
        """Return how many runs there are in each state."""
        with self._store.read() as connection:
            return rows.counts(connection)

    def events(self, run: str, *, after: int, limit: int = _EVENTS_MAX) -> tuple[RunEvent, ...]:
        """Return a run's events after one, the oldest first.

        Raises:
            NotKnownError: There is no such run.
        """
        with self._store.read() as connection:
            self._found(connection, run)
            return rows.events_after(connection, run, after, limit=min(limit, _EVENTS_MAX))

    # ---- asking something of a run ------------------------------------------------------------

    def cancel(self, run: str, *, keep_cache: bool, by: str = "") -> Run:
        """Have a run end: what is carried out stops, then what is to be undone is undone.

        Args:
            run: Its id.
            keep_cache: Whether what was done stays.
            by: Who asks.

        Raises:
            NotKnownError: There is no such run.
            ConflictError: It is over, or ending.
        """
        with self._store.write() as connection:
            found = self._found(connection, run, lock=True)
            if found.wants == "cancel":
                return found
            if found.over or found.ending:
                raise ConflictError(f"the run is over or ending: {_state(found)}", subject=run)
            event = RunEvent(self._runtime.wall(), "run-cancel-asked", "", by)
            rows.ask(connection, run, [event], wants="cancel", keep_cache=keep_cache)
        return self._asked(run)

    def pause(self, run: str, *, by: str = "") -> Run:
        """Have nothing of a run begin; what is carried out goes on.

        Raises:
            NotKnownError: There is no such run.
            ConflictError: It is over, or ending, or was cancelled.
        """
        return self._wish(run, "pause", "run-pause-asked", by)

    def resume(self, run: str, *, by: str = "") -> Run:
        """Have a paused run go on.

        Raises:
            NotKnownError: There is no such run.
            ConflictError: It was not paused.
        """
        return self._wish(run, "", "run-resume-asked", by)

    def approve(self, run: str, step: str, *, granted: bool, by: str, message: str = "") -> Run:
        """Answer a step that waits for an approval.

        Args:
            run: Its id.
            step: The step; empty for the only one that waits.
            granted: Whether it may go on.
            by: Who says so.
            message: And why.

        Raises:
            NotKnownError: There is no such run or step.
            ConflictError: No step waits, or this one does not, or several do.
            DeniedError: The step names who may answer, and not this one. Names are believed: whoever
                has the token can give any.
        """
        with self._store.write() as connection:
            self._found(connection, run, lock=True)
            steps = {record.id: record for record in rows.steps(connection, run)}
            answered = rows.answers(connection, run)
            waiting = [
                one
                for one, record in steps.items()
                if record.state == "Blocked" and one not in answered
            ]
            chosen = step or (waiting[0] if len(waiting) == 1 else "")
            if chosen and chosen not in steps:
                raise _no_step(chosen, steps)
            if chosen not in waiting:
                which = f"; {', '.join(waiting)} wait" if waiting else ""
                raise ConflictError(f"no answer is waited for{which}", subject=f"{run}/{step}")
            approvers = steps[chosen].arguments.get("approvers") or ()
            if approvers and by not in approvers:
                raise DeniedError(
                    f"{printable(by) or 'nobody'} may not answer it",
                    subject=f"{run}/{chosen}",
                    hint=f"{', '.join(map(printable, approvers))} may",
                )
            answer = {"granted": granted, "by": by, "message": message}
            rows.answer(connection, run, chosen, answer)
            kind = "step-approved" if granted else "step-rejected"
            text = f"by {by}" + (f": {message}" if message else "")
            event = RunEvent(self._runtime.wall(), kind, chosen, text)
            rows.ask(connection, run, [event])
        return self._asked(run)

    def retry(self, run: str, *, start: str = "", only_failed: bool = False, by: str = "") -> Run:
        """Have a run that is over do again what did not succeed, going on from what is there.

        Args:
            run: Its id.
            start: Do this step and all that depends on it again, however they ended.
            only_failed: Leave alone what succeeded although something that it needed had failed.
            by: Who asks.

        Raises:
            NotKnownError: There is no such run or step.
            ConflictError: It is not over, or there is nothing to do again.
        """
        with self._store.write() as connection:
            found = self._found(connection, run, lock=True)
            if not found.over:
                raise ConflictError(f"the run is not over: {_state(found)}", subject=run)
            flow = self.validate(found.document)
            records = rows.steps(connection, run)
            if start and start not in {record.id for record in records}:
                raise _no_step(start, {record.id: record for record in records})
            kept, again = retrying.set_back(flow, records, start=start, only_failed=only_failed)
            if not again:
                raise ConflictError("every step has succeeded", subject=run)
            # Time counts anew: against the budget's wall, too.
            reset = replace(
                found,
                state="Queued",
                wants="",
                ending="",
                keep_cache=False,
                failure="",
                started_at=0,
                ended_at=0,
            )
            what = f"from {start}" if start else f"{len(again)} steps"
            event = RunEvent(self._runtime.wall(), "run-retry-asked", "", f"{what} {by}".strip())
            rows.again(connection, reset, kept, [event])
        return self._asked(run)

    def _wish(self, run: str, wants: str, event: str, by: str) -> Run:
        with self._store.write() as connection:
            found = self._found(connection, run, lock=True)
            if found.wants == wants and wants:
                return found
            if found.over or found.ending or found.wants != ("" if wants else "pause"):
                state = found.wants or _state(found)
                raise ConflictError(f"that cannot be asked now: {state}", subject=run)
            told = [RunEvent(self._runtime.wall(), event, "", by)]
            values: dict[str, Value] = {"wants": wants}
            if not found.begun:
                # Nobody carries it out who would turn it: it waits, or stands aside, in the queue.
                turned = replace(found, state="Paused" if wants else "Queued")
                told.append(story.of_run(turned, now=told[0].at))
                values["state"] = turned.state
            rows.ask(connection, run, told, **values)
        return self._asked(run)

    def _asked(self, run: str) -> Run:
        self._engine.poke()
        with self._store.read() as connection:
            return self._found(connection, run)

    @staticmethod
    def _found(connection: Connection, run: str, *, lock: bool = False) -> Run:
        found = rows.find(connection, run, lock=lock)
        if found is None:
            raise NotKnownError(
                "no such run", subject=printable(run), hint="`cachefs flow list` lists them"
            )
        return found


def _state(run: Run) -> str:
    return f"{run.state}, ending as {run.ending}" if run.ending and not run.over else run.state


def _no_step(step: str, known: Mapping[str, StepRecord]) -> NotKnownError:
    hint = did_you_mean(step, known) or "`cachefs flow status` lists them"
    return NotKnownError("the run has no such step", subject=printable(step), hint=hint)
