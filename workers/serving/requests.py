"""Requests of the data plane: the part of HTTP/1.1 that we speak, parsed strictly.

Only what :mod:`cachefs.wire.http` needs is understood: ``GET`` and ``HEAD`` without a body, and one
byte range. Everything else is refused by name. A strict parser has no request in it that two
programs could read in two ways.
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
_HEADER_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


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


def parse_head(head: bytes) -> Request:
    """Parse a request's head, without the empty line that ends it.

    Raises:
        ConfigError: It is not a request that we understand.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise ConfigError("not an HTTP/1.1 request")
    method, target, minor = match.groups()
    headers = _parse_headers(lines)
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise ConfigError("a request with a body")
    path, _, query = target.partition("?")
    try:
        values = parse_qs(query, keep_blank_values=True, max_num_fields=16)
    except ValueError as error:
        raise ConfigError("a query that cannot be parsed") from error
    if any(len(each) > 1 for each in values.values()):
        raise ConfigError("a query that says something twice")
    connection = headers.get("connection", "").lower()
    return Request(
        method,
        unquote(path),
        {name: each[0] for name, each in values.items()},
        headers,
        keep_alive="close" not in connection if minor == "1" else "keep-alive" in connection,
    )


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
