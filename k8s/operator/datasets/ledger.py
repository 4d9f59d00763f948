"""The ledger: which of the coordinator's datasets are ours, and what we have said of each.

It is one config map in the operator's own namespace, a line for each dataset: what becomes of it when its object is
gone (``Delete`` or ``Retain``), and a digest of the files that its object meant when they were declared last. It is
written before the dataset is declared, and removed after it is undeclared. So a dataset whose object was deleted
while no operator ran is found; one that a person declared is never touched. Without a ledger (somebody deleted
it), datasets are left where they are, and noted again as their objects are looked at.

A namespace has no dot in its name, so a line's key says both names.
"""

from collections.abc import Mapping

from cachefs.errors import ConflictError, NotKnownError
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.kinds import CONFIG_MAPS
from cachefs.k8s.names import MANAGED_BY
from cachefs.k8s.operator.actions import Document, Note

LEDGER = "cachefs-datasets"
"""The config map's name."""


class Ledger:
    """The config map. Safe from any thread; a line is written without touching others."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        """Keep it in the operator's own namespace."""
        self._cluster = cluster
        self._namespace = namespace

    def read(self) -> Mapping[tuple[str, str], str]:
        """Return the line of each dataset that is ours, by namespace and name.

        Raises:
            CacheFSError: It cannot be read now.
        """
        document = self._cluster.get(CONFIG_MAPS, LEDGER, self._namespace)
        found = {}
        for key, line in ((document or {}).get("data") or {}).items():
            namespace, _, name = key.partition(".")
            found[namespace, name] = line
        return found

    def write(self, note: Note) -> None:
        """Write a line, or remove one.

        Raises:
            CacheFSError: It cannot be written now.
        """
        data = {f"{note.namespace}.{note.name}": note.line}
        try:
            self._patch(data)
        except NotKnownError:
            if note.line is None:
                return
            try:
                self._cluster.create(self._document(data))
            except ConflictError:  # another thread was quicker
                self._patch(data)

    def _patch(self, data: Document) -> None:
        self._cluster.patch(CONFIG_MAPS, LEDGER, self._namespace, {"data": data})

    def _document(self, data: Document) -> Document:
        return {
            "apiVersion": CONFIG_MAPS.api_version,
            "kind": CONFIG_MAPS.kind,
            "metadata": {
                "name": LEDGER,
                "namespace": self._namespace,
                "labels": {MANAGED_BY: "cachefs"},
            },
            "data": data,
        }
