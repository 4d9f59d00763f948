"""Errors on the wire: one table from error class to name, HTTP status and gRPC status.

An error crosses a process boundary as the JSON object ``{"error", "message", "subject", "hint"}``
and becomes the same class on the other side, so that a reader can tell a dead origin from a dead
worker. A class that the receiver does not know becomes plain ``ClusterError``.
"""

import json
from typing import Any

from cachefs import errors
from cachefs.errors import CacheFSError

STATUS: dict[type[CacheFSError], tuple[int, str]] = {
    errors.ConfigError: (400, "INVALID_ARGUMENT"),
    errors.NotKnownError: (404, "NOT_FOUND"),
    errors.ConflictError: (409, "ALREADY_EXISTS"),
    errors.DeniedError: (401, "UNAUTHENTICATED"),
    errors.NotAllowedError: (403, "PERMISSION_DENIED"),
    errors.OriginError: (502, "UNKNOWN"),
    errors.OriginNotFoundError: (502, "NOT_FOUND"),
    errors.OriginDeniedError: (502, "PERMISSION_DENIED"),
    errors.OriginChangedError: (502, "FAILED_PRECONDITION"),
    errors.OriginProtocolError: (502, "UNKNOWN"),
    errors.OriginUnavailableError: (503, "UNAVAILABLE"),
    errors.OriginContentError: (502, "DATA_LOSS"),
    errors.IntegrityError: (502, "DATA_LOSS"),
    errors.DeadlineError: (504, "DEADLINE_EXCEEDED"),
    errors.ClusterError: (500, "INTERNAL"),
    errors.CoordinatorUnavailableError: (503, "UNAVAILABLE"),
    errors.WorkerUnavailableError: (503, "UNAVAILABLE"),
    errors.ApiServerUnavailableError: (503, "UNAVAILABLE"),
    errors.LeaseExpiredError: (410, "FAILED_PRECONDITION"),
    errors.CapacityError: (507, "RESOURCE_EXHAUSTED"),
    errors.FlowError: (500, "INTERNAL"),
    errors.StepCancelledError: (409, "CANCELLED"),
    errors.StepTransientError: (503, "UNAVAILABLE"),
}
"""HTTP status and gRPC status name of each class; a test asserts that none is missing."""

_BY_NAME = {cls.__name__: cls for cls in STATUS}


def http_status(error: CacheFSError) -> int:
    """Return the HTTP status that goes with an error."""
    return _row(error)[0]


def grpc_status_name(error: CacheFSError) -> str:
    """Return the name of the gRPC status code that goes with an error."""
    return _row(error)[1]


def _row(error: CacheFSError) -> tuple[int, str]:
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def to_document(error: CacheFSError) -> dict[str, Any]:
    """Return an error as a JSON object."""
    document: dict[str, Any] = {
        "error": next(cls.__name__ for cls in type(error).__mro__ if cls in STATUS),
        "message": error.message,
        "subject": error.subject,
        "hint": error.hint,
    }
    if isinstance(error, errors.OriginUnavailableError) and error.retry_after_seconds is not None:
        document["retry_after_seconds"] = error.retry_after_seconds
    return document


def from_document(document: dict[str, Any]) -> CacheFSError:
    """Return the error that another process raised."""
    cls = _BY_NAME.get(str(document.get("error", "")), errors.ClusterError)
    failure = cls(
        str(document.get("message", "the other process failed without a message")),
        subject=str(document.get("subject", "")),
        hint=str(document.get("hint", "")),
    )
    retry_after = document.get("retry_after_seconds")
    if isinstance(failure, errors.OriginUnavailableError) and isinstance(retry_after, int | float):
        failure.retry_after_seconds = float(retry_after)
    return failure


def encode(error: CacheFSError) -> bytes:
    """Return an error as JSON text."""
    return json.dumps(to_document(error)).encode()


def decode(encoded: bytes) -> CacheFSError:
    """Return the error in a JSON text, or a ``ClusterError`` that shows the text's beginning."""
    try:
        document = json.loads(encoded)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return from_document(document)
    return errors.ClusterError(f"an answer that is not ours: {encoded[:80]!r}")
