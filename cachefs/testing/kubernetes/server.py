"""The server that tests use."""

import base64
import ssl
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import yaml

from cachefs.errors import DeadlineError
from cachefs.ports import Runtime
from cachefs.testing.kubernetes.api import Api, Call
from cachefs.testing.kubernetes.certificates import Authority
from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.faults import Fault
from cachefs.testing.kubernetes.permissions import AUTHENTICATED
from cachefs.testing.kubernetes.requests import ADMIN, Reply, User
from cachefs.testing.kubernetes.serving import Handler
from cachefs.testing.loopback import LoopbackServer
from cachefs.transport.runtime import ThreadRuntime

_CALLS_MAX: Final = 10_000


class ApiServer(LoopbackServer):
    """A Kubernetes API server on loopback, within its context."""

    def __init__(
        self,
        *,
        authorizing: bool = False,
        tls: bool = False,
        runtime: Runtime | None = None,
        bookmark_seconds: float = 1.0,
    ) -> None:
        """Make one.

        Args:
            authorizing: Whether requests are held to the stored roles: a token says who asks, and whoever has none
                is nobody. Else everybody may do everything.
            tls: Whether it speaks HTTPS. kubectl sends tokens, and in-cluster configuration works, over HTTPS only.
            runtime: Whose clocks and threads it uses.
            bookmark_seconds: How often watches that ask for bookmarks get one; a real server takes a minute.
        """
        super().__init__(Handler)
        self.api = Api(
            runtime or ThreadRuntime(), bookmark_seconds=bookmark_seconds, authorizing=authorizing
        )
        self.store = self.api.store
        self.calls: deque[tuple[str, str, str]] = deque(maxlen=_CALLS_MAX)
        """User, method and path with query of the latest requests, oldest first."""
        self.authority = Authority() if tls else None
        """Who signed the server's certificate."""
        if self.authority is not None:
            self._secure(self.authority)
        self._admin = self.api.tokens.issue(ADMIN)

    def _secure(self, authority: Authority) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with TemporaryDirectory() as folder:
            public, private = authority.write(
                Path(folder), "localhost", "127.0.0.1", "kubernetes.default.svc"
            )
            context.load_cert_chain(public, private)
        # The handshake is left to the connection's thread: a client that says nothing holds up nobody.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, or ``https://…``, without a closing slash."""
        return super().url.replace("http:", "https:") if self.authority is not None else super().url

    def __enter__(self) -> Self:
        """Serve."""
        self.api.collector.start()
        super().__enter__()
        return self

    def close(self) -> None:
        """End: watches end, threads are joined."""
        self.store.close()
        self.api.collector.close()
        super().close()

    def kubeconfig(self, path: Path, *, token: str = "", namespace: str = "default") -> Path:
        """Write a configuration for clients to a file, and return its path.

        Args:
            path: Of the file.
            token: Whose rights the client has; empty: the administrator's.
            namespace: Where the client looks unless it is told.
        """
        cluster: Document = {"server": self.url}
        if self.authority is not None:
            cluster["certificate-authority-data"] = base64.b64encode(self.authority.pem).decode()
        context = {"cluster": "testing", "user": "testing", "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testing", "cluster": cluster}],
            "users": [{"name": "testing", "user": {"token": token or self._admin}}],
            "contexts": [{"name": "testing", "context": context}],
            "current-context": "testing",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def respond(self, call: Call, warnings: list[str]) -> Reply:
        """Answer a request.

        Raises:
            Refusal: with the answer's code and status.
        """
        user = self.api.tokens.who(call.headers)
        self.calls.append((user.name, call.method, call.path))
        return self.api.answer(call, user, warnings)

    def install(self, *documents: Document) -> None:
        """Create objects as the administrator: definitions, namespaces, roles, whatever a test begins with.

        Raises:
            Refusal: as a client would get it.
        """
        for document in documents:
            self.api.submit(document)

    def user(self, name: str, *groups: str) -> str:
        """Return a token of a user in some groups."""
        return self.api.tokens.issue(User(name, (*groups, AUTHENTICATED)))

    def account(self, namespace: str, name: str) -> str:
        """Return a token of a service account, as it lies in its pods."""
        return self.api.tokens.account(namespace, name)

    def revoke(self, token: str) -> None:
        """Know a token no longer: who sends it gets 401."""
        self.api.tokens.revoke(token)

    def route(self, namespace: str, service: str, host: str, port: int) -> None:
        """Say where the pods behind a webhook's service listen; it is verified as ``service.namespace.svc``."""
        self.api.webhooks.services[namespace, service] = (host, port)

    def inject(self, fault: Fault) -> None:
        """Let a fault happen to the next requests that fit it."""
        self.api.faults.add(fault)

    def heal(self) -> None:
        """Let no more faults happen."""
        self.api.faults.clear()

    def compact(self) -> None:
        """Forget past versions, as etcd does every five minutes: watches and pages from before get 410."""
        self.store.compact()

    def drop_watches(self) -> None:
        """End every watch that is open."""
        self.api.drops += 1
        self.store.wake()

    def pause_collecting(self, *, paused: bool = True) -> None:
        """Let the garbage collector stand still, or go on."""
        self.api.collector.paused = paused
        self.store.wake()

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until nothing is left to collect: no dependents, no namespaces to empty.

        Raises:
            DeadlineError: something is still being collected.
        """
        if not self.api.collector.wait(seconds):
            raise DeadlineError("the collector goes on collecting", subject=self.url)
