"""The control plane's calls: gRPC channels with a token, and errors that cross as themselves.

A server puts the JSON document of :mod:`cachefs.wire.failures` into the status message. A client
turns it back into the same class here, so that no ``grpc.RpcError`` is seen above this module. A
failure without such a document is gRPC's own: nobody answered (the kind of process that was called
says which error that is), or the deadline passed.

:class:`ControlServer` is the other end: it refuses calls without the token before their handler
runs, and turns what handlers raise into statuses.
"""

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from cachefs.config.secrets import Secret
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import Manifest, VersionId
from cachefs.core.membership import View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import (
    CacheFSError,
    ClusterError,
    CoordinatorUnavailableError,
    DeadlineError,
    DeniedError,
    WorkerUnavailableError,
)
from cachefs.ports import Closing, FileRef, ResolvedVersion, Runtime
from cachefs.wire import digests, failures, messages
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc

T = TypeVar("T")
if TYPE_CHECKING:
    _Handler = grpc.RpcMethodHandler[Any, Any]

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Most bytes of one message; a manifest travels in parts."""
SERVER_THREADS = 8
"""Calls that a control server answers at once; more wait."""
_OPEN_METHODS = frozenset({"/grpc.health.v1.Health/Check"})
"""What is answered without a token."""

_log = logging.getLogger("cachefs.transport")

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A process that was restarted shall be found again within a second, not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A control address is a peer of ours; no proxy of the environment lies in between.
    ("grpc.enable_http_proxy", 0),
)
_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Two processes on one port would each get half of the calls.
    ("grpc.so_reuseport", 0),
)


class ControlChannel(Closing):
    """A connection to one process's control server, made when first needed, and made anew when lost.

    Safe from any thread. The owner closes it.
    """

    def __init__(
        self,
        address: str,
        token: Secret,
        *,
        unavailable: type[ClusterError],
        timeout_seconds: float,
    ) -> None:
        """Prepare a channel.

        Args:
            address: ``host:port``.
            token: Sent with every call.
            unavailable: What to raise when nobody answers there.
            timeout_seconds: How long a call may take unless it says otherwise.
        """
        self._address = address
        self._metadata = (("authorization", f"Bearer {token.reveal()}"),)
        self._unavailable = unavailable
        self._timeout_seconds = timeout_seconds
        self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)

    @property
    def channel(self) -> grpc.Channel:
        """What a generated stub is built on."""
        return self._channel

    def call(
        self, method: Callable[..., T], request: Any, *, timeout_seconds: float | None = None
    ) -> T:  # Any: each method has a request class of its own
        """Make a call that is answered by one message.

        Raises:
            CacheFSError: Whatever the other side raised, or that it could not be reached.
        """
        timeout = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from error

    def stream(
        self,
        method: Callable[..., Iterator[T]],
        request: Any,
        *,
        timeout_seconds: float | None = None,
    ) -> Iterator[T]:  # Any: as above
        """Make a call that is answered by a stream; errors are raised while it is read."""
        timeout = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            yield from method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from error

    def _translated(self, error: grpc.RpcError) -> CacheFSError:
        code, details = error.code(), error.details() or ""
        if details.startswith("{"):
            return failures.decode(details.encode())
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return self._unavailable("it did not answer in time", subject=self._address)
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return self._unavailable("it cannot be reached", subject=self._address, hint=details)
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return DeniedError("the token was refused", subject=self._address)
        return ClusterError(f"the call failed: {details}", subject=self._address)

    def close(self) -> None:
        """Give up the connection and abort the calls on it; idempotent."""
        self._channel.close()


def coordinator_channel(
    address: str, token: Secret, *, timeout_seconds: float = 10.0
) -> ControlChannel:
    """Return a channel to the coordinator."""
    return ControlChannel(
        address, token, unavailable=CoordinatorUnavailableError, timeout_seconds=timeout_seconds
    )


def worker_channel(address: str, token: Secret, *, timeout_seconds: float = 10.0) -> ControlChannel:
    """Return a channel to a worker."""
    return ControlChannel(
        address, token, unavailable=WorkerUnavailableError, timeout_seconds=timeout_seconds
    )


class ControlMetadata:
    """Implements :class:`cachefs.ports.WorkerMetadata` by calls to the coordinator alone."""

    def __init__(self, runtime: Runtime, channel: ControlChannel, *, digest_size: int) -> None:
        """Ask over a channel that somebody else closes."""
        self._runtime = runtime
        self._channel = channel
        self._stub = rpc.CoordinatorStub(channel.channel)  # type: ignore[no-untyped-call]  # generated
        self._digest_size = digest_size

    def view(self, *, deadline: float) -> View:
        """Return the coordinator's view."""
        answer = self._call(self._stub.GetView, pb.GetViewRequest(), deadline)
        return messages.view_from_message(answer)

    def resolve(
        self, name: DatasetName, version: str | None, *, deadline: float
    ) -> ResolvedVersion:
        """Return a version with its manifest."""
        request = pb.ResolveRequest(dataset=str(name), version=version or "")
        answer = self._call(self._stub.Resolve, request, deadline)
        parts = self._channel.stream(
            self._stub.GetManifest,
            pb.GetManifestRequest(version=answer.version.id),
            timeout_seconds=self._left(deadline),
        )
        encoded = b"".join(part.encoded for part in parts)
        origin: OriginSpec = messages.origin_from_message(answer.version.origin)
        return ResolvedVersion(
            dataset=name,
            origin=origin,
            client=answer.version.client,
            pool=answer.pool,
            replicas=answer.replicas,
            manifest=Manifest.decode(encoded, VersionId(answer.version.id)),
            listed_at=answer.version.listed_at,
        )

    def digests(self, file: FileRef, *, deadline: float) -> list[bytes | None]:
        """Return the known digests of a file's blocks."""
        request = pb.GetDigestsRequest(file_version=file.entry.file_version)
        answer = self._call(self._stub.GetDigests, request, deadline)
        return digests.unpack(answer.digests, self._digest_size)

    def holders(self, file: FileRef, *, deadline: float) -> dict[WorkerId, int]:
        """Return which members hold which blocks of a file version."""
        request = pb.GetHoldersRequest(file_version=file.entry.file_version)
        answer = self._call(self._stub.GetHolders, request, deadline)
        held: dict[WorkerId, int] = {}
        for holder in answer.holders:
            worker = WorkerId(holder.worker)
            held[worker] = held.get(worker, 0) | int.from_bytes(holder.blocks, "little")
        return held

    def _call(self, method: Callable[..., T], request: Any, deadline: float) -> T:  # Any: see call
        return self._channel.call(method, request, timeout_seconds=self._left(deadline))

    def _left(self, deadline: float) -> float:
        left = deadline - self._runtime.monotonic()
        if left <= 0:
            raise CoordinatorUnavailableError("there is no time left to ask the coordinator")
        return left


