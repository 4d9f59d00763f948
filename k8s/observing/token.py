"""The token that Prometheus reads metrics with: in a secret that is installed empty, and filled by the operator.

A secret that follows from the cluster's token cannot stand in a manifest; and the right to make secrets cannot be
limited to names, the right to change one can.
"""

import base64
from typing import Any, Protocol

from cachefs.config.reading import metrics_token
from cachefs.config.secrets import Secret
from cachefs.k8s import kinds
from cachefs.k8s.names import Kind

SECRET = "cachefs-metrics"  # noqa: S105 - a secret's name
KEY = "token"

Document = dict[str, Any]


class Objects(Protocol):
    """What is needed of :class:`cachefs.k8s.cluster.Cluster`."""

    def get(self, kind: Kind, name: str, namespace: str = "") -> Document | None:
        """Return an object."""
        ...

    def replace(self, document: Document) -> Document:
        """Change an object that nobody has changed since it was read."""
        ...


class MetricsToken:
    """Keeps the secret as it should be. One thread at a time calls it."""

    def __init__(self, cluster: Objects, *, namespace: str, token: Secret) -> None:
        """Do nothing yet; ``token`` is the cluster's."""
        self._cluster = cluster
        self._namespace = namespace
        self._wanted = base64.b64encode(metrics_token(token).reveal().encode()).decode()

    def work(self) -> None:
        """Look at the secret, and fill it; where nothing is observed there is none, and nothing is done.

        Raises:
            CacheFSError: The API server does not answer, we may not, or somebody changed it just now.
        """
        found = self._cluster.get(kinds.SECRETS, SECRET, self._namespace)
        if found is not None and (found.get("data") or {}).get(KEY) != self._wanted:
            self._cluster.replace(
                {**found, "data": {**(found.get("data") or {}), KEY: self._wanted}}
            )
