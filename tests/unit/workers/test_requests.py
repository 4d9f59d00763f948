"""What of HTTP is understood, and what is refused."""

import pytest

from cachefs.core.blocks import Range
from cachefs.errors import ConfigError
from cachefs.workers.serving.requests import UnsatisfiableRangeError, parse_head, parse_range


def test_a_request_is_taken_apart():
    request = parse_head(
        b"GET /v1/files/ab%20c?dataset=ns%2Fm&version=01 HTTP/1.1\r\nHost: x\r\nRANGE: bytes=0-1"
    )
    assert (request.method, request.path) == ("GET", "/v1/files/ab c")
    assert request.query == {"dataset": "ns/m", "version": "01"}
    assert request.headers["range"] == "bytes=0-1"
    assert request.keep_alive


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\nConnection: close", False),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", True),
    ],
)
def test_a_connection_is_kept_as_the_other_side_wants(head, keeps):
    assert parse_head(head).keep_alive is keeps


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET http://x/ HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET /\x00 HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost : x",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\n folded: x",
        b"GET / HTTP/1.1\r\nA: 1\r\na: 2",
        b"GET / HTTP/1.1\r\nA: x\x01",
        b"GET / HTTP/1.1\r\nContent-Length: 5",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"GET / HTTP/1.1" + b"".join(b"\r\nA%d: x" % n for n in range(65)),
        b"GET /?a=1&a=2 HTTP/1.1",
        b"GET /?" + b"&".join(b"a%d=1" % n for n in range(17)) + b" HTTP/1.1",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(head):
    with pytest.raises(ConfigError):
        parse_head(head)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("bytes=0-99", Range(0, 100)),
        ("bytes=900-", Range(900, 100)),
        ("bytes=900-5000", Range(900, 100)),
        ("bytes=-100", Range(900, 100)),
        ("bytes=-5000", Range(0, 1000)),
        ("bytes=999-999", Range(999, 1)),
        ("bytes=0-0,5-9", None),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_a_range_is_what_the_standard_says(text, expected):
    assert parse_range(text, 1000) == expected


@pytest.mark.parametrize("text", ["bytes=1000-", "bytes=1000-1001", "bytes=-0"])
def test_a_range_beyond_the_file_is_unsatisfiable(text):
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(text, 1000)
