"""The gRPC service ``cachefs.v1.Hints``, on the coordinator's control port.

Messages have the fields of the HTTP API's bodies under the same names: a message becomes a body, and an
answer's body a message, so that both doors take and say the same.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from pydantic import ValidationError

from cachefs.coordinator.bodies import Body
from cachefs.core.hints.asking import Question
from cachefs.errors import ConfigError
from cachefs.hints.bodies import HintBody
from cachefs.hints.presenting import (
    check_renderings,
    hint_body,
    learned_body,
    line_body,
    reservation_body,
    told,
)
from cachefs.hints.questions import LineBody, OutcomeBody, QuestionBody
from cachefs.hints.service import HintService
from cachefs.hints.watching import UPDATE_SECONDS, Watchers, what_it_says
from cachefs.ports import Runtime
from cachefs.transport.control import ControlServer
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc

M = TypeVar("M", bound=Message)
B = TypeVar("B", bound=Body)
SERVICE = pb.DESCRIPTOR.services_by_name["Hints"].full_name


class HintsServicer(rpc.HintsServicer):
    """Answers the calls."""

    def __init__(self, service: HintService, watchers: Watchers, runtime: Runtime) -> None:
        """Answer from a service; who watches is counted with those who do by HTTP."""
        self._service = service
        self._watchers = watchers
        self._runtime = runtime

    def Ask(  # noqa: N802 - the service's spelling, as of all that follow
        self, request: pb.HintQuestion, _context: grpc.ServicerContext
    ) -> pb.Hint:
        """Say where a job would be ready soonest."""
        body, question = _question(request)
        hint = self._service.answer(question)
        return _message(hint_body(hint, question, self._service.kept(hint), names=body.renderings))

    def AskBatch(  # noqa: N802
        self, request: pb.HintBatch, _context: grpc.ServicerContext
    ) -> pb.HintList:
        """Say of all jobs of a queue where they start."""
        document = MessageToDict(request, preserving_proto_field_name=True)
        told = line_body(self._service, _body(LineBody, document))
        return ParseDict(told.model_dump(mode="json", exclude_none=True), pb.HintList())

    def TellOutcome(  # noqa: N802
        self, request: pb.HintOutcome, _context: grpc.ServicerContext
    ) -> pb.HintLearned:
        """Take in how long it really took."""
        document = MessageToDict(request, preserving_proto_field_name=True)
        hint = str(document.pop("hint_id", ""))
        body = _body(OutcomeBody, {"node": "", "ready_s": 0.0} | document)
        learned = learned_body(told(self._service, hint, body))
        return ParseDict(learned.model_dump(), pb.HintLearned())

    def ListReservations(  # noqa: N802
        self, _request: pb.ListReservationsRequest, _context: grpc.ServicerContext
    ) -> pb.ListReservationsResponse:
        """Return the places that are kept."""
        found = [reservation_body(each).model_dump() for each in self._service.reservations()]
        return ParseDict({"reservations": found}, pb.ListReservationsResponse())

    def ClaimReservation(  # noqa: N802
        self, request: pb.ReservationRequest, _context: grpc.ServicerContext
    ) -> pb.ReservationResponse:
        """Note that a job has been placed where a place was kept for it."""
        self._service.claim(request.token)
        return pb.ReservationResponse()

    def CancelReservation(  # noqa: N802
        self, request: pb.ReservationRequest, _context: grpc.ServicerContext
    ) -> pb.ReservationResponse:
        """Keep a place no longer."""
        self._service.cancel(request.token)
        return pb.ReservationResponse()

    def WatchHints(  # noqa: N802
        self, request: pb.HintQuestion, context: grpc.ServicerContext
    ) -> Iterator[pb.Hint]:
        """Return a hint whenever it says something else; nothing is kept or begun for it."""
        request.dry_run = True
        body, question = _question(request)
        with self._watchers.counted():
            shown: object = None
            revision = -1
            while context.is_active() and not self._watchers.closed:
                now, revision = revision, self._service.revision
                if now != revision:
                    hint = self._service.answer(question)
                    if (said := what_it_says(hint)) != shown:
                        shown = said
                        yield _message(hint_body(hint, question, None, names=body.renderings))
                self._runtime.sleep(UPDATE_SECONDS)


def add_service(
    server: ControlServer, service: HintService, watchers: Watchers, runtime: Runtime
) -> str:
    """Have a control server answer for hints, too; return the service's name."""
    servicer = HintsServicer(service, watchers, runtime)
    rpc.add_HintsServicer_to_server(servicer, server.server)  # type: ignore[no-untyped-call]  # generated
    return SERVICE


def _question(request: pb.HintQuestion) -> tuple[QuestionBody, Question]:
    document = MessageToDict(request, preserving_proto_field_name=True)
    # Whoever speaks gRPC has little use for other forms: none unless some are named.
    body = _body(QuestionBody, {"renderings": []} | document)
    check_renderings(body.renderings)
    return body, body.value()


def _body(kind: type[B], document: dict[str, Any]) -> B:  # Any: a JSON document
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"the request does not fit: {first['msg']}", subject=where) from error


def _message(body: HintBody) -> pb.Hint:
    return ParseDict(body.model_dump(mode="json", exclude_none=True), pb.Hint())
