"""Our own S3 reader on the wire: what it signs is what it sends, and nobody else is sent it."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, name_file_version
from cachefs.errors import OriginProtocolError
from cachefs.origins import open_origin
from cachefs.testing.s3 import ENVIRONMENT, REGION
from cachefs.transport.runtime import ThreadRuntime

CONTENT = bytes(range(256)) * 40_000
ETAG = '"abc"'
PATH = "a b/ü+&%#?.bin"
ENTRY = FileEntry(
    PATH, len(CONTENT), ETAG, "", name_file_version("x", path=PATH, size=len(CONTENT), token=ETAG)
)
CONFIG = OriginConfig(timeout_seconds=5, deadline_seconds=10)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.command, self.path, dict(self.headers.items())))
        if self.server.elsewhere:
            self.send_response(307)
            self.send_header("Location", self.server.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        self.send_response(206)
        self.send_header("ETag", ETAG)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(CONTENT)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(CONTENT[first : last + 1])

    def log_message(self, *_):
        """Stay quiet."""


@pytest.fixture
def store(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for-a-session")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.elsewhere = [], ""
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join(5)
    server.server_close()


def _open(store, **options):
    spec = OriginSpec("s3://bucket/d", {"endpoint_url": store.url, **options})
    return open_origin(spec, CONFIG, ThreadRuntime(), client="direct")


def _signature(method, target, headers):
    """Sign a request as the server received it, with what it says it has signed."""
    lower = {name.lower(): value for name, value in headers.items()}
    _, _, names = lower["authorization"].partition("SignedHeaders=")
    signed = names.partition(",")[0].split(";")
    request = AWSRequest(
        method,
        f"http://{lower['host']}{target}",
        headers={name: lower[name] for name in signed},
    )
    request.context["timestamp"] = lower["x-amz-date"]
    secret = ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    signer = S3SigV4Auth(Credentials("testing", secret, "for-a-session"), "s3", REGION)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return signed, signer.signature(text, request)


def test_the_signature_is_of_the_request_as_it_arrives(store):
    origin = _open(store)
    assert bytes(origin.read_range(ENTRY, 7, 90)) == CONTENT[7:97]
    (asked,) = store.asked
    signed, expected = _signature(*asked)
    assert asked[2]["Authorization"].endswith(f"Signature={expected}")
    assert {"host", "if-match", "range", "x-amz-security-token"} <= set(signed)
    assert urlsplit(asked[1]).path == "/bucket/d/a%20b/%C3%BC%2B%26%25%23%3F.bin"
    origin.close()


def test_an_anonymous_reader_signs_nothing(store):
    origin = _open(store, anon="true")
    origin.read_range(ENTRY, 0, 9)
    assert "Authorization" not in store.asked[0][2]
    origin.close()


def test_a_redirect_is_not_followed_with_a_signature(store):
    origin = _open(store)
    store.elsewhere = f"{store.url}/elsewhere"
    with pytest.raises(OriginProtocolError, match="redirect"):
        origin.read_range(ENTRY, 0, 9)
    assert len(store.asked) == 1
    origin.close()


def test_a_large_range_is_received_in_the_buffer_and_a_short_one_is_left_alone(store):
    origin = _open(store)
    buffer = bytearray(len(CONTENT))
    length = 9_000_001
    data = origin.read_range(ENTRY, 3, length, memoryview(buffer))
    assert data.obj is buffer
    assert data == CONTENT[3 : 3 + length]
    small = bytearray(10)
    assert origin.read_range(ENTRY, 0, 11, memoryview(small)) == CONTENT[:11]
    assert small == bytes(10)
    origin.close()
