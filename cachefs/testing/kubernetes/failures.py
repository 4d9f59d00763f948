"""What a request can be refused with: an HTTP code and a ``Status`` that says why.

The reasons are those of ``metav1.StatusReason``; clients decide by them, not by the code.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cachefs.testing.kubernetes.documents import Document, Json


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with an object."""

    reason: str
    """``FieldValueInvalid``, ``FieldValueRequired``, …"""
    message: str
    """Without the field, which clients put before it."""
    field: str

    def document(self) -> Document:
        """Return it as a ``StatusCause``."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A request is refused; the answer is :meth:`status`."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Document | None = None,
        retry_after_seconds: int = 0,
    ) -> None:
        """Say why, in the words of the API server."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after_seconds = retry_after_seconds

    def status(self) -> Document:
        """Return the answer's body."""
        details = dict(self.details)
        if self.retry_after_seconds:
            details["retryAfterSeconds"] = self.retry_after_seconds
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            **({"details": details} if details else {}),
            "code": self.code,
        }


def bad_request(message: str) -> Refusal:
    """The request cannot be understood."""
    return Refusal(400, "BadRequest", message)


def unauthorized() -> Refusal:
    """Nobody knows that token."""
    return Refusal(401, "Unauthorized", "Unauthorized")


def forbidden(about: str, why: str, *, details: Document | None = None) -> Refusal:
    """Somebody known may not do this."""
    return Refusal(403, "Forbidden", f"{about} is forbidden: {why}", details=details)


def nothing_there(path: str) -> Refusal:
    """No resource is served at a path."""
    return Refusal(
        404,
        "NotFound",
        "the server could not find the requested resource",
        details={"causes": [{"reason": "UnexpectedServerResponse", "message": path}]},
    )


def not_found(group: str, plural: str, name: str) -> Refusal:
    """No such object."""
    details = {"name": name, "kind": plural, **({"group": group} if group else {})}
    return Refusal(
        404, "NotFound", f'{_qualified(group, plural)} "{name}" not found', details=details
    )


def already_exists(group: str, plural: str, name: str) -> Refusal:
    """The name is taken."""
    details = {"name": name, "kind": plural, **({"group": group} if group else {})}
    message = f'{_qualified(group, plural)} "{name}" already exists'
    return Refusal(409, "AlreadyExists", message, details=details)


def conflict(group: str, plural: str, name: str, why: str) -> Refusal:
    """The object is not what whoever asks took it for."""
    details = {"name": name, "kind": plural, **({"group": group} if group else {})}
    message = f'Operation cannot be fulfilled on {_qualified(group, plural)} "{name}": {why}'
    return Refusal(409, "Conflict", message, details=details)


CHANGED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> Refusal:
    """The object breaks rules of its kind."""
    said = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    text = said[0] if len(said) == 1 else "[" + ", ".join(said) + "]"
    details: Document = {"name": name, "kind": kind, **({"group": group} if group else {})}
    details["causes"] = [cause.document() for cause in causes]
    message = f'{_qualified(group, kind)} "{name}" is invalid: {text}'
    return Refusal(422, "Invalid", message, details=details)


def expired(message: str) -> Refusal:
    """The versions that were asked for have been compacted."""
    return Refusal(410, "Expired", message)


def unsupported_media_type(sent: str, taken: Sequence[str]) -> Refusal:
    """A body in a format that is not read."""
    message = (
        f"the body of the request was in an unknown format - accepted media types include: "
        f"{', '.join(taken)} (got {sent!r})"
    )
    return Refusal(415, "UnsupportedMediaType", message)


def shown_value(value: Json) -> str:
    """Return how causes show the value that they are about: objects and lists by their kind only."""
    if isinstance(value, dict):
        return '"object"'
    return '"array"' if isinstance(value, list) else json.dumps(value)


def _qualified(group: str, name: str) -> str:
    return f"{name}.{group}" if group else name
