"""The routes of hints: ``/v1/hints`` and ``/v1/reservations``.

Only a question that makes no sense is refused. What is not known, or not known well, makes an answer
worth less, and is said in it.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from starlette.responses import StreamingResponse

from cachefs.coordinator.bodies import Text
from cachefs.coordinator.streams import begun
from cachefs.core.hints.asking import Question
from cachefs.hints.bodies import HintBody, LearnedBody, LineHintsBody, ReservationsBody
from cachefs.hints.presenting import (
    check_renderings,
    hint_body,
    learned_body,
    line_body,
    reservation_body,
    told,
)
from cachefs.hints.questions import (
    DATASETS_MAX,
    LIMIT_MAX,
    LineBody,
    OutcomeBody,
    QuestionBody,
    ReadingBody,
)
from cachefs.hints.service import HintService
from cachefs.hints.watching import Watchers

_JSON = "application/json"
Id = Annotated[str, Path(max_length=64)]
_EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}}
}  # Any: OpenAPI


def hint_routers(service: HintService, watchers: Watchers) -> Sequence[APIRouter]:
    """Return the routes."""
    return (_hint_routes(service, watchers), _reservation_routes(service))


def _hint_routes(service: HintService, watchers: Watchers) -> APIRouter:
    router = APIRouter(prefix="/v1/hints", tags=["hints"])

    @router.post("", responses={200: {"model": HintBody}})
    def ask(body: QuestionBody) -> Response:
        """Say where a job would be ready soonest, and how the seconds come about."""
        question = body.value()
        check_renderings(body.renderings)
        hint = service.answer(question)
        shown = hint_body(hint, question, service.kept(hint), names=body.renderings)
        # The answer is ours: it is written once, and not checked against its own description.
        return Response(shown.model_dump_json(), media_type=_JSON)

    @router.post("/batch", responses={200: {"model": LineHintsBody}})
    def ask_for_all(body: LineBody) -> Response:
        """Say of all jobs of a queue where they start, so that all of them are best off."""
        return Response(line_body(service, body).model_dump_json(), media_type=_JSON)

    @router.post("/{hint}/outcome")
    def tell_outcome(hint: Id, body: OutcomeBody) -> LearnedBody:
        """Take in how long it really took: estimates learn from it, and a kept place is free again."""
        return learned_body(told(service, hint, body))

    @router.get("/watch", response_class=StreamingResponse, responses=_EVENT_STREAM)
    async def watch(
        dataset: Annotated[list[Text], Query(min_length=1, max_length=DATASETS_MAX)],
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 32,
    ) -> StreamingResponse:
        """Send a hint for jobs that read some datasets, and another whenever it says something else."""
        readings = tuple(ReadingBody(name=name).value() for name in dataset)
        question = Question(readings=readings, limit=limit, dry_run=True)
        return StreamingResponse(
            await begun(watchers.hints(question)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return router


def _reservation_routes(service: HintService) -> APIRouter:
    router = APIRouter(prefix="/v1/reservations", tags=["hints"])

    @router.get("")
    def list_reservations() -> ReservationsBody:
        """List the places that are kept, those that expire first in front."""
        found = [reservation_body(each) for each in service.reservations()]
        return ReservationsBody(reservations=found)

    @router.post("/{token}/claim", status_code=204)
    def claim(token: Id) -> None:
        """Note that a job has been placed where a place was kept for it: seconds later it is free."""
        service.claim(token)

    @router.delete("/{token}", status_code=204)
    def cancel(token: Id) -> None:
        """Keep a place no longer."""
        service.cancel(token)

    return router
