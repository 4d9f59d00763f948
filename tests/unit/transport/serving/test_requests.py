"""What of HTTP is understood, and what is refused."""

import pytest

from cachefs.core.blocks import Range
from cachefs.errors import ConfigError
from cachefs.transport.serving.requests import UnsatisfiableRangeError, parse_head, parse_range


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


def test_a_foreign_request_keeps_its_target_and_says_how_long_its_body_is():
    request = parse_head(b"PUT /b/a%20c?x=1&x=2 HTTP/1.1\r\nContent-Length: 17", foreign=True)
    assert request.target == "/b/a%20c?x=1&x=2"
    assert (request.path, request.query, request.body_length) == ("/b/a c", {}, 17)
    chunked = parse_head(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked", foreign=True)
    assert chunked.body_length == -1
    named = parse_head(b"GET http://x:1/b?q HTTP/1.1\r\nHost: x:1", foreign=True)
    assert named.target == "/b?q"


@pytest.mark.parametrize(
    "head",
    [
        b"PUT / HTTP/1.1\r\nContent-Length: 5x",
        b"PUT / HTTP/1.1\r\nContent-Length: -5",
        b"PUT / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"GET http://x/ HTTP/1.1\r\nHost: y",
        b"GET http://x/ HTTP/1.1",
        b"GET https://x/ HTTP/1.1\r\nHost: x",
    ],
)
def test_a_foreign_request_that_could_be_read_in_two_ways_is_refused(head):
    with pytest.raises(ConfigError):
        parse_head(head, foreign=True)


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


def test_a_foreign_target_is_kept_as_it_was_sent():
    head = b"PUT /a%2Fb?x=1&x=2&y HTTP/1.1\r\nHost: h\r\nContent-Length: 5"
    request = parse_head(head, foreign=True)
    assert request.target == "/a%2Fb?x=1&x=2&y"
    assert request.query == {}
    assert request.body_length == 5
    chunked = parse_head(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked", foreign=True)
    assert chunked.body_length == -1


def test_a_foreign_target_may_name_the_host_that_the_header_names():
    request = parse_head(b"GET http://h:1/a?b HTTP/1.1\r\nHost: h:1", foreign=True)
    assert request.target == "/a?b"
    for head in (
        b"GET http://h:1/a HTTP/1.1\r\nHost: other",
        b"GET http://h:1/a HTTP/1.1",
        b"GET https://h:1/a HTTP/1.1\r\nHost: h:1",
        b"GET http://u@h:1/a HTTP/1.1\r\nHost: u@h:1",
        b"GET http://h:1 HTTP/1.1\r\nHost: h:1",
    ):
        with pytest.raises(ConfigError):
            parse_head(head, foreign=True)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: x",
        b"Content-Length: -1",
        b"Content-Length: 1" + b"0" * 30,
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 5\r\nContent-Length: 6",
    ],
)
def test_a_body_whose_length_is_in_doubt_is_refused(headers):
    with pytest.raises(ConfigError):
        parse_head(b"PUT / HTTP/1.1\r\n" + headers, foreign=True)
