"""Requests: the part of HTTP/1.1 that we speak, parsed strictly.

What :mod:`cachefs.wire.http` needs is understood: a head without a body, and one byte range.
Everything else is refused by name. A strict parser has no request in it that two programs could
read in two ways. The gateway, whose clients are other people's, asks for the target as it was sent
(a signature covers it), and for the length of a body, which it may then read or refuse.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from cachefs.core.blocks import Range
from cachefs.errors import ConfigError

HEADERS_LIMIT = 64
"""Header lines of one request."""

_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.([01])")
_FOREIGN_LINE = re.compile(
    r"([A-Z]{1,16}) (?:http://([^/?#@\x00-\x20\x7f-\xff]{1,255}))?(/[\x21-\x7e]*) HTTP/1\.([01])"
)
_HEADER_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_RANGE = re.compile(r"bytes=(\d{0,30})-(\d{0,30})")


class UnsatisfiableRangeError(ConfigError):
    """The range lies beyond the file."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head."""

    method: str
    path: str
    """Decoded, without the query."""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name."""
    keep_alive: bool = True
    """Whether the other side wants to ask again on this connection."""
    target: str = ""
    """Path and query as they were sent."""
    body_length: int = 0
    """Bytes that follow the head; -1 if nobody can know beforehand."""


def parse_head(head: bytes, *, foreign: bool = False) -> Request:
    """Parse a request's head, without the empty line that ends it.

    Args:
        head: What was received.
        foreign: It is from a client of another protocol: a body is for the caller to read or
            refuse, and so is the query, which stays empty here.

    Raises:
        ConfigError: It is not a request that we understand.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    match = (_FOREIGN_LINE if foreign else _REQUEST_LINE).fullmatch(first)
    if match is None:
        raise ConfigError("not an HTTP/1.1 request")
    method, *host, target, minor = match.groups()
    headers = _parse_headers(lines)
    if any(host) and host != [headers.get("host")]:
        raise ConfigError("a target and a Host header that name two hosts")
    body_length = _body_length(headers)
    if body_length and not foreign:
        raise ConfigError("a request with a body")
    path, _, query = target.partition("?")
    connection = headers.get("connection", "").lower()
    return Request(
        method,
        unquote(path),
        {} if foreign else _parse_query(query),
        headers,
        keep_alive="close" not in connection if minor == "1" else "keep-alive" in connection,
        target=target,
        body_length=body_length,
    )


def _body_length(headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise ConfigError("a body with two lengths")
        return -1
    if not _LENGTH.fullmatch(length):
        raise ConfigError("a content length that is no number")
    return int(length)


def _parse_query(query: str) -> Mapping[str, str]:
    try:
        values = parse_qs(query, keep_blank_values=True, max_num_fields=16)
    except ValueError as error:
        raise ConfigError("a query that cannot be parsed") from error
    if any(len(each) > 1 for each in values.values()):
        raise ConfigError("a query that says something twice")
    return {name: each[0] for name, each in values.items()}


def _parse_headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > HEADERS_LIMIT:
        raise ConfigError("too many headers")
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER_LINE.fullmatch(line)
        if match is None:
            raise ConfigError("a header line that cannot be parsed")
        name = match[1].lower()
        if name in headers:
            raise ConfigError(f"the header {name} twice")
        headers[name] = match[2]
    return headers


def parse_range(text: str | None, size: int) -> Range | None:
    """Return the range that a ``Range`` header asks for; ``None`` for the whole file.

    As RFC 9110 §14.2 demands, a header that is not one byte range is as good as none.

    Raises:
        UnsatisfiableRangeError: It has no byte of the file in it.
    """
    match = _RANGE.fullmatch(text.strip()) if text else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        start = size - length
    else:
        start = int(match[1])
        last = int(match[2]) if match[2] else size - 1
        if last < start and match[2]:
            return None
        length = min(last, size - 1) - start + 1
    if start >= size or length <= 0:
        raise UnsatisfiableRangeError("the range lies beyond the file")
    return Range(start, length)
