"""HTTP: from a connection to :class:`Api` and back.

Answers have a length, watches come in chunks, one line each. A refusal is a ``Status``, a warning a ``Warning``
header, as clients expect.
"""

import json
import select
from collections.abc import Iterator, Mapping
from typing import Protocol, cast

from cachefs.testing.kubernetes.api import Call
from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.failures import Refusal
from cachefs.testing.kubernetes.faults import DroppedError
from cachefs.testing.kubernetes.requests import Reply
from cachefs.testing.loopback import LoopbackHandler


class Answering(Protocol):
    """Whoever answers calls."""

    def respond(self, call: Call, warnings: list[str]) -> Reply:
        """Answer, or raise a :class:`Refusal`."""
        ...


class Handler(LoopbackHandler):
    """One connection."""

    def do_POST(self) -> None:  # noqa: N802 - as http.server calls it
        """Answer."""
        self.answer()

    def do_PUT(self) -> None:  # noqa: N802 - as http.server calls it
        """Answer."""
        self.answer()

    def do_PATCH(self) -> None:  # noqa: N802 - as http.server calls it
        """Answer."""
        self.answer()

    def do_DELETE(self) -> None:  # noqa: N802 - as http.server calls it
        """Answer."""
        self.answer()

    def answer(self) -> None:
        """Read the request, and send what is answered."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(
            method=self.command,
            path=self.path,
            headers=headers,
            body=self.rfile.read(int(headers.get("content-length", "0"))),
        )
        warnings: list[str] = []
        try:
            reply = cast("Answering", self.owner).respond(call, warnings)
        except DroppedError:
            self.close_connection = True
            return
        except Refusal as refusal:
            more = {}
            if refusal.retry_after_seconds:
                more["Retry-After"] = str(refusal.retry_after_seconds)
            reply = Reply(refusal.code, refusal.status(), headers=more)
        except Exception as error:  # noqa: BLE001 - a bug of this server is an answer, not silence
            status = Refusal(500, "InternalError", f"{type(error).__name__}: {error}").status()
            reply = Reply(500, status)
        if reply.lines is not None:
            self._stream(reply.lines)
        else:
            self._send(reply, warnings)

    def _send(self, reply: Reply, warnings: list[str]) -> None:
        is_text = isinstance(reply.document, str)
        body = reply.document.encode() if is_text else json.dumps(reply.document).encode()
        self.send_response(reply.code)
        kind = "text/plain; charset=utf-8" if is_text else "application/json"
        self._send_headers({"Content-Type": kind, **reply.headers})
        for warning in warnings:
            self.send_header("Warning", f'299 - "{warning.replace(chr(34), chr(92) + chr(34))}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)

    def _stream(self, lines: Iterator[Document | None]) -> None:
        self.send_response(200)
        self._send_headers({"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        self.end_headers()
        for line in lines:
            if line is None:
                if self._has_gone():
                    self.close_connection = True
                    return
                continue
            data = json.dumps(line).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _has_gone(self) -> bool:
        """Say whether the client has closed its end: a watcher sends nothing, so that what can be read is the end."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable)
