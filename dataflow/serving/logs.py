"""The route of what programs wrote: ``/v1/runs/RUN/steps/STEP/log``."""

from collections.abc import Sequence
from typing import Annotated, Protocol

from fastapi import APIRouter, Path, Query

from cachefs.coordinator.bodies import Body
from cachefs.core.names import printable
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.steps.programs.places import StepLog
from cachefs.errors import NotKnownError

_BYTES = 64 * 1024
_BYTES_MAX = 4 * 1024 * 1024


class Logs(Protocol):
    """Where logs are."""

    def log(self, key: str, attempt: int | None, size: int) -> StepLog | None:
        """Return the end of what a step's program wrote; ``None`` if nothing is kept.

        Args:
            key: The step's.
            attempt: Which; ``None`` for the last one that ran a program.
            size: Bytes at most.
        """
        ...


class LogBody(Body):
    """What a program wrote."""

    attempt: int
    text: str


def log_routers(service: FlowService, logs: Logs) -> Sequence[APIRouter]:
    """Return the route."""
    router = APIRouter(prefix="/v1/runs", tags=["runs"])

    @router.get("/{run}/steps/{step}/log")
    def get_log(
        run: Annotated[str, Path(max_length=100)],
        step: Annotated[str, Path(max_length=100)],
        attempt: Annotated[int | None, Query(ge=1)] = None,
        size: Annotated[int, Query(alias="bytes", ge=1, le=_BYTES_MAX)] = _BYTES,
    ) -> LogBody:
        """Return the end of what a step's program wrote, as far as it is kept."""
        if step not in {one.id for one in service.get(run).steps}:
            raise NotKnownError("the run has no such step", subject=printable(step))
        found = logs.log(f"{run}/{step}", attempt, size)
        if found is None:
            raise NotKnownError(
                "nothing is kept that a program of the step wrote", subject=printable(step)
            )
        return LogBody(attempt=found.attempt, text=found.text)

    return (router,)
