"""Answers: what the endpoints decide to say, before anything is sent.

Conditions and ranges mean the same at both endpoints, because both are HTTP's (RFC 9110, sections 13
and 14). A range that is not one range of bytes is as good as none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

from cachefs.client.reader import OpenDataset
from cachefs.core.blocks import Range
from cachefs.core.manifest import FileEntry
from cachefs.transport.serving.requests import parse_range

Headers = tuple[tuple[str, str], ...]
REASONS = {
    200: "OK",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a file that are to be sent."""

    dataset: OpenDataset
    entry: FileEntry
    wanted: Range


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers, and a body that is here or in a file."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    content: Content | None = None
    """Instead of ``body``."""

    @property
    def length(self) -> int:
        """The body's length in bytes."""
        return len(self.body) if self.content is None else self.content.wanted.length


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What conditions are held against."""

    etag: str
    """Without quotes."""
    modified: float
    """Seconds since 1970."""
    size: int

    def headers(self) -> Headers:
        """Return the headers that tell them."""
        return (
            ("ETag", f'"{self.etag}"'),
            ("Last-Modified", formatdate(int(self.modified), usegmt=True)),
            ("Accept-Ranges", "bytes"),
        )


def failed_condition(headers: Mapping[str, str], facts: FileFacts) -> int:
    """Return 304 or 412 if a condition of the request says so, else 0."""
    modified = int(facts.modified)
    if "if-match" in headers:
        if not _has_tag(headers["if-match"], facts.etag):
            return 412
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and modified > since:
        return 412
    if "if-none-match" in headers:
        if _has_tag(headers["if-none-match"], facts.etag):
            return 304
    elif (since := _date(headers.get("if-modified-since"))) is not None and modified <= since:
        return 304
    return 0


def wanted_range(headers: Mapping[str, str], facts: FileFacts) -> Range | None:
    """Return the range that is asked for; ``None`` for the whole file.

    Raises:
        UnsatisfiableRangeError: It has no byte of the file in it.
    """
    condition = headers.get("if-range")
    if condition is not None and condition.strip() != f'"{facts.etag}"':
        return None
    return parse_range(headers.get("range"), facts.size)


def _has_tag(text: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in text.split(",")}
    return "*" in tags or etag in tags


def _date(text: str | None) -> float | None:
    """Return a date as seconds since 1970; one that cannot be read is none."""
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
