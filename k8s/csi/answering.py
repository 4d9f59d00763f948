"""How calls of the interface are answered: in time, and with the status that the specification has for a failure."""

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from cachefs.core.names import printable
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    ClusterError,
    ConfigError,
    ConflictError,
    DeadlineError,
    DeniedError,
    NotKnownError,
)
from cachefs.k8s.csi.publishing import PendingError
from cachefs.ports import Runtime

CALL_SECONDS_MAX = 60.0
"""For a whole call, whatever patience its caller has: the kubelet's is two minutes."""
ID_BYTES_MAX = 128
"""Of names and ids, by the specification."""
_STATUS = (
    (PendingError, grpc.StatusCode.ABORTED),
    (ConfigError, grpc.StatusCode.INVALID_ARGUMENT),
    (DeniedError, grpc.StatusCode.PERMISSION_DENIED),
    (NotKnownError, grpc.StatusCode.NOT_FOUND),
    (ConflictError, grpc.StatusCode.ALREADY_EXISTS),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (CapacityError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (ClusterError, grpc.StatusCode.UNAVAILABLE),
)

_log = logging.getLogger("cachefs.csi")

Context = grpc.ServicerContext
Service = TypeVar("Service")
Request = TypeVar("Request")
Answer = TypeVar("Answer")


def status_of(error: CacheFSError) -> grpc.StatusCode:
    """Return the status that says what a failure says."""
    return next(
        (status for kind, status in _STATUS if isinstance(error, kind)), grpc.StatusCode.INTERNAL
    )


def answers(
    call: Callable[[Service, Request, Context], Answer],
) -> Callable[[Service, Request, Context], Answer]:
    """Have a call's failures answered with their status; it is the server's boundary."""

    def answer(self: Service, request: Request, context: Context) -> Answer:
        try:
            return call(self, request, context)
        except CacheFSError as error:
            status, said = status_of(error), str(error)
        except OSError as error:
            status, said = grpc.StatusCode.INTERNAL, error.strerror or type(error).__name__
        _log.warning("a call failed", extra={"call": call.__name__, "failure": said})
        failed: Any = getattr(self, "failed", None)  # Any: a service may count its failures
        if failed is not None:
            failed(status)
        context.abort(status, printable(said))
        raise AssertionError("abort raises")  # for the type checker

    return functools.update_wrapper(answer, call)


def deadline_of(runtime: Runtime, context: Context) -> float:
    """Return when a call must be answered, on the runtime's monotonic clock."""
    left: float | None = context.time_remaining()
    return runtime.monotonic() + min(CALL_SECONDS_MAX, left or CALL_SECONDS_MAX)


def needed(value: str, what: str) -> str:
    """Return a name or an id that must be there.

    Raises:
        ConfigError: It is not, or is longer than the specification allows.
    """
    if not value:
        raise ConfigError(f"the call lacks {what}")
    if len(value.encode(errors="replace")) > ID_BYTES_MAX:
        raise ConfigError(f"{what} has more than {ID_BYTES_MAX} bytes")
    return value
