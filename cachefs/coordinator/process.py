"""The coordinator's process: it opens store and ports, says that it is ready, and ends on SIGTERM.

The HTTP server is uvicorn in a thread of ours, on a socket that we bound, so that its port is known
before anything is answered and nobody else can take it in between.
"""

import logging
import socket
from collections.abc import Sequence

import uvicorn

from cachefs.config.schema import ClusterConfig, CoordinatorConfig, OriginConfig
from cachefs.config.secrets import Secret
from cachefs.coordinator.calls import WorkerCalls
from cachefs.coordinator.control import open_server
from cachefs.coordinator.duties import Duty, OpenDuty, Surroundings
from cachefs.coordinator.elastic.duty import Elastic
from cachefs.coordinator.http import make_app
from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.store.engine import Store
from cachefs.core.backoff import Backoff
from cachefs.core.datasets import OriginSpec
from cachefs.origins.decorators import RetryingOrigin
from cachefs.origins.opening import open_origin
from cachefs.ports import Closing, Origin, Runtime, Task
from cachefs.telemetry.metrics import Metrics
from cachefs.transport.running import StopSignals, say_ready
from cachefs.transport.runtime import ThreadRuntime
from cachefs.transport.serving.listening import BACKLOG, listen

_LOG = logging.getLogger("cachefs.coordinator")

_LISTING_BACKOFF = Backoff(attempts_limit=4, first_seconds=0.5)
_CONNECTIONS_LIMIT = 1000
"""HTTP connections at once; more are answered 503."""
_IDLE_SECONDS = 60
_GRACE_SECONDS = 2.0
"""How long running requests may go on after SIGTERM."""


def open_with_retries(
    spec: OriginSpec,
    config: OriginConfig,
    runtime: Runtime,
    *,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
) -> Origin:
    """Open an origin that asks again when that may help."""
    opened = open_origin(spec, config, runtime, include=include, exclude=exclude)
    return RetryingOrigin(opened, _LISTING_BACKOFF, runtime)


class HttpServer:
    """Serves the HTTP API from a thread, on a port that is known once it is made."""

    def __init__(self, host: str, port: int) -> None:
        """Bind the port.

        Raises:
            ConfigError: The address is taken or is not ours.
        """
        listening = listen(host, port, setting="coordinator.http_port")
        # asyncio switches Nagle's delay off only for sockets that say that they are TCP. One made
        # from a descriptor asks the kernel what it is.
        self._socket = socket.socket(fileno=listening.detach())
        self.port: int = self._socket.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._task: Task | None = None

    def start(self, app: object, runtime: Runtime) -> None:
        """Begin to answer."""
        server = uvicorn.Server(
            uvicorn.Config(
                app,  # type: ignore[arg-type]  # an ASGI application
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                backlog=BACKLOG,
                limit_concurrency=_CONNECTIONS_LIMIT,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=int(_GRACE_SECONDS),
                server_header=False,
            )
        )
        self._server = server
        self._task = runtime.start("http", lambda: server.run(sockets=[self._socket]))

    def close(self) -> None:
        """Stop answering, and wait until requests have ended or the grace is over."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            self._task.join(_GRACE_SECONDS + 2.0)
        self._socket.close()


class CoordinatorProcess(Closing):
    """All that runs in the process. The owner closes it."""

    def __init__(
        self,
        config: CoordinatorConfig,
        cluster: ClusterConfig,
        token: Secret,
        *,
        duties: Sequence[OpenDuty] = (),
    ) -> None:
        """Open the store, bind the ports, and begin to answer.

        Args:
            config: The coordinator's.
            cluster: What all processes agree on.
            token: The cluster's.
            duties: What this process does, too.

        Raises:
            ConfigError: The store's URL is of no use, a newer cachefs wrote it, or the HTTP API's
                address is taken.
            ClusterError: The store does not answer, or the control address is taken.
        """
        runtime = ThreadRuntime()
        self._store = Store(config.store_url)
        self._calls = WorkerCalls(runtime, token)
        self.coordinator = Coordinator(
            self._store,
            runtime,
            config=config,
            cluster=cluster,
            open_origin=open_with_retries,
            calls=self._calls,
        )
        parts = Surroundings(self.coordinator, self._store, runtime, config, cluster, token)
        self._duties: list[Duty] = [Elastic(parts), *(open_duty(parts) for open_duty in duties)]
        self._control = open_server(
            self.coordinator,
            runtime,
            host=config.host,
            port=config.control_port,
            token=token,
            more=[duty.add_services for duty in self._duties],
        )
        self._http = HttpServer(config.host, config.http_port)
        metrics = Metrics(self.coordinator.samples, *(duty.samples for duty in self._duties))
        app = make_app(
            self.coordinator,
            runtime,
            token,
            exposition=metrics.exposition,
            request_limit_bytes=config.request_limit_bytes,
            duties=self._duties,
        )
        self.control_address = _address(config.host, self._control.port)
        self.http_address = _address(config.host, self._http.port)
        self.coordinator.start()
        for duty in self._duties:
            duty.start()
        self._control.start()
        self._http.start(app, runtime)

    def close(self) -> None:
        """End everything within seconds."""
        for duty in reversed(self._duties):
            duty.close()
        self._http.close()
        self._control.close()
        self._calls.close()
        self.coordinator.close()
        self._store.close()


def run(
    config: CoordinatorConfig,
    cluster: ClusterConfig,
    token: Secret,
    *,
    duties: Sequence[OpenDuty] = (),
) -> int:
    """Run a coordinator until SIGTERM or SIGINT; return the exit status."""
    with (
        StopSignals() as signals,
        CoordinatorProcess(config, cluster, token, duties=duties) as process,
    ):
        ready = {"http": process.http_address, "control": process.control_address}
        say_ready(ready)
        _LOG.info("ready", extra=ready)
        signals.wait()
    _LOG.info("ended")
    return 0


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
