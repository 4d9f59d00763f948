"""The routes for executors: ``/v1/handed``, what is wanted of them, and what they have seen.

An executor asks again and again, carries out what it is told, and says how it stands; it may be
killed between any two calls, and there may be several.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field

from cachefs.coordinator.bodies import Body, Text
from cachefs.dataflow.handing.desk import LOG_BYTES_MAX, OUTPUTS_BYTES_MAX, Desk
from cachefs.dataflow.handing.store import ProgramRow, ProgramState, Report, TargetRow
from cachefs.dataflow.steps.rollouts.targets import ReplicaState

_REPLICAS_MAX = 100_000

Part = Annotated[str, Path(max_length=253)]


class ProgramBody(Body):
    """A program that is not over, or as it stands after a report."""

    id: str
    """Its own for ever: what is made for it is named by it."""
    run: str
    step: str
    attempt: int
    namespace: str
    wanted: dict[str, Any]  # Any: JSON
    """``command``, ``image``, ``variables``, ``secrets`` (variable → ``secret:NAME/KEY``), ``workdir``,
    ``mounts`` (``dataset``, ``version``, ``path``), ``resources`` (``cpu``, ``memory`` in bytes, ``gpu``),
    ``queue``, and ``seconds``: how long it may take."""
    state: ProgramState
    stop: bool
    """Whether it is to end, or never to begin."""

    @classmethod
    def of(cls, row: ProgramRow) -> "ProgramBody":
        """Return the body of a program."""
        return cls(
            id=row.id,
            run=row.run,
            step=row.step,
            attempt=row.attempt,
            namespace=row.namespace,
            wanted=dict(row.wanted),
            state=row.state,
            stop=row.stop,
        )


class TargetBody(Body):
    """A target of a rollout that is asked about."""

    name: str
    """``NAMESPACE/deployment/NAME``."""
    asked: int
    """To be told with the answer."""
    by: str
    """Which run and step asks: ``RUN/STEP``."""
    shape: dict[str, Any]  # Any: JSON
    """Empty, if it is only to be looked at: ``revision``, ``image`` (empty: as it is), ``goal``
    (replicas of the revision after this batch), ``replicas`` (in the end), ``surge``."""

    @classmethod
    def of(cls, row: TargetRow) -> "TargetBody":
        """Return the body of a target."""
        shape = {key: value for key, value in row.shape.items() if key != "by"}
        by = str(row.shape.get("by", ""))
        return cls(name=row.name, asked=row.asked, by=by, shape=shape)


class HandedBody(Body):
    """All that is wanted of executors now: whatever is not in it is not wanted any more."""

    programs: list[ProgramBody]
    targets: list[TargetBody]


class ProgramReportBody(Body):
    """How a program stands."""

    state: ProgramState
    code: int | None = None
    stopped: bool = False
    lost: bool = False
    failure: Text = ""
    note: Text = ""
    log: Annotated[str, Field(max_length=LOG_BYTES_MAX)] = ""
    outputs: Annotated[str, Field(max_length=OUTPUTS_BYTES_MAX)] = ""
    started_at: float = 0.0
    seconds: float = 0.0


class ReplicaBody(Body):
    """A replica of a target."""

    id: Text
    revision: Text
    state: ReplicaState
    started_at: float = 0.0
    ready_seconds: float | None = None
    failure: Text = ""


class TargetReportBody(Body):
    """How a target stands."""

    asked: int
    failure: Text = ""
    """Why it cannot be rolled out to; then nothing else is said."""
    revision: Text = ""
    """Of the replicas that it would start now; empty if it has none."""
    image: Text = ""
    """Likewise."""
    replicas: Annotated[list[ReplicaBody], Field(max_length=_REPLICAS_MAX)] = []  # noqa: RUF012


def handing_routers(desk: Desk) -> Sequence[APIRouter]:
    """Return the routes."""
    router = APIRouter(prefix="/v1/handed", tags=["executors"])

    @router.get("")
    def list_handed() -> HandedBody:
        """List all that is to be made so, looked after, or ended; also says that an executor lives."""
        found = desk.wanted()
        return HandedBody(
            programs=[ProgramBody.of(row) for row in found.programs],
            targets=[TargetBody.of(row) for row in found.targets],
        )

    @router.post("/programs/{program}")
    def tell_program(program: Part, body: ProgramReportBody) -> ProgramBody:
        """Say how a program stands; what is known already, or newer, is not changed by it.

        Who is about to begin one says ``claimed``, and begins it only if the answer does not say ``stop``.
        """
        given = body.model_dump(exclude={"state"})
        return ProgramBody.of(desk.tell_program(program, body.state, Report(**given)))

    @router.post("/targets/{namespace}/{kind}/{name}")
    def tell_target(namespace: Part, kind: Part, name: Part, body: TargetReportBody) -> TargetBody:
        """Say how a target stands, as the answer to ``asked``."""
        report = body.model_dump(exclude={"asked"})
        full = f"{namespace}/{kind}/{name}"
        return TargetBody.of(desk.tell_target(full, asked=body.asked, report=report))

    return (router,)
