"""What strangers and broken clients send to the endpoints: refused, bounded, and nobody else harmed."""

import re
import socket

import pytest

from cachefs.gateway import files
from cachefs.transport.serving import conversation
from tests.integration.gateway.conftest import FILES, open_gateway
from tests.integration.systems import RUNTIME, wait_for

pytestmark = pytest.mark.slow


def exchange(address, data):
    """Send bytes and return all that comes until the other side ends."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(data)
        received = b""
        while part := raw.recv(65536):
            received += part
        return received


@pytest.fixture(params=["s3", "hub"])
def address(request, site):
    return site.gateway.addresses[request.param]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 not http\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(100)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET http://elsewhere/ HTTP/1.1\r\nHost: here\r\n\r\n",
    ],
)
def test_nonsense_is_answered_once_and_the_connection_closed(address, data):
    answer = exchange(address, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 400") == 1


def test_a_body_that_is_not_wanted_is_not_taken_for_a_request(address):
    inner = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
    for head in (
        b"PUT /default/m/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inner),
        b"GET /default/m/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inner),
        b"PUT /default/m/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ):
        answer = exchange(address, head + inner)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close" in answer


def test_an_upload_hears_no_before_it_has_sent_everything(address):
    head = b"PUT /default/m/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
    assert b" 405 " in exchange(address, head + bytes(500_000))


def test_a_head_that_drips_is_given_up(address, monkeypatch):
    monkeypatch.setattr(conversation, "HEAD_SECONDS", 0.2)
    began = RUNTIME.monotonic()
    assert exchange(address, b"GET /default HT") == b""
    assert RUNTIME.monotonic() - began < 3


def test_a_body_that_drips_is_given_up(site, monkeypatch):
    monkeypatch.setattr(conversation, "HEAD_SECONDS", 0.2)
    head = (
        f"POST /api/models/m/paths-info/main HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {site.hub_token}\r\nContent-Length: 50\r\n\r\npaths="
    ).encode()
    began = RUNTIME.monotonic()
    assert exchange(site.gateway.addresses["hub"], head) == b""
    assert RUNTIME.monotonic() - began < 3


def test_a_body_that_is_too_long_is_refused_unread(site):
    head = (
        f"POST /api/models/m/paths-info/main HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {site.hub_token}\r\nContent-Length: 999999999999\r\n\r\n"
    ).encode()
    assert b" 400 " in exchange(site.gateway.addresses["hub"], head)


def test_idle_connections_make_room_for_others(site):
    with open_gateway(site.system, connections_limit=3) as gateway:
        host, port = gateway.addresses["hub"].split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(8)]
        try:
            for _ in range(3):
                answer = exchange(gateway.addresses["hub"], b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 401 ")
        finally:
            for each in idle:
                each.close()


def test_a_client_that_takes_nothing_is_given_up_and_the_file_let_go(site, monkeypatch):
    monkeypatch.setattr(conversation, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(conversation, "TRICKLE_BYTES_RATE", 1e12)
    monkeypatch.setattr(files, "IDLE_SECONDS", 0.4)
    with open_gateway(site.system, anonymous=True) as gateway, socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = gateway.addresses["s3"].split(":")
        raw.connect((host, int(port)))
        raw.sendall(b"GET /default/m/weights.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(15) == b"HTTP/1.1 200 OK"
        wait_for(lambda: len(gateway.files) == 0, what="the file is kept open")


def test_requests_that_follow_each_other_on_a_connection_are_each_answered(site):
    target = "/default/m/weights.bin"
    with open_gateway(site.system, anonymous=True) as gateway:
        requests = "".join(
            f"GET {target} HTTP/1.1\r\nHost: x\r\nRange: bytes={n}-{n + 4}\r\n"
            f"{'Connection: close' if n == 9 else 'X: y'}\r\n\r\n"
            for n in range(10)
        )
        answer = exchange(gateway.addresses["s3"], requests.encode())
        bodies = re.split(rb"HTTP/1.1 206 .*?\r\n\r\n", answer, flags=re.DOTALL)[1:]
        assert bodies == [FILES["weights.bin"][n : n + 5] for n in range(10)]
