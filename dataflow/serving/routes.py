"""The routes of flows and runs: ``/v1/flows`` and ``/v1/runs``."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from cachefs.coordinator.streams import begun
from cachefs.dataflow.engine.service import KEY_LENGTH_MAX, FlowService
from cachefs.dataflow.serving import bodies
from cachefs.dataflow.serving.watching import Watchers

_PAGE_MAX = 1000

RunId = Annotated[str, Path(max_length=100)]
Limit = Annotated[int, Query(ge=1, le=_PAGE_MAX)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=KEY_LENGTH_MAX)]
_EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}}
}  # Any: OpenAPI
_ASK = bodies.AskBody()
_CANCEL = bodies.CancelBody()
_RETRY = bodies.RetryBody()
_APPROVAL = bodies.ApprovalBody()


def run_routers(service: FlowService, watchers: Watchers) -> Sequence[APIRouter]:
    """Return the routes."""
    return (_flow_routes(service), _run_routes(service, watchers), _steering_routes(service))


def _flow_routes(service: FlowService) -> APIRouter:
    router = APIRouter(prefix="/v1/flows", tags=["flows"])

    @router.post("/validate", response_model_by_alias=True)
    def validate(body: bodies.DocumentBody) -> bodies.FlowBody:
        """Check a flow's document; every problem is in the failure's message."""
        return bodies.FlowBody.of(service.validate(body.document, file=body.file))

    @router.post("/plan")
    def plan(body: bodies.SubmissionBody) -> bodies.PlanBody:
        """Say what a run would take; changes nothing."""
        return bodies.PlanBody.of(service.plan(body.document, body.params, file=body.file))

    return router


def _run_routes(service: FlowService, watchers: Watchers) -> APIRouter:
    router = APIRouter(prefix="/v1/runs", tags=["runs"])

    @router.post("", status_code=201, responses={200: {"model": bodies.RunBody}})
    def submit(body: bodies.SubmissionBody, response: Response, key: Key = "") -> bodies.RunBody:
        """Start a run; 200 and the same run if it was submitted with the same key before."""
        submitted = service.submit(
            body.document,
            body.params,
            key=key,
            cause=f"manual {body.by}".strip(),
            file=body.file,
        )
        if not submitted.is_new:
            response.status_code = 200
        return bodies.RunBody.of(submitted.run)

    @router.get("")
    def list_runs(
        flow: Annotated[str, Query(max_length=200)] = "",
        active: Annotated[bool, Query()] = False,  # noqa: FBT002 - a query has no positions
        limit: Limit = 100,
    ) -> bodies.RunsBody:
        """List runs, the newest first: of a flow (``namespace/name``), those that are not over."""
        found = service.every(flow=flow, active=active, limit=limit)
        return bodies.RunsBody(runs=[bodies.RunBody.of(run) for run in found])

    @router.get("/{run}")
    def get_run(run: RunId) -> bodies.RunStatusBody:
        """Return a run with its steps."""
        return bodies.RunStatusBody.of(service.get(run))

    @router.get("/{run}/events")
    def list_events(
        run: RunId, after: Annotated[int, Query(ge=0)] = 0, limit: Limit = _PAGE_MAX
    ) -> bodies.RunEventsBody:
        """List a run's events after one, the oldest first."""
        found = service.events(run, after=after, limit=limit)
        return bodies.RunEventsBody(events=[bodies.RunEventBody.of(event) for event in found])

    @router.get("/{run}/watch", response_class=StreamingResponse, responses=_EVENT_STREAM)
    async def watch(run: RunId) -> StreamingResponse:
        """Send an update, as ``GET`` of the run gives it, for all that changes until it is over.

        The first has all steps, later ones those that have changed.
        """
        first = await run_in_threadpool(service.get, run)
        return StreamingResponse(
            await begun(watchers.updates(first)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return router


def _steering_routes(service: FlowService) -> APIRouter:
    router = APIRouter(prefix="/v1/runs", tags=["runs"])

    @router.post("/{run}/cancel")
    def cancel(run: RunId, body: Annotated[bodies.CancelBody, Body()] = _CANCEL) -> bodies.RunBody:
        """Have a run end; what it has done is undone, or kept if that is said."""
        found = service.cancel(run, keep_cache=body.keep_cache, by=body.by)
        return bodies.RunBody.of(found)

    @router.post("/{run}/pause")
    def pause(run: RunId, body: Annotated[bodies.AskBody, Body()] = _ASK) -> bodies.RunBody:
        """Have nothing more of a run begin."""
        return bodies.RunBody.of(service.pause(run, by=body.by))

    @router.post("/{run}/resume")
    def resume(run: RunId, body: Annotated[bodies.AskBody, Body()] = _ASK) -> bodies.RunBody:
        """Have a paused run go on."""
        return bodies.RunBody.of(service.resume(run, by=body.by))

    @router.post("/{run}/retry")
    def retry(run: RunId, body: Annotated[bodies.RetryBody, Body()] = _RETRY) -> bodies.RunBody:
        """Have a run that is over do again what did not succeed."""
        found = service.retry(run, start=body.start, only_failed=body.only_failed, by=body.by)
        return bodies.RunBody.of(found)

    @router.post("/{run}/approve")
    def approve(
        run: RunId, body: Annotated[bodies.ApprovalBody, Body()] = _APPROVAL
    ) -> bodies.RunBody:
        """Answer a step that waits for an approval."""
        found = service.approve(
            run, body.step, granted=body.granted, by=body.by, message=body.message
        )
        return bodies.RunBody.of(found)

    return router
