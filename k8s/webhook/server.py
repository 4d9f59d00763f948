"""The server: reviews and the scheduler's extender over TLS, and how it does over plain HTTP.

Whatever a caller sends, no answer is an error of ours: a review is answered that the pod may be as it is, an
extender's question that all nodes may have it and none is better. Only a body that is too long, or no JSON,
is refused to a scheduler, for nobody knows which nodes it meant; its configuration says ``ignorable``.

It keeps nothing. Both replicas answer alike, and either may go at any time.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cachefs.errors import CacheFSError, CapacityError, ConfigError, NotKnownError
from cachefs.hints.consumers.extender import Arguments, filter_result
from cachefs.hints.consumers.fields import document
from cachefs.hints.renderings.extender import encoded
from cachefs.k8s.webhook.bodies import Room
from cachefs.k8s.webhook.hinting import Hinting
from cachefs.k8s.webhook.mutating import Mutation
from cachefs.k8s.webhook.serving import LiveSecret
from cachefs.ports import Runtime
from cachefs.telemetry.metrics import Metrics, Sample
from cachefs.wire import failures

REVIEW_BYTES_MAX = 3 * 1024 * 1024
"""An object is at most 1.5 MiB in etcd, and a request to the API server 3 MiB."""
ARGUMENTS_BYTES_MAX = 8 * 1024 * 1024
"""Names of 10,000 nodes are 1 MiB; whole nodes, which ``nodeCacheCapable`` avoids, would be more."""
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_CLOSE = {"Connection": "close"}
"""Of an answer to a body that was not read to its end."""
_VERBS = ("filter", "prioritize")

_log = logging.getLogger("cachefs.webhook")


class Answers:
    """The routes; safe from any thread."""

    def __init__(
        self, mutation: Mutation, hinting: Hinting, secret: LiveSecret, runtime: Runtime
    ) -> None:
        """Answer nothing yet."""
        self._mutation = mutation
        self._hinting = hinting
        self._secret = secret
        self._runtime = runtime
        self._guard = runtime.condition()
        self._seconds = 0.0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._metrics = Metrics(self.samples)
        self._room = Room()

    def secure(self) -> Starlette:
        """Return the application behind TLS."""
        return Starlette(
            routes=[
                Route("/mutate", self._mutate, methods=["POST"]),
                Route("/extender/{verb}", self._extend, methods=["POST"]),
                *self._states(),
            ]
        )

    def plain(self) -> Starlette:
        """Return the application for the kubelet and Prometheus."""
        return Starlette(routes=[*self._states(), Route("/metrics", self._measure)])

    def samples(self) -> Iterable[Sample]:
        """Yield what is measured."""
        with self._guard:
            counts, seconds = dict(self._counts), self._seconds
        names = {
            "review": "cachefs_webhook_reviews_total",
            "injected": "cachefs_webhook_injected_total",
            "failure": "cachefs_webhook_failures_total",
            "extender": "cachefs_webhook_extender_total",
        }
        for (kind, value), count in sorted(counts.items()):
            yield names[kind], (value,), float(count)
        yield "cachefs_webhook_review_seconds_total", (), seconds
        yield "cachefs_webhook_certificate_left_seconds", (), self._secret.seconds_left()

    def _states(self) -> list[Route]:
        return [Route("/healthz", self._live), Route("/readyz", self._ready)]

    async def _mutate(self, request: Request) -> Response:
        async with self._room.body(request, REVIEW_BYTES_MAX) as body:
            answer = await run_in_threadpool(self._review, body or b"")
        return JSONResponse(answer, headers=_CLOSE if body is None else None)

    def _review(self, body: bytes) -> Mapping[str, Any]:
        began = self._runtime.monotonic()
        answer, outcome = self._mutation.answer(body)
        with self._guard:
            self._seconds += self._runtime.monotonic() - began
            self._counts["review", "hinted" if outcome.hinted else "unhinted"] += 1
            if outcome.injected:
                self._counts["injected", outcome.injected] += 1
            for each in outcome.failures:
                self._counts["failure", each] += 1
        return answer

    async def _extend(self, request: Request) -> Response:
        verb = request.path_params["verb"]
        if verb not in _VERBS:
            error = NotKnownError("no such verb", hint=" and ".join(_VERBS))
            return JSONResponse(failures.to_document(error), status_code=404)
        authorization = request.headers.get("authorization", "")
        async with self._room.body(request, ARGUMENTS_BYTES_MAX) as body:
            return await run_in_threadpool(self._extended, verb, body, authorization)

    def _extended(self, verb: str, body: bytes | None, authorization: str) -> Response:
        try:
            sent, arguments = _arguments(body)
        except (ConfigError, CapacityError) as error:
            status, headers = failures.http_status(error), _CLOSE if body is None else None
            return JSONResponse(failures.to_document(error), status_code=status, headers=headers)
        try:
            answer = self._hinting.extend(verb, sent, authorization)
            self._count("extender", verb)
            return JSONResponse(answer)
        except CacheFSError as error:
            _log.warning("a scheduler goes without us", extra={"failure": str(error)})
        except Exception:  # noqa: BLE001 - the boundary of a request: a bug must not stop a scheduler
            _log.exception("a scheduler's question met a bug")
        self._count("failure", "extender")
        if verb == "filter":
            return JSONResponse(filter_result(arguments, {}))
        return Response(encoded({}, arguments.names), media_type="application/json")

    def _count(self, kind: str, value: str) -> None:
        with self._guard:
            self._counts[kind, value] += 1

    async def _live(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, _: Request) -> Response:
        if self._secret.seconds_left() > 0:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("no certificate that is good\n", status_code=503)

    async def _measure(self, _: Request) -> Response:
        return Response(self._metrics.exposition(), media_type=_METRICS_TYPE)


def _arguments(body: bytes | None) -> tuple[Mapping[str, Any], Arguments]:
    if body is None:
        raise CapacityError(f"at most {ARGUMENTS_BYTES_MAX} bytes are read")
    return document(body), Arguments.parse(body)
