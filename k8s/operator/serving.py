"""What an operator answers: that it is well, and what it has done."""

import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cachefs.k8s.operator.desk import Desk
from cachefs.k8s.operator.leading import Leading
from cachefs.ports import Closing, Runtime
from cachefs.telemetry.metrics import Metrics, Sample, by_label

_ANSWER_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_log = logging.getLogger("cachefs.operator")


def samples(desk: Desk, leading: Leading) -> Iterator[Sample]:
    """Yield what an operator says of itself."""
    seen = desk.statistics()
    yield "cachefs_operator_leads", (), float(leading.leads)
    yield "cachefs_operator_waiting_objects", (), float(seen.waiting)
    yield from by_label("cachefs_operator_looks_total", seen.looks)
    yield from by_label("cachefs_operator_failed_looks_total", seen.failures)
    yield from by_label("cachefs_operator_look_seconds_total", seen.seconds)


class Answers(Closing):
    """Serves ``/healthz`` and ``/metrics``. It owns its thread."""

    def __init__(self, runtime: Runtime, address: tuple[str, int], metrics: Metrics) -> None:
        """Listen, and answer from now on.

        Raises:
            OSError: Somebody else has the port.
        """

        class Handler(BaseHTTPRequestHandler):
            timeout = _ANSWER_SECONDS

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    self._answer(b"ok\n", "text/plain")
                elif self.path == "/metrics":
                    self._answer(metrics.exposition(), "text/plain; version=0.0.4")
                else:
                    self.send_error(404)

            def _answer(self, content: bytes, form: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", form)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *told: Any) -> None:  # Any: as the library calls it
                _log.debug("asked", extra={"told": told[1:2]})

        self._server = ThreadingHTTPServer(address, Handler)
        self._server.daemon_threads = True
        self._task = runtime.start("answers", self._server.serve_forever)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_address[1]

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._task.join(_CLOSE_SECONDS)
