"""``flow``: another flow has run, as a step of this one.

The other run is one like any other: it is listed, watched and cancelled by its own id. It was submitted
under the step's key, so however often that is done, there is one. A step that is tried again has the same
run go on with what did not succeed; it is not begun anew.
"""

import json
from collections.abc import Callable, Mapping
from typing import Protocol

from cachefs.dataflow.engine.answers import RunStatus, Submitted
from cachefs.dataflow.ports import Observed, StepContext, StepKind
from cachefs.dataflow.records import DEPTH, OUTER, WITHIN, Run
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import CancelFlow, SubFlow
from cachefs.dataflow.spec.model import Value
from cachefs.errors import (
    CapacityError,
    ConflictError,
    DeadlineError,
    FlowError,
    NotKnownError,
    StepCancelledError,
)

DEPTH_MAX = 8
"""Flows within flows; one that runs itself would never end."""
_LOOK_SECONDS = 0.2
_RUN = "run"
_ATTEMPT = "attempt"


class Runs(Protocol):
    """What this kind of step asks of :class:`cachefs.dataflow.engine.service.FlowService`."""

    def submit(
        self,
        document: str,
        params: Mapping[str, Value],
        *,
        key: str = "",
        cause: str = "manual",
        trigger: Mapping[str, Value] | None = None,
    ) -> Submitted:
        """Start a run, or return the one that was started with the same key."""
        ...

    def get(self, run: str) -> RunStatus:
        """Return a run with its steps."""
        ...

    def every(self, *, flow: str = "", active: bool = False, limit: int) -> tuple[Run, ...]:
        """Return the newest runs, the newest first."""
        ...

    def cancel(self, run: str, *, keep_cache: bool, by: str = "") -> Run:
        """Have a run end."""
        ...

    def retry(self, run: str, *, by: str = "") -> Run:
        """Have a run that is over do again what did not succeed."""
        ...


Registered = Callable[[str], str | None]
"""``namespace/name`` → the document that is registered under it; ``None`` if there is none."""


class FlowStep(StepKind):
    """Done when the other run has succeeded."""

    def __init__(self, runs: Runs, registered: Registered) -> None:
        """Run flows.

        Args:
            runs: All runs.
            registered: Finds documents by name, before those that only ran.
        """
        self._runs = runs
        self._registered = registered

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Look how the other run stands."""
        del arguments
        checkpoint = context.checkpoint()
        if _RUN not in checkpoint:
            return Observed(done=False)
        status = self._runs.get(str(checkpoint[_RUN]))
        run = status.run
        if run.over and run.state != "Succeeded" and checkpoint.get(_ATTEMPT) == context.attempt:
            raise FlowError(f"it ended as {run.state}", subject=run.id, hint=run.failure)
        outputs = {"run": run.id, "steps": {one.id: dict(one.outputs) for one in status.steps}}
        done = run.state == "Succeeded"
        return Observed(done, status.progress, outputs if done else {})

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Have it run, or go on, and follow it to its end."""
        wanted: SubFlow = kinds.check("flow", arguments)
        checkpoint = context.checkpoint()
        if _RUN not in checkpoint:
            run = self._submit(context, wanted).id
        else:
            run = str(checkpoint[_RUN])
            before = self._runs.get(run).run
            if before.over and before.state != "Succeeded":
                self._runs.retry(run, by=f"step {context.key}")
                context.tell(f"run {run} goes on")
        if checkpoint.get(_ATTEMPT) != context.attempt:
            context.note({_RUN: run, _ATTEMPT: context.attempt})
        try:
            while not (status := self._runs.get(run)).run.over:
                context.report(status.progress)
                context.sleep(_LOOK_SECONDS)
        except (StepCancelledError, DeadlineError):
            if not context.abandoned:
                self._cancel(context, run)
            raise

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Have the other run compensate."""
        del arguments
        back: CancelFlow = kinds.check_compensation("flow", how)
        run = context.checkpoint().get(_RUN)
        if not back.cancel or run is None:
            return
        if self._runs.get(str(run)).run.state == "Succeeded":
            raise FlowError("a run that has succeeded cannot be undone", subject=str(run))
        self._cancel(context, str(run))
        while not self._runs.get(str(run)).run.over:
            context.sleep(_LOOK_SECONDS)

    def _submit(self, context: StepContext, wanted: SubFlow) -> Run:
        own = self._runs.get(context.run).run
        depth = own.depth + 1
        if depth > DEPTH_MAX:
            raise CapacityError(f"flows within flows are {DEPTH_MAX} deep", subject=context.step)
        submitted = self._runs.submit(
            self._document(context, wanted),
            dict(wanted.params),
            key=context.key,
            cause=f"{WITHIN}{context.key}",
            trigger={OUTER: context.run, "step": context.step, DEPTH: depth},
        )
        context.tell(f"run {submitted.run.id} began")
        return submitted.run

    def _document(self, context: StepContext, wanted: SubFlow) -> str:
        if wanted.document is not None:
            document: Mapping[str, Value] = wanted.document
            return json.dumps(document)
        name = wanted.name if "/" in wanted.name else f"{context.namespace}/{wanted.name}"
        found = self._registered(name)
        if found is not None:
            return found
        runs = self._runs.every(flow=name, limit=1)
        if not runs:
            raise NotKnownError("no flow of that name was ever submitted", subject=name)
        return runs[0].document

    def _cancel(self, context: StepContext, run: str) -> None:
        """Cancel it; what it has done is kept if ours is."""
        keep = self._runs.get(context.run).run.keep_cache
        try:
            self._runs.cancel(run, keep_cache=keep, by=f"step {context.key}")
        except ConflictError:
            return  # it is over, or ending anyway
