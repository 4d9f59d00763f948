"""A real HTTP server on loopback whose faults a test decides, file by file and request by request.

It serves a dictionary of files the way a correct origin does: ranges, ETags, conditions, HEAD; an
index page for a path that ends with ``/``, and an S3 listing for ``?list-type=2``, so that the
object-store clients accept it as a bucket. Then :meth:`FaultyOrigin.fail` tells it what to do wrong.
"""

import gzip
import hashlib
import html
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from cachefs.testing.loopback import LoopbackHandler, LoopbackServer

Kind = Literal[
    "whole",
    "short",
    "long",
    "wrong_range",
    "html",
    "gzip",
    "changed",
    "ignored_condition",
    "flip",
    "no_etag",
    "status",
    "stall",
    "stall_in_body",
    "drip",
    "reset",
    "loop",
    "redirect",
    "garbage",
]

PAGE = b"<html><body>please log in</body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """What the server does wrong with one request."""

    kind: Kind
    """``whole``: 200 with the whole file for a range. ``short``, ``long``: a body that is not as
    long as was announced, or not as was asked. ``changed``: 412, as if the file were another one.
    ``flip``: one byte in the middle of the file is another, and nothing says so.
    ``ignored_condition``: bytes and ETag of another file, whatever the condition says. ``stall``:
    silence. ``drip``: a byte now and then. ``garbage``: not HTTP."""
    status: int = 503
    retry_after: str = ""
    location: str = ""


class FaultyOrigin(LoopbackServer):
    """The server."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Listen."""
        super().__init__(_Handler)
        self.files = dict(files)
        """Path without leading slash → content."""
        self.requests: Counter[str] = Counter()
        """Requests by path, faulty ones included."""
        self.heads: list[Mapping[str, str]] = []
        """The headers of every request, found in upper and lower case."""
        self._faults: dict[str, deque[Fault]] = {}
        self._always: dict[str, Fault] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def fail(self, path: str, faults: Iterable[Fault]) -> None:
        """Have the next requests for a path go wrong, one fault each; then all is well again."""
        with self._lock:
            self._faults[path] = deque(faults)

    def fail_always(self, path: str, fault: Fault) -> None:
        """Have all requests for a path go wrong, until :meth:`heal`."""
        with self._lock:
            self._always[path] = fault

    def heal(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._always.clear()
            self._faults.clear()

    def take_fault(self, path: str, headers: Mapping[str, str]) -> Fault | None:
        """Count a request, and return what shall go wrong with it."""
        with self._lock:
            self.requests[path] += 1
            self.heads.append(headers)
            planned = self._faults.get(path)
            if planned:
                return planned.popleft()
            return self._always.get(path)

    def wait_for_end(self, seconds: float) -> bool:
        """Wait; ``True`` when the server is to end."""
        return self._ended.wait(seconds)

    def close(self) -> None:
        """End, stalled requests included."""
        self._ended.set()
        super().close()


def etag(content: bytes) -> str:
    """Return the strong ETag that the server sends for a content."""
    return f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'


class _Handler(LoopbackHandler):
    """One connection."""

    @property
    def _origin(self) -> FaultyOrigin:
        return cast("FaultyOrigin", self.owner)

    def answer(self) -> None:
        """Serve, or do what the fault says."""
        parts = urlsplit(self.path)
        path = unquote(parts.path).lstrip("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        fault = self._origin.take_fault(path, cast("Mapping[str, str]", self.headers))
        if fault is not None and self._misbehave(fault, path):
            return
        content = self._origin.files.get(path)
        if "list-type" in query:
            self._send(200, _listing(path, query, self._origin.files), "application/xml")
        elif content is not None:
            self._serve(content, fault.kind if fault else "")
        elif not path or path.endswith("/"):
            self._send(200, _index(path, self._origin.files), "text/html")
        else:
            self._send(404, b"no such file", "text/plain")

    def _misbehave(self, fault: Fault, path: str) -> bool:
        """Do what needs no file; ``False`` if the fault is one of serving."""
        kind = fault.kind
        if kind == "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._send(fault.status, b"come back later", "text/plain", headers)
        elif kind == "stall":
            self._origin.wait_for_end(60)
            self.close_connection = True
        elif kind == "reset":
            # An abortive close: the client meets a reset, not an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif kind in ("loop", "redirect"):
            target = fault.location or f"{self._origin.url}/{quote(path)}"
            self._send(302, b"", "text/plain", {"Location": target})
        elif kind == "html":
            self._send(200, PAGE, "text/html")
        elif kind == "changed":
            self._send(412, b"", "text/plain")
        elif kind == "garbage":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            self.close_connection = True
        else:
            return False
        return True

    def _serve(self, content: bytes, fault: str) -> None:
        """Serve a file as HTTP says, but for the fault."""
        tag = etag(content)
        wanted = self.headers.get("If-Match")
        if fault == "ignored_condition":
            content = bytes(byte ^ 0xFF for byte in content)
            tag = etag(content)
        elif wanted not in (None, "*", tag):
            self._send(412, b"", "text/plain")
            return
        if fault == "flip":
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        headers = {} if fault == "no_etag" else {"ETag": tag}
        headers["Accept-Ranges"] = "bytes"
        headers["Last-Modified"] = "Mon, 01 Jan 2024 00:00:00 GMT" if fault != "no_etag" else ""
        asked = self.headers.get("Range", "")
        if not asked or fault == "whole":
            self._send_faulty(200, content, headers, fault)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin = int(first) if first else max(0, len(content) - int(last))
        end = min(int(last) + 1 if first and last else len(content), len(content))
        if begin >= len(content):
            self._send(416, b"", "text/plain", {"Content-Range": f"bytes */{len(content)}"})
            return
        if fault == "wrong_range":
            begin, end = begin + 1, min(end + 1, len(content))
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        self._send_faulty(206, content[begin:end], headers, fault)

    def _send_faulty(self, status: int, body: bytes, headers: dict[str, str], fault: str) -> None:
        announced = len(body)
        if fault == "gzip":
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
            announced = len(body)
        elif fault in ("short", "stall_in_body", "drip"):
            body = body[: len(body) // 2]
        elif fault == "long":
            body += b"and more"
            announced = len(body)
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body)
        if fault == "stall_in_body":
            self._origin.wait_for_end(60)
        while fault == "drip" and not self._origin.wait_for_end(0.1):
            self.wfile.write(b"\0")
        if len(body) != announced:
            self.close_connection = True

    def _send(
        self,
        status: int,
        body: bytes,
        content_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _index(folder: str, files: Mapping[str, bytes]) -> bytes:
    """Return a page that links to what is in a folder."""
    names = sorted(
        {
            name + slash
            for path in files
            if path.startswith(folder)
            for name, slash, _rest in [path[len(folder) :].partition("/")]
        }
    )
    links = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names)
    return f'<html><a href="../">up</a>\n{links}</html>'.encode()


def _listing(bucket: str, query: Mapping[str, list[str]], files: Mapping[str, bytes]) -> bytes:
    """Return the S3 answer to ListObjectsV2: all keys in one page."""
    start = bucket.rstrip("/") + "/"
    prefix = query.get("prefix", [""])[0]
    entries = "".join(
        f"<Contents><Key>{escape(path[len(start) :])}</Key><Size>{len(content)}</Size>"
        f"<ETag>{escape(etag(content))}</ETag>"
        "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
        for path, content in sorted(files.items())
        if path.startswith(start + prefix)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<ListBucketResult><Name>{escape(start[:-1])}</Name><Prefix>{escape(prefix)}</Prefix>"
        f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    ).encode()
