"""The gateway process: puts the parts together, serves two ports, and ends within a few seconds.

A gateway keeps nothing: it may be killed and started again at any moment, and any number of them may
serve one cluster. It reads through the reader library, with a block cache of its own.
"""

import logging
import socket
from contextlib import ExitStack
from dataclasses import replace

from cachefs.client.connecting import connect
from cachefs.config.discovery import Endpoint
from cachefs.config.schema import ClusterConfig, GatewayPlan
from cachefs.config.secrets import Secret
from cachefs.gateway.credentials import access_key, hub_token
from cachefs.gateway.datasets import Datasets
from cachefs.gateway.files import OpenFiles
from cachefs.gateway.fronts import Front, FrontLoop
from cachefs.gateway.hub.repositories import Repositories
from cachefs.gateway.hub.service import HubService
from cachefs.gateway.s3.service import S3Service
from cachefs.ports import Closing, Runtime
from cachefs.transport.api import Api
from cachefs.transport.running import StopSignals, say_ready
from cachefs.transport.runtime import ThreadRuntime
from cachefs.transport.serving.listening import Listener, listen

_log = logging.getLogger("cachefs.gateway")


class Gateway(Closing):
    """Both endpoints, in whatever process."""

    def __init__(
        self, plan: GatewayPlan, cluster: ClusterConfig, token: Secret, runtime: Runtime
    ) -> None:
        """Bind the ports and begin to serve.

        Raises:
            ConfigError: An address cannot be bound.
        """
        self._plan = plan
        self._runtime = runtime
        settings = plan.settings
        reading = replace(
            plan.reader,
            connections_limit=settings.reads_limit,
            block_cache_bytes=settings.block_cache_bytes,
        )
        endpoint = Endpoint(plan.coordinator, token, plan.workers, cluster, None)
        with ExitStack() as stack:
            sockets = [
                stack.enter_context(listen(settings.host, port, setting=f"gateway.{name}"))
                for name, port in (("s3_port", settings.s3_port), ("hub_port", settings.hub_port))
            ]
            self.reader = stack.enter_context(connect(endpoint, reading, runtime))
            self.files = stack.enter_context(OpenFiles(runtime))
            datasets = Datasets(self.reader, Api(plan.coordinator, token), only=plan.datasets)
            s3 = S3Service(
                runtime,
                datasets,
                access_key(token),
                domains=settings.s3_domains,
                anonymous=settings.anonymous,
            )
            hub = HubService(
                Repositories(datasets), (hub_token(token), token), anonymous=settings.anonymous
            )
            self._serve(stack, sockets[0], s3, "s3")
            self._serve(stack, sockets[1], hub, "hub")
            self.addresses = {
                name: f"{settings.host}:{each.getsockname()[1]}"
                for name, each in zip(("s3", "hub"), sockets, strict=True)
            }
            self._stack = stack.pop_all()

    def _serve(self, stack: ExitStack, listening: socket.socket, front: Front, name: str) -> None:
        settings = self._plan.settings
        loop = FrontLoop(self._runtime, front, self.files, idle_seconds=settings.idle_seconds)
        listener = Listener(
            self._runtime,
            listening,
            loop.serve,
            name=name,
            connections_limit=settings.connections_limit,
        )
        stack.callback(listener.close)

    def close(self) -> None:
        """End all connections, then the reader; idempotent."""
        self._stack.close()


def run(plan: GatewayPlan, cluster: ClusterConfig, token: Secret) -> int:
    """Run a gateway until SIGTERM or SIGINT; return the process's exit status."""
    with StopSignals() as signals, Gateway(plan, cluster, token, ThreadRuntime()) as gateway:
        say_ready(gateway.addresses)
        _log.info("gateway ready", extra=dict(gateway.addresses))
        signals.wait()
    _log.info("gateway stopped")
    return 0
