"""The server that tests use."""

from pathlib import Path
from typing import Self

import yaml

from cachefs.errors import DeadlineError
from cachefs.ports import Runtime
from cachefs.testing.kubernetes.api import Api, Call
from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.requests import ADMIN, Reply
from cachefs.testing.kubernetes.serving import Handler
from cachefs.testing.loopback import LoopbackServer
from cachefs.transport.runtime import ThreadRuntime


class ApiServer(LoopbackServer):
    """A Kubernetes API server on loopback, within its context."""

    def __init__(self, *, runtime: Runtime | None = None, bookmark_seconds: float = 1.0) -> None:
        """Make one.

        Args:
            runtime: Whose clocks and threads it uses.
            bookmark_seconds: How often watches that ask for bookmarks get one; a real server takes a minute.
        """
        super().__init__(Handler)
        self.api = Api(runtime or ThreadRuntime(), bookmark_seconds=bookmark_seconds)
        self.store = self.api.store

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

    def kubeconfig(self, path: Path) -> Path:
        """Write a configuration for clients to a file, and return its path."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testing", "cluster": {"server": self.url}}],
            "users": [{"name": "testing", "user": {}}],
            "contexts": [{"name": "testing", "context": {"cluster": "testing", "user": "testing"}}],
            "current-context": "testing",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def respond(self, call: Call, warnings: list[str]) -> Reply:
        """Answer a request."""
        return self.api.answer(call, ADMIN, warnings)

    def install(self, *definitions: Document) -> None:
        """Create objects as the administrator: custom resource definitions, namespaces, whatever a test needs.

        Raises:
            Refusal: as a client would get it.
        """
        for definition in definitions:
            self.api.submit(definition)

    def compact(self) -> None:
        """Forget past versions, as etcd does every five minutes: watches and pages from before get 410."""
        self.store.compact()

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until nothing is left to collect: no dependents, no namespaces to empty.

        Raises:
            DeadlineError: something is still being collected.
        """
        if not self.api.collector.wait(seconds):
            raise DeadlineError("the collector goes on collecting", subject=self.url)

    def drop_watches(self) -> None:
        """End every watch that is open."""
        self.api.drops += 1
        self.store.wake()
