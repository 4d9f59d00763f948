"""``notify``: a message is sent to a URL, and was accepted there.

Nobody can send a message exactly once to somebody who may die in between. So each attempt carries the
same ``Idempotency-Key``, and that it was accepted is noted before anything else happens.
"""

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from cachefs.core.names import printable
from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.dataflow.ports import Observed, StepContext, StepKind
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import Notify
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.programs.places import reveal
from cachefs.errors import FlowError, OriginUnavailableError
from cachefs.origins.addresses import Addresses

_ANSWER_SECONDS = 30.0
_SENT = "sent"
_RETRYABLE = frozenset((408, 425, 429, 500, 502, 503, 504))

Summarise = Callable[[str], Mapping[str, Value]]
"""Run id → what is sent when a step says nothing: the run, its state, its steps."""


class NotifyStep(StepKind):
    """Done when the other side has answered 2xx."""

    def __init__(
        self,
        addresses: Addresses,
        environment: Mapping[str, str],
        summarise: Summarise,
        *,
        tenants: Tenants = EVERYBODY,
    ) -> None:
        """Send to hosts that may be contacted.

        Args:
            addresses: Which these are.
            environment: Where ``env:NAME`` is looked up.
            summarise: The body of those that have none.
            tenants: Says what may be contacted for whom.
        """
        self._tenants = tenants
        self._addresses = addresses
        self._environment = environment
        self._summarise = summarise

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Look whether an attempt was accepted."""
        del arguments
        status = context.checkpoint().get(_SENT)
        return Observed(status is not None, outputs={} if status is None else {"status": status})

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Send it."""
        wanted: Notify = kinds.check("notify", arguments)
        url = (
            reveal(wanted.url, self._environment)
            if wanted.url.startswith(("env:", "file:"))
            else wanted.url
        )
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "cachefs",
            "Idempotency-Key": context.key,
            **wanted.headers,
            **{
                name: reveal(text, self._environment)
                for name, text in wanted.secret_headers.items()
            },
        }
        body = self._summarise(context.run) if wanted.body is None else wanted.body
        status = self._send(context, wanted, url, headers, json.dumps(body).encode())
        if 200 <= status < 300:
            context.note({_SENT: status})
        elif status in _RETRYABLE:
            raise OriginUnavailableError(f"the other side answered {status}", subject=_shown(url))
        else:
            raise FlowError(f"the other side answered {status}", subject=_shown(url))

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """What was said was said."""

    def _send(
        self,
        context: StepContext,
        wanted: Notify,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> int:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        patience = min(_ANSWER_SECONDS, context.deadline - context.runtime.monotonic())
        connection = http.client.HTTPConnection(host, port, timeout=patience)
        addresses = self._addresses.confined(self._tenants.confinement(context.namespace))
        connection.sock = addresses.connect(host, port, max(0.1, patience))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            if parts.scheme == "https":
                tls = ssl.create_default_context()
                connection.sock = tls.wrap_socket(connection.sock, server_hostname=host)
            connection.request(wanted.method, target, body, dict(headers))
            return connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise OriginUnavailableError(
                "the other side did not answer", subject=_shown(url), hint=type(error).__name__
            ) from error
        finally:
            connection.close()


def _shown(url: str) -> str:
    """Return where it went: of many hooks, the path is the secret."""
    parts = urlsplit(url)
    return printable(f"{parts.scheme}://{parts.hostname}/…")