class ControlServer:
    """A gRPC server that demands the token and speaks our errors.

    ``port`` is known once it is made; ``start`` begins to answer; ``close`` ends it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: Secret,
        *,
        threads: int = SERVER_THREADS,
    ) -> None:
        """Bind the port.

        Raises:
            ClusterError: The address is taken or is not ours.
        """
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="control"),
            interceptors=[_Gate(token)],
            options=_SERVER_OPTIONS,
        )
        try:
            self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise ClusterError(
                "cannot listen",
                subject=f"{host}:{port}",
                hint="control_port names another port; 0 takes any that is free",
            ) from error

    @property
    def server(self) -> grpc.Server:
        """What generated code adds its services to."""
        return self._server

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def close(self, *, grace_seconds: float = 1.0) -> None:
        """Refuse new calls, let running ones end within the grace, then abort them."""
        self._server.stop(grace_seconds).wait(grace_seconds + 1.0)


class _Gate(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Stands before every call: the token first, then the handler, then its errors."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "_Handler | None"],
        details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        if details.method not in _OPEN_METHODS and not self._admits(details):
            return grpc.unary_unary_rpc_method_handler(_refuse)
        handler = continuation(details)
        if handler is None:
            return None
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _answering(handler.unary_unary),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _streaming(handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return handler

    def _admits(self, details: grpc.HandlerCallDetails) -> bool:
        presented = dict(details.invocation_metadata).get("authorization", "")
        if isinstance(presented, bytes):
            return False
        scheme, _, value = presented.partition(" ")
        return self._token.matches(value) and scheme.lower() == "bearer"


def _refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
    _abort(context, DeniedError("the token is missing or wrong"))
    return b""


def _answering(method: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[..., Any]:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:  # Any: any message
        try:
            return method(request, context)
        except CacheFSError as error:
            return _abort(context, error)

    return answer


def _streaming(method: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[..., Any]:
    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # Any: any message
        try:
            yield from method(request, context)
        except CacheFSError as error:
            _abort(context, error)

    return answer


def _abort(context: grpc.ServicerContext, error: CacheFSError) -> None:
    code = grpc.StatusCode[failures.grpc_status_name(error)]
    if isinstance(error, DeadlineError):
        _log.debug("a call ran out of time", extra={"failure": str(error)})
    context.abort(code, json.dumps(failures.to_document(error)))
