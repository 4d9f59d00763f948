"""The bodies of the flows' routes: what OpenAPI shows, and what a request must look like."""

from typing import Annotated

from pydantic import Field

from cachefs.coordinator.bodies import Body, Text
from cachefs.dataflow.engine.answers import Planned, RunStatus
from cachefs.dataflow.engine.store import RunEvent
from cachefs.dataflow.records import Progress, Run, StepRecord
from cachefs.dataflow.spec.document import DOCUMENT_BYTES_MAX
from cachefs.dataflow.spec.model import Flow, Value

_PARAMS_MAX = 1000

Document = Annotated[str, Field(max_length=DOCUMENT_BYTES_MAX)]
Params = Annotated[dict[Text, Value], Field(max_length=_PARAMS_MAX)]


class DocumentBody(Body):
    """A flow, to be checked."""

    document: Document
    """YAML or JSON."""
    file: Text = "flow"
    """Its name, for messages."""


class FlowBody(Body):
    """What a document says, in short."""

    flow: str
    params: dict[str, Value]
    steps: list[str]
    finally_: Annotated[list[str], Field(alias="finally")]

    @classmethod
    def of(cls, flow: Flow) -> "FlowBody":
        """Return the body of a flow."""
        return cls.model_validate(
            {
                "flow": flow.full_name,
                "params": dict(flow.params),
                "steps": [step.id for step in flow.steps],
                "finally": [step.id for step in flow.finally_],
            }
        )


class SubmissionBody(DocumentBody):
    """A flow, to be planned or run."""

    params: Params = Field(default_factory=dict)
    """What differs from the flow's own parameters."""
    by: Text = ""
    """Who or what submits it."""


class PlanBody(Body):
    """What a run would take."""

    plan: dict[str, Value]
    refusals: list[str]
    """Why it would be refused; empty if it would not."""

    @classmethod
    def of(cls, planned: Planned) -> "PlanBody":
        """Return the body of a plan."""
        return cls(plan=dict(planned.document), refusals=list(planned.refusals))


class ProgressBody(Body):
    """How far something is."""

    done: float
    total: float
    unit: str
    rate: float
    note: str
    origin_bytes: int
    egress_bytes: int
    """Of these, what the origin may charge for."""
    seconds_left: float | None
    """``None`` while it cannot be told."""

    @classmethod
    def of(cls, progress: Progress) -> "ProgressBody":
        """Return the body of a progress."""
        left = progress.total - progress.done
        return cls(
            done=progress.done,
            total=progress.total,
            unit=progress.unit,
            rate=progress.rate,
            note=progress.note,
            origin_bytes=progress.origin_bytes,
            egress_bytes=progress.egress_bytes,
            seconds_left=left / progress.rate if progress.total and progress.rate > 0 else None,
        )


class StepBody(Body):
    """A step of a run, or an instance of one."""

    id: str
    state: str
    value: Value
    attempt: int
    not_before: float
    arguments: dict[str, Value]
    outputs: dict[str, Value]
    progress: ProgressBody
    failure: str
    started_at: float
    ended_at: float

    @classmethod
    def of(cls, record: StepRecord) -> "StepBody":
        """Return the body of a record."""
        return cls(
            id=record.id,
            state=record.state,
            value=record.value,
            attempt=record.attempt,
            not_before=record.not_before,
            arguments=dict(record.arguments),
            outputs=dict(record.outputs),
            progress=ProgressBody.of(record.progress),
            failure=record.failure,
            started_at=record.started_at,
            ended_at=record.ended_at,
        )


class RunBody(Body):
    """A run, without its steps."""

    id: str
    flow: str
    state: str
    params: dict[str, Value]
    group: str
    key: str
    cause: str
    wants: str
    ending: str
    keep_cache: bool
    failure: str
    created_at: float
    started_at: float
    ended_at: float

    @classmethod
    def of(cls, run: Run) -> "RunBody":
        """Return the body of a run."""
        return cls(
            id=run.id,
            flow=run.flow,
            state=run.state,
            params=dict(run.params),
            group=run.group,
            key=run.key,
            cause=run.cause,
            wants=run.wants,
            ending=run.ending,
            keep_cache=run.keep_cache,
            failure=run.failure,
            created_at=run.created_at,
            started_at=run.started_at,
            ended_at=run.ended_at,
        )


class RunStatusBody(Body):
    """A run with its steps; of an update, with those that have changed."""

    run: RunBody
    progress: ProgressBody
    egress_usd: float
    """What origins charge so far, at ``coordinator.flows.planning.egress_usd_per_gb``."""
    steps: list[StepBody]
    """As they were written, each followed by its instances."""

    @classmethod
    def of(cls, status: RunStatus) -> "RunStatusBody":
        """Return the body of a status."""
        return cls(
            run=RunBody.of(status.run),
            progress=ProgressBody.of(status.progress),
            egress_usd=status.egress_usd,
            steps=[StepBody.of(step) for step in status.steps],
        )


class RunsBody(Body):
    """Runs, the newest first."""

    runs: list[RunBody]


class RunEventBody(Body):
    """Something that happened in a run."""

    number: int
    at: float
    kind: str
    step: str
    message: str

    @classmethod
    def of(cls, event: RunEvent) -> "RunEventBody":
        """Return the body of an event."""
        return cls(**event._asdict())


class RunEventsBody(Body):
    """Events of a run, the oldest first."""

    events: list[RunEventBody]


class AskBody(Body):
    """Who asks something of a run."""

    by: Text = ""


class CancelBody(AskBody):
    """A run is to end."""

    keep_cache: bool = False
    """Leave what was done, instead of undoing it."""


class RetryBody(AskBody):
    """A run that is over is to go on."""

    start: Text = ""
    """Do this step and all that depends on it again."""
    only_failed: bool = False
    """Leave alone what succeeded although something before it had failed."""


class ApprovalBody(AskBody):
    """An answer to a step that waits for one."""

    step: Text = ""
    """Empty for the only one that waits."""
    granted: bool = True
    message: Text = ""
