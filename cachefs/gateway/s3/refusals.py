"""Refusals: what the S3 endpoint says no with, in the words that S3 clients act upon."""

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure of ours
    """A request that is not granted."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Keep the parts.

        Args:
            status: The HTTP status.
            code: S3's own word, which clients compare with.
            message: A sentence for people.
            headers: Further headers of the answer.
        """
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def denied(message: str = "Access Denied.") -> Refusal:
    """Return what is said to who may not read."""
    return Refusal(403, "AccessDenied", message)


def invalid(message: str, code: str = "InvalidArgument") -> Refusal:
    """Return what is said to a request that makes no sense."""
    return Refusal(400, code, message)
