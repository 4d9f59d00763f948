"""A driver's health over HTTP: ``/healthz`` (it lives), ``/readyz`` (the node's mount answers), ``/metrics``."""

from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cachefs.errors import ClusterError
from cachefs.ports import Runtime

_IDLE_SECONDS = 5.0
_POLL_SECONDS = 0.5
_JOIN_SECONDS = 5.0

Page = Callable[[], tuple[int, bytes]]
"""Returns status and body; must not wait."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _IDLE_SECONDS
    server: "_Server"

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        status, body = (404, b"") if page is None else page()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing: probes come every few seconds."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    pages: Mapping[str, Page]


class Health:
    """Serves pages in a thread of its own."""

    def __init__(self, runtime: Runtime, port: int, pages: Mapping[str, Page]) -> None:
        """Listen on all addresses of the pod.

        Raises:
            ClusterError: The port is taken.
        """
        try:
            self._server = _Server(("", port), _Handler)
        except OSError as error:
            raise ClusterError("cannot listen", subject=f"port {port}", hint=str(error)) from error
        self._server.pages = pages
        self._task = runtime.start("health", lambda: self._server.serve_forever(_POLL_SECONDS))

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    def close(self) -> None:
        """End; idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._task.join(_JOIN_SECONDS)
