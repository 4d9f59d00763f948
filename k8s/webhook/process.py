"""The webhook's process: two ports, the certificate's watch, and an end that nobody notices.

On SIGTERM it goes on for some seconds: the pod is being taken out of the service at that very time, and
API servers go on to call it until they have heard of that.
"""

import logging
import socket
import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from cachefs.k8s.webhook.connections import BoundedProtocol
from cachefs.k8s.webhook.containers import Injection
from cachefs.k8s.webhook.hinting import Hinting
from cachefs.k8s.webhook.injecting import Injecting, Mode
from cachefs.k8s.webhook.mutating import Mutation
from cachefs.k8s.webhook.server import Answers
from cachefs.k8s.webhook.serving import LOOK_SECONDS, LiveSecret
from cachefs.ports import Closing, Runtime
from cachefs.transport.running import StopSignals, say_ready
from cachefs.transport.runtime import ThreadRuntime
from cachefs.transport.serving.listening import BACKLOG, listen

_CONNECTIONS_LIMIT = 256
"""Of each port; API servers keep a few open, and more are answered 503."""
_IDLE_SECONDS = 120
"""API servers keep idle connections for 90; who ends first meets a request on its way."""
_GRACE_SECONDS = 3
_log = logging.getLogger("cachefs.webhook")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookPlan:
    """What a webhook is told."""

    host: str
    port: int
    """For TLS."""
    http_port: int
    """For health and metrics."""
    serving_folder: Path
    """Where the secret with certificate, key and token is mounted."""
    coordinator: str
    """``host:port`` of its HTTP API."""
    image: str
    """Of injected containers."""
    default_mode: Mode = Mode.CSI
    linger_seconds: float = 5.0
    """For which it serves on after SIGTERM."""
    look_seconds: float = LOOK_SECONDS
    """Between two looks at the secret."""


class _Server(Closing):
    """One port."""

    def __init__(
        self, host: str, port: int, app: Starlette, runtime: Runtime, context: ssl.SSLContext | None
    ) -> None:
        listening = listen(host, port, setting="--port")
        self._socket = socket.socket(fileno=listening.detach())
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            backlog=BACKLOG,
            limit_concurrency=_CONNECTIONS_LIMIT,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
        )
        config.load()
        # A context of our own: what it shows changes while it serves.
        config.ssl = context
        server = uvicorn.Server(config)
        self._server = server
        self._task = runtime.start("webhook", lambda: server.run(sockets=[self._socket]))

    def close(self) -> None:
        """Answer what was asked, for a moment, and end; idempotent."""
        self._server.should_exit = True
        self._task.join(_GRACE_SECONDS + 2.0)
        self._socket.close()


class Webhook(Closing):
    """Both ports, in whatever process. The owner closes it."""

    def __init__(self, plan: WebhookPlan, runtime: Runtime) -> None:
        """Bind the ports and begin to answer.

        Raises:
            ConfigError: An address cannot be bound.
        """
        with ExitStack() as stack:
            secret = stack.enter_context(
                LiveSecret(plan.serving_folder, runtime, look_seconds=plan.look_seconds)
            )
            hinting = Hinting(plan.coordinator, secret, runtime)
            settings = Injection(image=plan.image, coordinator=plan.coordinator)
            mutation = Mutation(hinting.review, Injecting(settings, plan.default_mode))
            answers = Answers(mutation, hinting, secret, runtime)
            plain = _Server(plan.host, plan.http_port, answers.plain(), runtime, None)
            stack.enter_context(plain)
            secure = _Server(plan.host, plan.port, answers.secure(), runtime, secret.context)
            stack.enter_context(secure)
            self.addresses = {"https": secure.address, "http": plain.address}
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End both ports; idempotent."""
        self._stack.close()


def run(plan: WebhookPlan) -> int:
    """Serve until SIGTERM or SIGINT; return the process's exit status."""
    runtime = ThreadRuntime()
    with StopSignals() as signals, Webhook(plan, runtime) as webhook:
        say_ready(webhook.addresses)
        _log.info("ready", extra=dict(webhook.addresses))
        signals.wait()
        runtime.sleep(plan.linger_seconds)
    _log.info("ended")
    return 0
