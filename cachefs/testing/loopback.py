"""An HTTP server on a free port of loopback, in threads of its own; what it answers is its handler's."""

import threading
from abc import abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast

from cachefs.ports import Closing


class LoopbackServer(Closing):
    """The server; serves within its context."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        """Listen; handlers find this object as their ``owner``."""
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, without a closing slash."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        return self

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class LoopbackHandler(BaseHTTPRequestHandler):
    """One connection, kept alive and without a log."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def owner(self) -> LoopbackServer:
        """The server that this is a connection of."""
        return cast("_Server", self.server).owner

    def do_HEAD(self) -> None:
        """Answer as GET does; the body is left out by who sends."""
        self.answer()

    def do_GET(self) -> None:
        """Answer."""
        self.answer()

    @abstractmethod
    def answer(self) -> None:
        """Answer a request: ``command``, ``path`` and ``headers`` say which."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Stay silent."""


class _Server(ThreadingHTTPServer):
    """Keeps what the handlers share."""

    daemon_threads = True
    request_queue_size = 64
    owner: LoopbackServer

    def handle_error(self, request: Any, client_address: Any) -> None:  # Any: as inherited
        """Say nothing when a client goes away: that is what faults make them do."""
